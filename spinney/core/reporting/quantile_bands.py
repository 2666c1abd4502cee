"""Quantiles of a value over the groups of a fleet at several times: a chart draws these, not a line per group."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""The quantiles of a band, ascending."""


@dataclass(frozen=True)
class QuantileBands:
    """Quantiles over groups at several times.

    times: ascending. groups: how many groups had a value at each time. quantiles: for each time the values at
    QUANTILES; None at a time without any group.
    """

    times: tuple[datetime, ...]
    groups: tuple[int, ...]
    quantiles: tuple[tuple[float, ...] | None, ...]


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
