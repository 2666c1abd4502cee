"""A one-sided paired t-test on the losses of two models on the same rows, robust to a few extreme rows.

The differences of the losses are winsorised: the smallest and the largest WINSORIZED_SHARE of them are replaced by the
next ones. One row that only one of the models misses by far would otherwise decide alone. More than that share stays
visible, since a model that fails badly on one row in ten should lose.

Source: W. J. Dixon and J. W. Tukey, Approximate behavior of the distribution of winsorized t, Technometrics 10 (1968).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from spinney.core.features.encoding import Floats, Integers

WINSORIZED_SHARE = 0.05
"""Share of the differences that is replaced at each end: none of fewer than 20, one of 20 to 39, and so on."""


@dataclass(frozen=True)
class PairedDifference:
    """The winsorised mean of loss − reference loss over some rows, and its standard error, in units of the loss."""

    mean: float
    standard_error: float
    rows: int

    def confidence_at_most(self, limit: float) -> float:
        """One-sided confidence, from 0 to 1, that the mean difference is at most `limit`."""
        if self.standard_error == 0:  # every difference is the same
            return 1.0 if self.mean <= limit else 0.0
        degrees = self.rows - 2 * _winsorized_count(self.rows) - 1
        return float(_student_t()(degrees, (limit - self.mean) / self.standard_error))


@cache
def _student_t() -> Callable[[float, float], float]:
    """The distribution function of Student's t: degrees of freedom, value.

    Its import takes a sixth of a second, and most processes that import this module compare nothing.
    """
    from scipy.special import stdtr

    found: Callable[[float, float], float] = stdtr
    return found


def winsorized_differences(differences: Floats, counts: Integers) -> tuple[Floats, Floats]:
    """Return the winsorised mean of each group's differences and its standard error, each of shape (groups,).

    differences: shape (n_rows,), those of the first group first. counts: shape (groups,), rows of each group. NaN for a
    group without rows; the standard error also for a group with one row.
    """
    begins = np.cumsum(counts) - counts
    means, errors = np.full(len(counts), np.nan), np.full(len(counts), np.nan)
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow gives this group no result
        for size in np.unique(counts[counts > 0]).tolist():
            alike = np.flatnonzero(counts == size)
            cut = _winsorized_count(size)
            values = np.sort(differences[begins[alike, None] + np.arange(size)], axis=1)
            values = np.clip(values, values[:, cut, None], values[:, size - 1 - cut, None])
            means[alike] = values.mean(axis=1)
            if size > 1:
                inflation = (size - 1) / (size - 2 * cut - 1)
                errors[alike] = values.std(axis=1, ddof=1) / math.sqrt(size) * inflation
    return means, errors


def _winsorized_count(rows: int) -> int:
    return int(rows * WINSORIZED_SHARE)
