"""A one-sided test of paired differences that needs no more than their symmetry, at levels far below 1 %.

If two models are equally good, each row's difference of their losses is as likely to be positive as negative. Given the
sizes of the differences, their signs are then coin tosses, and the self-normalised sum Σd ÷ √Σd² exceeds x with a
probability of at most c (1 - Φ(x)), whatever the distribution of the losses. A t-test has no such guarantee: with a
dozen differences of equal size it rejects ten times as often as its level says.

The sizes are cut at their own 95 % quantile first. Since that depends on the sizes alone, the signs stay coin tosses.
Differences of successive rows may be alike where errors are. The standard error is raised by √((1 + r) ÷ (1 - r)) for
their lag-one autocorrelation r, as for the mean of a first-order autoregression. r is at least 0, so this only lowers
the sum, and the bound holds for independent rows as before.

Sources: B. Efron, Student's t-test under symmetry conditions, J. Amer. Statist. Assoc. 64 (1969), for the reduction to
signs; V. K. Bentkus and D. Dzindzalieta, A tight Gaussian bound for weighted sums of Rademacher random variables,
Bernoulli 21 (2015), for the bound and its constant; F. H. C. Marriott and J. A. Pope, Bias in the estimation of
autocorrelations, Biometrika 41 (1954), for the correction of r by (1 + 3 r) ÷ n.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from spinney.core.features.encoding import Floats, Integers

CUT_SHARE = 0.05
"""Share of the differences whose sizes are cut: none of fewer than 20, one of 20 to 39, and so on."""

_MAX_AUTOCORRELATION = 0.9

_CONSTANT = 1 / (4 * 0.5 * math.erfc(1.0))
"""Factor of the bound by Bentkus and Dzindzalieta: c = 1 ÷ (4 P(Z ≥ √2)), about 3.18."""


@dataclass(frozen=True)
class SymmetricDifference:
    """The mean of loss - reference loss over some rows, and its standard error, after large differences were cut.

    Both are results of `cut_differences`, in units of the loss. rows: at least two.
    """

    mean: float
    standard_error: float
    rows: int

    @property
    def chance_if_equal(self) -> float:
        """The largest probability, from 0 to 1, of a sum as great as this one if both models are equally good."""
        if self.mean <= 0:
            return 1.0
        # Σd ÷ √Σd² by way of a ratio: the squares of very small and very great losses would be zero or infinite.
        ratio = self.standard_error / self.mean
        statistic = math.sqrt(self.rows / (1 + (self.rows - 1) * (ratio * ratio)))
        return min(1.0, _CONSTANT * 0.5 * math.erfc(statistic / math.sqrt(2)))


def cut_differences(differences: Floats, counts: Integers) -> tuple[Floats, Floats]:
    """Return the mean of each group's differences after the largest were cut, and its standard error, shape (groups,).

    CUT_SHARE of the differences are cut to the size of the next one. The standard error is raised by the correlation of
    successive differences.

    differences: shape (n_rows,), those of the first group first, each group's in the order of time. counts: shape
    (groups,), rows of each group. NaN for a group without rows; the standard error also for a group with one row.
    """
    begins = np.cumsum(counts) - counts
    means, errors = np.full(len(counts), np.nan), np.full(len(counts), np.nan)
    with np.errstate(over="ignore", invalid="ignore"):  # an infinite difference gives this group no result
        for size in np.unique(counts[counts > 0]).tolist():
            alike = np.flatnonzero(counts == size)
            values = differences[begins[alike, None] + np.arange(size)]
            limit = np.sort(np.abs(values), axis=1)[:, size - 1 - int(size * CUT_SHARE), None]
            exponents = np.frexp(limit)[1]  # a power of two changes no digit, and no square overflows or vanishes
            values = np.ldexp(np.clip(values, -limit, limit), -exponents)
            means[alike] = np.ldexp(values.mean(axis=1), exponents[:, 0])
            if size > 1:
                r = _autocorrelations(values)
                scaled = values.std(axis=1, ddof=1) / math.sqrt(size) * np.sqrt((1 + r) / (1 - r))
                errors[alike] = np.ldexp(scaled, exponents[:, 0])
    return means, errors


def _autocorrelations(values: Floats) -> Floats:
    """The lag-one autocorrelation of each row of values, corrected for its bias, from 0 to _MAX_AUTOCORRELATION."""
    centred = values - values.mean(axis=1, keepdims=True)
    squares = np.square(centred).sum(axis=1)
    products = (centred[:, 1:] * centred[:, :-1]).sum(axis=1)
    r = np.divide(products, squares, out=np.zeros(len(values)), where=squares > 0)
    corrected: Floats = np.clip(r + (1 + 3 * r) / values.shape[1], 0.0, _MAX_AUTOCORRELATION)
    return corrected
