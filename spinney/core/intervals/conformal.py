"""Half-widths of prediction intervals by split conformal prediction, normalised by group and calibrated on a pool.

Vovk, Gammerman, Shafer 2005, "Algorithmic Learning in a Random World", and Lei et al. 2018, "Distribution-Free
Predictive Inference for Regression": of n + 1 exchangeable residuals, the last is at most the ceil((n + 1)·coverage)-th
smallest of the others with at least that probability. A group alone has too few held-out residuals for that, and all
groups together differ in scale. Hence a residual is divided by the scale of its group (normalised conformal prediction:
Papadopoulos, Gammerman, Vovk 2008), and the quotients of all groups of a pool form one calibration set.

- The scale of a group is its mean absolute residual, shrunk toward the pool's in logarithms. How far is estimated from
  the pool: by how much of the groups' differences in their older residuals is found again in their newer ones.
- Each residual is divided by a scale made without it, as that of a future row will be. Its neighbours in time are left
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
"""Of groups by their number n of residuals: none, 1, 2-3, 4-7, 8-15, 16-31, 32-63, more."""

BLENDED_QUOTIENTS = 100.0
"""Quotients of a category that count as much as the whole pool."""

MIN_SCALE = 1e-3
"""Of the pool's mean residual. A group whose few residuals are all zero has no scale of zero."""

LEAST_WITH_NEIGHBOURS = 4
"""Least number of residuals of a group whose neighbours are left out."""

HALF_ROWS = 4
"""Least number of residuals in each half of a group for the estimate of how far to shrink."""

PRIOR_ROWS, PRIOR_GROUPS = 16.0, 20.0
"""What the shrinkage is before any group was seen, and as how many groups that counts."""

LEAST_ROWS, MOST_ROWS = 4.0, 64.0
"""Bounds of the estimated shrinkage."""


@dataclass(frozen=True)
class Calibration:
    """What the half-widths of a pool's groups follow from.

    coverage: nominal, in (0, 1). log_scale: logarithm of the pool's typical absolute residual. least_scale: lower
    bound of a group's mean. prior_rows: the typical scale counts as much as so many of a group's own residuals.
    quantiles: of the normalised residuals, by category; infinite where the pool is too small for the coverage.
    """

    coverage: float
    log_scale: float
    least_scale: float
    prior_rows: float
    quantiles: tuple[float, ...]

    def half_widths(self, residuals: Floats) -> Floats:
        """Shape (n_groups,): half the width of each group's interval; NaN where it is unbounded.

        residuals: absolute, shape (n_groups, n_residuals), NaN after the last of each group. Where the pool is too
        small, the group's own residuals alone decide if they suffice.
        """
        counts = _counts(residuals)
        quantiles = np.array(self.quantiles)[_categories(counts)]
        is_bounded = np.isfinite(quantiles)
        scales = np.exp(self._log_scales(np.nansum(residuals, axis=1), counts))
        widths = scales * np.where(is_bounded, quantiles, 0.0)
        return np.where(is_bounded, widths, _own_quantiles(residuals, counts, self.coverage))

    def normalised(self, residuals: Floats) -> Floats:
        """Each residual over the scale of its group, made without it and the residuals before and after it."""
        all_counts, known = _counts(residuals)[:, None], np.nan_to_num(residuals)
        counts = all_counts - _left_out(np.isfinite(residuals).astype(np.float64), all_counts)
        sums = known.sum(axis=1)[:, None] - _left_out(known, all_counts)
        quotients: Floats = residuals / np.exp(self._log_scales(np.maximum(sums, 0.0), np.maximum(counts, 0.0)))
        return quotients

    def _log_scales(self, sums: Floats, counts: Floats) -> Floats:
        """Logarithms of shrunk scales. sums, counts: of the residuals that each scale is made of."""
        return _shrunk(_log_means(sums, counts, self.least_scale), counts, self.log_scale, self.prior_rows)


def calibrate(residuals: Floats, coverage: float) -> Calibration:
    """Calibrate intervals on the residuals of a pool of groups.

    residuals: absolute, of rows that the models had not seen; shape (n_groups, n_residuals), oldest first, NaN after
    the last of each group. coverage: in (0, 1). A pool whose residuals are all zero calibrates nothing.
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
    """The quantile of each category. by_pool: residuals over the typical scale, for groups without residuals."""
    pooled = np.sort(normalised[np.isfinite(normalised)])
    rank = _rank(len(pooled), coverage)
    if rank > len(pooled):
        return (math.inf,) * CATEGORIES
    whole = float(pooled[rank - 1])
    category = _categories(_counts(normalised))
    found = [float(np.sort(by_pool[np.isfinite(by_pool)])[rank - 1])]
    for number in range(1, CATEGORIES):
        some = normalised[category == number]
        some = np.sort(some[np.isfinite(some)])
        share = len(some) / (len(some) + BLENDED_QUOTIENTS)
        # The greatest one stands for a quantile beyond it, so that a greater coverage never gives a narrower interval.
        own = float(some[min(_rank(len(some), coverage), len(some)) - 1]) if len(some) else whole
        found.append(share * own + (1.0 - share) * whole)
    return tuple(found)


def _prior_rows(residuals: Floats, least_scale: float) -> float:
    """How many residuals of its own the pool's typical scale counts for in a group: empirical Bayes (Morris 1983).

    Noise is what the halves of a group differ by, signal the covariance of older and newer halves over the groups.
    Unlike the variance within a half, the difference of halves also holds what consecutive residuals have in common.
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
    """Shape (n_groups,): the split conformal quantile of each group's own residuals; NaN where they are too few."""
    ranks = np.ceil((counts + 1) * coverage - 1e-9).astype(np.int64)
    is_enough = ranks <= counts
    ordered = np.sort(residuals, axis=1)  # NaN last
    at = np.clip(ranks - 1, 0, residuals.shape[1] - 1)
    own: Floats = np.take_along_axis(ordered, at[:, None], axis=1)[:, 0]
    return np.where(is_enough, own, np.nan)


def _rank(n: int, coverage: float) -> int:
    """Which of n sorted residuals a further one stays below with probability `coverage`; n + 1 if none of them."""
    return math.ceil((n + 1) * coverage - 1e-9)


def _counts(values: Floats) -> Floats:
    counts: Floats = np.isfinite(values).sum(axis=1).astype(np.float64)
    return counts


def _categories(counts: Floats) -> npt.NDArray[np.int64]:
    """0 for no residual, else one more than the binary logarithm of their number."""
    found: npt.NDArray[np.int64] = np.minimum(np.frexp(counts)[1], CATEGORIES - 1).astype(np.int64)
    return found


def _log_means(sums: Floats, counts: Floats, least: float) -> Floats:
    means: Floats = np.log(np.maximum(sums / np.maximum(counts, 1.0), max(least, np.finfo(np.float64).tiny)))
    return means


def _shrunk(own: Floats, counts: Floats, typical: float, prior_rows: float) -> Floats:
    """Weighted means of each group's own value and the typical one."""
    weights = counts / (counts + prior_rows)
    # A typical value of minus infinity, of a pool without residuals, would turn a weight of zero into NaN.
    return np.where(weights > 0, own, 0.0) * weights + (typical if math.isfinite(typical) else 0.0) * (1.0 - weights)


def _left_out(values: Floats, counts: Floats) -> Floats:
    """What is left out with each value: it and, where the row has enough of them, the ones before and after it."""
    beside = np.where(counts >= LEAST_WITH_NEIGHBOURS, values, 0.0)
    out = values.copy()
    out[:, 1:] += beside[:, :-1]
    out[:, :-1] += beside[:, 1:]
    return out
