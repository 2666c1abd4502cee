"""Effects that the rows of one group share on one day, and how much less such rows count.

The flights of an aircraft on one day meet the same weather, so ten of them say less about the aircraft than ten flights
on ten days. A residual is taken as the sum of a group's lasting deviation, an effect of the group on that day, and
noise, which are independent. If the variance of the effects is k times that of the noise, n rows of one day count as
n ÷ (1 + n k) rows.

The variances are estimated from products of pairs of residuals (G. G. Koch, A general approach to the estimation of
variance components, Technometrics 9, 1967): two rows of one group share its deviation, and on the same day the effect
too. So neither estimate depends on the variance of the noise, which differs between groups.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from spinney.core.features.encoding import Floats, Integers
from spinney.core.training.pooling.normal_equations import Chunk


@dataclass(frozen=True)
class Covariances:
    """lasting: of two rows of a group on different days, so the variance of the groups' deviations. of_day: what the
    same day adds to it, so the variance of the effects of days. on_other_days: share of pairs that are of different
    days, and so of the effects' variance that is part of the variance of rows around their group's mean.
    """

    lasting: float
    of_day: float
    on_other_days: float


def covariances(residuals: Floats, starts: Integers, days: Integers) -> Covariances | None:
    """Return the covariances of pairs of rows of one group; None if no group has rows on two days.

    Products of rows of different groups on different days are subtracted, as these share nothing. A pair counts 1 ÷ the
    number of the group's rows, as it does in a variance.

    residuals: shape (n_rows,), group by group. starts: shape (n_groups + 1,). days: shape (n_rows,), ascending within
    each group.
    """
    sizes = np.diff(starts).astype(np.float64)
    residuals = residuals - residuals.mean()
    blocks = _day_starts(starts, days)
    group = np.searchsorted(starts, blocks, side="right") - 1
    sums, rows = np.add.reduceat(residuals, blocks), np.diff(blocks, append=len(days)).astype(np.float64)
    of_group = np.add.reduceat(sums, np.searchsorted(blocks, starts[:-1]))
    _, day = np.unique(days[blocks], return_inverse=True)
    of_day, rows_of_day = np.bincount(day, sums), np.bincount(day, rows)

    other_pairs = float(sizes.sum() - (rows**2 / sizes[group]).sum())
    if not other_pairs > 0:
        return None
    other = float((of_group**2 / sizes).sum() - (sums**2 / sizes[group]).sum()) / other_pairs
    same_pairs = float(((rows**2 - rows) / sizes[group]).sum())
    squares = np.add.reduceat(residuals**2, blocks)
    same = float(((sums**2 - squares) / sizes[group]).sum()) / same_pairs if same_pairs > 0 else other
    unrelated_pairs = float(sizes.sum() ** 2 - (sizes**2).sum() - (rows_of_day**2).sum() + (rows**2).sum())
    unrelated = float(sums.sum() ** 2 - (of_group**2).sum() - (of_day**2).sum() + (sums**2).sum())
    lasting = other - (unrelated / unrelated_pairs if unrelated_pairs > 0 else 0.0)
    return Covariances(lasting, same - other, other_pairs / (other_pairs + same_pairs))


def weigh_days(part: Chunk, ratios: Floats) -> Chunk:
    """Return the chunk with each row's weight divided by 1 + k times the weight of all rows of its group and day.

    ratios: k of each group, shape (n_groups,).
    """
    if part.days is None:
        return part
    own = np.ones(len(part.labels)) if part.weights is None else part.weights
    blocks, sizes = _day_starts(part.starts, part.days), np.diff(part.starts)
    of_day = np.repeat(np.add.reduceat(own, blocks), np.diff(blocks, append=len(own)))
    return replace(part, weights=own / (1.0 + np.repeat(ratios, sizes) * of_day))


def _day_starts(starts: Integers, days: Integers) -> Integers:
    """Return where the rows of each group's days begin."""
    is_first = np.ones(len(days), dtype=np.bool_)
    is_first[1:] = days[1:] != days[:-1]
    is_first[starts[:-1]] = True
    return np.flatnonzero(is_first)
