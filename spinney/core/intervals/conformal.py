"""Half-widths of prediction intervals by split conformal prediction, normalised by group and calibrated on a pool.

Vovk, Gammerman, Shafer 2005, "Algorithmic Learning in a Random World", and Lei et al. 2018, "Distribution-Free
Predictive Inference for Regression": of n + 1 exchangeable residuals, the last is at most the ceil((n + 1)·coverage)-th
smallest of the others with at least the probability `coverage`. A group alone has too few held-out residuals for that,
and all groups together differ in scale. So a residual is divided by the scale of its group (normalised conformal
prediction: Papadopoulos, Gammerman, Vovk 2008), and the quotients of all groups of a pool form one calibration set.

- The scale of a group is its mean absolute residual, shrunk toward the pool's in logarithms. How far is estimated from
  the pool: it is the share of the differences between groups in older residuals that persists in newer ones.
- A residual is divided by a scale computed without it, since a future row's residual is no part of its scale either.
  Its neighbours in time are left
  out too, since residuals of consecutive rows resemble each other (Burman, Chow, Nolan 1994, "A Cross-Validatory Method
  for Dependent Data"), except in groups of so few residuals that hardly any would be left.
- Groups with few residuals have less certain scales, so their quotients spread more. They are calibrated by category
  of size (Mondrian conformal prediction: Vovk et al. 2005, section 4.5), blended with the whole pool where a category
  has few quotients.

Coverage holds on average over rows that are exchangeable with the held-out ones. After a change of the target it does
not, until the groups are refitted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CATEGORIES = 8
"""Categories of groups by their number of residuals: none, 1, 2-3, 4-7, 8-15, 16-31, 32-63, more."""

BLENDED_QUOTIENTS = 100.0
"""Number of quotients at which a category and the whole pool have equal weight."""

MIN_SCALE = 1e-3
"""Minimum scale of a group, as a share of the pool's mean residual. Without it the scale is 0 if a group's few
residuals are all zero.
"""

LEAST_WITH_NEIGHBOURS = 4
"""Smallest number of a group's residuals from which the neighbours of each are left out."""

HALF_ROWS = 4
"""Smallest number of residuals in each half of a group for it to count in the estimate of the shrinkage."""

PRIOR_ROWS, PRIOR_GROUPS = 16.0, 20.0
"""Prior value of the shrinkage, and the number of groups that it counts as."""

LEAST_ROWS, MOST_ROWS = 4.0, 64.0
"""Bounds of the estimated shrinkage."""


@dataclass(frozen=True)
class Calibration:
    """The calibration of a pool, from which the half-widths of its groups are computed.

    coverage: nominal, in (0, 1). log_scale: logarithm of the pool's typical absolute residual. least_scale: lower bound
    of a group's mean absolute residual. prior_rows: number of residuals at which a group's own scale and the typical
    one have equal weight. quantiles: of the normalised residuals, by category; infinite if the pool is too small for
    the coverage.
    """

    coverage: float
    log_scale: float
    least_scale: float
    prior_rows: float
    quantiles: tuple[float, ...]

    def half_widths(self, residuals: Floats) -> Floats:
        """Return the half-width of each group's interval, shape (n_groups,); NaN if it is unbounded.

        residuals: absolute, shape (n_groups, n_residuals), padded with NaN. If the pool is too small, a group's own
        residuals are used if there are enough.
        """
        counts = _counts(residuals)
        quantiles = np.array(self.quantiles)[_categories(counts)]
        is_bounded = np.isfinite(quantiles)
        scales = np.exp(self._log_scales(np.nansum(residuals, axis=1), counts))
        widths = scales * np.where(is_bounded, quantiles, 0.0)
        return np.where(is_bounded, widths, _own_quantiles(residuals, counts, self.coverage))

    def normalised(self, residuals: Floats) -> Floats:
        """Return each residual divided by its group's scale, computed without it and its neighbours in time."""
        all_counts, known = _counts(residuals)[:, None], np.nan_to_num(residuals)
        counts = all_counts - _left_out(np.isfinite(residuals).astype(np.float64), all_counts)
        sums = known.sum(axis=1)[:, None] - _left_out(known, all_counts)
        quotients: Floats = residuals / np.exp(self._log_scales(np.maximum(sums, 0.0), np.maximum(counts, 0.0)))
        return quotients

    def _log_scales(self, sums: Floats, counts: Floats) -> Floats:
        """Return the logarithms of shrunk scales. sums, counts: of the residuals of each scale."""
        return _shrunk(_log_means(sums, counts, self.least_scale), counts, self.log_scale, self.prior_rows)


def calibrate(residuals: Floats, coverage: float) -> Calibration:
    """Calibrate intervals on the residuals of a pool of groups.

    residuals: absolute, of rows that the models had not seen; shape (n_groups, n_residuals), oldest first, padded with
    NaN. coverage: in (0, 1). Quantiles are infinite if all residuals of the pool are zero.
    """
    counts, sums = _counts(residuals), np.nansum(residuals, axis=1)
    rows, total = float(counts.sum()), float(sums.sum())
    if not total > 0.0:
        return Calibration(coverage, -math.inf, 0.0, PRIOR_ROWS, (math.inf,) * CATEGORIES)
    least_scale = MIN_SCALE * total / rows
    prior_rows = _prior_rows(residuals, least_scale)
    own, has_some = _log_means(sums, counts, least_scale), counts > 0
    log_scale = float(np.average(own[has_some], weights=(counts / (counts + prior_rows))[has_some]))
    unfinished = Calibration(coverage, log_scale, least_scale, prior_rows, ())
    quantiles = _quantiles(unfinished.normalised(residuals), residuals / math.exp(log_scale), coverage)
    return Calibration(coverage, log_scale, least_scale, prior_rows, quantiles)


def _quantiles(normalised: Floats, by_pool: Floats, coverage: float) -> tuple[float, ...]:
    """Return the quantile at `coverage` of each category of group size.

    normalised: residuals divided by their group's scale. by_pool: divided by the pool's typical scale; their quantile
    is for groups without residuals.
    """
    pooled = normalised[np.isfinite(normalised)]
    rank = _rank(len(pooled), coverage)
    if rank > len(pooled):
        return (math.inf,) * CATEGORIES
    whole = order_statistic(pooled, rank)
    category = _categories(_counts(normalised))
    found = [order_statistic(by_pool[np.isfinite(by_pool)], rank)]
    for number in range(1, CATEGORIES):
        some = normalised[category == number]
        some = some[np.isfinite(some)]
        share = len(some) / (len(some) + BLENDED_QUOTIENTS)
        # Beyond the last quotient the greatest one is used, so that a greater coverage never gives a narrower interval.
        own = order_statistic(some, min(_rank(len(some), coverage), len(some))) if len(some) else whole
        found.append(share * own + (1.0 - share) * whole)
    return tuple(found)


def _prior_rows(residuals: Floats, least_scale: float) -> float:
    """Return the weight of the pool's typical scale, in residuals of a group, by empirical Bayes (Morris 1983).

    The noise is the difference between the halves of a group, the signal is the covariance of older and newer halves
    over all groups. Unlike the variance within a half, the difference of halves also holds what consecutive residuals
    have in common.
    """
    counts = _counts(residuals)
    residuals = residuals[counts >= 2 * HALF_ROWS]
    counts = counts[counts >= 2 * HALF_ROWS]
    if len(counts) < 3:
        return PRIOR_ROWS
    older, known = np.floor(counts / 2), np.nan_to_num(residuals)
    is_older = np.arange(residuals.shape[1]) < older[:, None]
    first = _log_means(np.where(is_older, known, 0.0).sum(axis=1), older, least_scale)
    second = _log_means(np.where(is_older, 0.0, known).sum(axis=1), counts - older, least_scale)
    first, second = first - np.average(first, weights=older), second - np.average(second, weights=older)
    noise = float(np.average((first - second) ** 2 * older / 2, weights=older))
    signal = max(0.0, float(np.average(first * second, weights=older)))
    signal = (len(counts) * signal + PRIOR_GROUPS * noise / PRIOR_ROWS) / (len(counts) + PRIOR_GROUPS)
    return min(max(noise / signal, LEAST_ROWS), MOST_ROWS) if signal > 0.0 else PRIOR_ROWS


def _own_quantiles(residuals: Floats, counts: Floats, coverage: float) -> Floats:
    """Return the split conformal quantile of each group's own residuals, shape (n_groups,); NaN if they are too few.

    residuals: shape (n_groups, n_residuals), padded with NaN. counts: their number in each group.
    """
    ranks = np.ceil((counts + 1) * coverage - 1e-9).astype(np.int64)
    is_enough = ranks <= counts
    ordered = np.sort(residuals, axis=1)  # NaN last
    at = np.clip(ranks - 1, 0, residuals.shape[1] - 1)
    own: Floats = np.take_along_axis(ordered, at[:, None], axis=1)[:, 0]
    return np.where(is_enough, own, np.nan)


def _rank(n: int, coverage: float) -> int:
    """Return which of n sorted residuals bounds a further one with probability `coverage`; n + 1: none does."""
    return math.ceil((n + 1) * coverage - 1e-9)


def order_statistic(values: Floats, rank: int) -> float:
    """Return the rank-th smallest of these finite values, counted from 1, without sorting them."""
    return float(np.partition(values, rank - 1)[rank - 1])


def _counts(values: Floats) -> Floats:
    counts: Floats = np.isfinite(values).sum(axis=1).astype(np.float64)
    return counts


def _categories(counts: Floats) -> npt.NDArray[np.int64]:
    """Return each group's category: 0 without residuals, else 1 + the binary logarithm of their number."""
    found: npt.NDArray[np.int64] = np.minimum(np.frexp(counts)[1], CATEGORIES - 1).astype(np.int64)
    return found


def _log_means(sums: Floats, counts: Floats, least: float) -> Floats:
    means: Floats = np.log(np.maximum(sums / np.maximum(counts, 1.0), max(least, np.finfo(np.float64).tiny)))
    return means


def _shrunk(own: Floats, counts: Floats, typical: float, prior_rows: float) -> Floats:
    """Return weighted means of each group's own value and the typical one."""
    weights = counts / (counts + prior_rows)
    # The typical value of a pool without residuals is minus infinity, and times a weight of zero it would be NaN.
    return np.where(weights > 0, own, 0.0) * weights + (typical if math.isfinite(typical) else 0.0) * (1.0 - weights)


def _left_out(values: Floats, counts: Floats) -> Floats:
    """Return the sums of what is left out with each value: itself and, in rows with enough values, its neighbours."""
    beside = np.where(counts >= LEAST_WITH_NEIGHBOURS, values, 0.0)
    out = values.copy()
    out[:, 1:] += beside[:, :-1]
    out[:, :-1] += beside[:, 1:]
    return out
