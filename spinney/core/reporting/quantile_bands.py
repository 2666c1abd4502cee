"""Quantiles of a value over the groups of a fleet at several times: a chart draws these, not a line per group."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""The quantiles of a band, ascending."""


STEPS_S = (1, 5, 15, 60, 300, 900, 3_600, 10_800, 21_600, 43_200, 86_400)
"""Steps between regular moments, in seconds. The last divides any longer step."""


@dataclass(frozen=True)
class QuantileBands:
    """Quantiles over groups at several times.

    times: ascending. groups: how many groups had a value at each time. quantiles: for each time the values at
    QUANTILES; None at a time without any group.
    """

    times: tuple[datetime, ...]
    groups: tuple[int, ...]
    quantiles: tuple[tuple[float, ...] | None, ...]

    def followed_by(self, others: QuantileBands) -> QuantileBands:
        """Return these bands followed by others. If both have the same time, `at` finds the one of the others."""
        return QuantileBands(self.times + others.times, self.groups + others.groups, self.quantiles + others.quantiles)

    def at(self, times: tuple[datetime, ...]) -> QuantileBands:
        """Return the bands at these times only. Raises KeyError: one of them is not known."""
        place = {time: index for index, time in enumerate(self.times)}
        chosen = [place[time] for time in times]
        groups, quantiles = (tuple(self.groups[at] for at in chosen), tuple(self.quantiles[at] for at in chosen))
        return QuantileBands(times, groups, quantiles)


NO_BANDS = QuantileBands((), (), ())
"""Bands without a time."""


def quantiles_by_bucket(
    bucket: npt.NDArray[np.int64], values: npt.NDArray[np.float64], n_buckets: int
) -> npt.NDArray[np.float64]:
    """Return the quantiles of the values of each bucket, shape (n_buckets, len(QUANTILES)); NaN for an empty bucket.

    bucket: which bucket each value belongs to, from 0 to n_buckets - 1, shape (n,). values: finite, shape (n,). Between
    two values the quantile is interpolated linearly, as `numpy.quantile` does by default.
    """
    ordered = values[np.lexsort((values, bucket))]
    count = np.bincount(bucket, minlength=n_buckets)
    found = np.full((n_buckets, len(QUANTILES)), np.nan)
    filled = np.flatnonzero(count)
    first = (np.cumsum(count) - count)[filled, None]
    place = (count[filled, None] - 1) * np.array(QUANTILES)[None, :]
    below = np.floor(place).astype(np.int64)
    above = np.ceil(place).astype(np.int64)
    low, high = ordered[first + below], ordered[first + above]
    found[filled] = low + (high - low) * (place - below)
    return found


def make_bands(
    times: tuple[datetime, ...], bucket: npt.NDArray[np.int64], values: npt.NDArray[np.float64]
) -> QuantileBands:
    """Return the bands of values that belong to times. bucket: the position in `times` of each value, shape (n,).

    Values that are not finite are left out.
    """
    known = np.isfinite(values)
    bucket, values = bucket[known], values[known]
    quantiles = quantiles_by_bucket(bucket, values, len(times))
    count = np.bincount(bucket, minlength=len(times)).tolist()
    rows = [tuple(row) if n else None for row, n in zip(quantiles.tolist(), count, strict=True)]
    return QuantileBands(times, tuple(count), tuple(rows))


def round_step(first: datetime, last: datetime, count: int) -> timedelta:
    """Return the least round step with at most `count` steps from first to last: one of STEPS_S, or whole days."""
    wanted = max((last - first).total_seconds() / count, 0.0)
    day = STEPS_S[-1]
    return timedelta(seconds=next((step for step in STEPS_S if step >= wanted), -(-math.ceil(wanted) // day) * day))


def regular_moments(first: datetime, last: datetime, step: timedelta) -> tuple[datetime, ...]:
    """Return moments from `first` to `last`: whole multiples of the step since 1970, and `last` itself.

    So two readings at different times have the same moments, except for the last one. step: whole seconds.
    """
    seconds = step // timedelta(seconds=1)
    begin, end = math.ceil(first.timestamp() / seconds), math.ceil(last.timestamp() / seconds)
    return (*(datetime.fromtimestamp(place * seconds, UTC) for place in range(begin, end)), last)
