"""Linear regression that fits the fleet's loss, with a penalty that is estimated from each group's rows.

Features are standardised, and coefficients shrunk toward 0, as `ridge` does it. Two things differ:

- **The penalty.** It is the variance of the noise ÷ that of the coefficients, if both are normal, and a group's labels
  are more likely under one penalty than under another (restricted likelihood: D. A. Harville, Maximum likelihood
  approaches to variance component estimation and to related problems, J. Am. Statist. Ass. 72, 1977). The coefficients
  are the mean of those of all penalties, weighted by their likelihood (J. A. Hoeting et al., Bayesian model averaging:
  a tutorial, Statist. Sci. 14, 1999): a few rows say little about the penalty, and the likeliest one is often far too
  small.
- **With the absolute loss** coefficients are fitted to labels whose residuals are clipped, and the intercept is at the
  median of the residuals. Least squares predicts means: of skewed labels, such as delays, they are far from medians,
  which have the least absolute loss, and a few long ones decide the slopes. A fit, the clipping about it and the next
  fit are P. J. Huber's pseudo-observations (Robust statistics, 1981, section 7).

A value far outside the rows of its group counts as one at the limit (`column_limits`), so that a slope that was fitted
to a narrow range gives no absurd prediction.

`docs/decisions/0056-linear-regression-for-the-loss-of-the-fleet.md` has the loss of both and of the alternatives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from spinney.core.errors import ContractError
from spinney.core.features.encoding import Floats
from spinney.core.models.linear import Linear, Link
from spinney.core.training.fit_kernels import Kernel
from spinney.core.training.linear_kernel import LinearKernel, Solution
from spinney.core.training.pooling.absolute_errors import CLIPPED_FITS, clipped, weighted_medians
from spinney.core.training.pooling.normal_equations import Chunk, Standardised, column_limits

NAME = "linear"
TASKS = ("regression",)

PENALTIES = 10.0 ** np.arange(-3.0, 6.1, 0.5)
"""Penalties that are averaged: from almost no shrinkage to coefficients near 0."""

GROUPS_AT_ONCE = 256
"""Groups whose likelihoods are computed together: their arrays fit into the processor's cache."""


def kernel(task: str, params: Mapping[str, Any]) -> Kernel:
    """Return the kernel of `linear`. params: alpha, a number not below zero; without it each group has its own."""
    del task  # there is only one
    unknown = sorted(set(params) - {"alpha"})
    alpha = params.get("alpha", 1.0)
    if unknown or isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 <= alpha < np.inf:
        expected = "{ alpha = a number not below 0 }, or none to estimate it"
        raise ContractError(f"recipe.params of linear: expected {expected}; got {dict(params)}")
    return LinearKernel(LinearSolver(float(alpha) if "alpha" in params else None))


@dataclass(frozen=True)
class LinearSolver:
    """Linear regression for the fleet's loss. alpha: as of `ridge`; None: each group's own."""

    alpha: float | None

    def solve(self, part: Chunk, loss: str) -> Iterator[Solution | Exception]:
        """Fit each group of a chunk."""
        with np.errstate(all="ignore"):  # after an overflow the model is not finite, which the caller reports
            groups = _Groups.of(part)
            slopes, alphas = groups.fit(part.labels, self.alpha)
            location = groups.standard.means(part.labels)
            if loss == "absolute":
                for _ in range(CLIPPED_FITS):
                    explained = groups.explained(slopes)
                    residuals = clipped(part.labels - explained, part.weights, part.starts)
                    slopes, alphas = groups.fit(explained + residuals, self.alpha)
                location = weighted_medians(part.labels - groups.explained(slopes), part.weights, part.starts)
            coefficients = slopes / groups.standard.scale
            intercept = location
            for i in range(coefficients.shape[1]):
                intercept = intercept - coefficients[:, i] * groups.standard.center[:, i]
            limits = column_limits(part)
        models = zip(
            intercept[:, None], coefficients[:, None], groups.standard.fill, limits, alphas.tolist(), strict=True
        )
        for own_intercept, own_coefficients, fill, own_limits, alpha in models:
            yield Solution(Linear(Link.IDENTITY, own_intercept, own_coefficients, fill, limits=own_limits), alpha)


@dataclass(frozen=True)
class _Groups:
    """The groups of a chunk, with the eigenvalues, shape (n, p), and eigenvectors, (n, p, p), of their products."""

    standard: Standardised
    eigenvalues: Floats
    eigenvectors: Floats

    @classmethod
    def of(cls, part: Chunk) -> _Groups:
        standard = Standardised.of(part)
        products = standard.products()
        # A group whose columns overflow gets NaN; LAPACK would refuse the others with it.
        finite = np.isfinite(products.sum(axis=(1, 2)))
        eigenvalues, eigenvectors = _eigh(np.where(finite[:, None, None], products, 0.0))
        # What rounding leaves of columns that are constant or depend on each other.
        least = np.finfo(np.float64).eps * eigenvalues.shape[1] * eigenvalues.max(axis=1, initial=0.0)
        eigenvalues[eigenvalues <= least[:, None]] = 0.0
        eigenvalues[~finite] = np.nan
        return cls(standard, eigenvalues, eigenvectors)

    def fit(self, labels: Floats, alpha: float | None) -> tuple[Floats, Floats]:
        """Return the standardised coefficients of each group, shape (n, p), and its penalty, (n,)."""
        standard, weights = self.standard, self.standard.part.weights
        apart = labels - standard.means(labels)[standard.of_row]
        moments = standard.moments(apart)
        projected = (self.eigenvectors * moments[:, :, None]).sum(axis=1)
        if alpha is not None:
            shrunk = self.eigenvalues + alpha
            inverse = np.divide(1.0, shrunk, out=np.zeros_like(shrunk), where=shrunk != 0)
            alphas = np.full(len(moments), alpha)
        else:
            squares = standard.sums(apart * apart if weights is None else weights * apart * apart)
            inverse, alphas = average_penalty(self.eigenvalues, projected, squares, standard.total_weight)
        return (self.eigenvectors * (projected * inverse)[:, None, :]).sum(axis=2), alphas

    def explained(self, slopes: Floats) -> Floats:
        """Return what the columns explain of each row's label: 0 on average of a group."""
        explained = np.zeros(len(self.standard.of_row))
        for i, column in enumerate(self.standard.columns):
            explained += slopes[:, i][self.standard.of_row] * column
        return explained


def _eigh(products: Floats) -> tuple[Floats, Floats]:
    """Return eigenvalues and eigenvectors; NaN for a matrix for which LAPACK finds none, which leaves the others."""
    try:
        found = np.linalg.eigh(products)
        return found.eigenvalues, found.eigenvectors
    except np.linalg.LinAlgError:
        if len(products) == 1:
            return np.full(products.shape[:2], np.nan), np.full(products.shape, np.nan)
    values, vectors = zip(*(_eigh(each[None]) for each in products), strict=True)
    return np.concatenate(values), np.concatenate(vectors)


def average_penalty(eigenvalues: Floats, projected: Floats, squares: Floats, rows: Floats) -> tuple[Floats, Floats]:
    """Return 1 ÷ (eigenvalue + penalty), averaged over PENALTIES by their likelihood, shape (n, p), and the geometric
    mean of the penalties, (n,). Both are NaN if the group's numbers overflowed.

    eigenvalues, projected: of the products of the standardised columns, and of their moments with the labels, shape
    (n, p). squares: the labels' sum of squares about their mean, (n,). rows: how many rows the group's weights count
    as, (n,).
    """
    inverse, penalties = np.empty_like(eigenvalues), np.empty(len(squares))
    least = np.finfo(np.float64).eps * squares + np.finfo(np.float64).tiny  # what rounding leaves of a perfect fit
    degrees = np.maximum(rows - 1, 0.0)
    for begin in range(0, len(squares), GROUPS_AT_ONCE):
        block = slice(begin, begin + GROUPS_AT_ONCE)
        shrunk = eigenvalues[block, None, :] + PENALTIES[:, None]
        explained = (projected[block, None, :] ** 2 / shrunk).sum(axis=2)
        unexplained = np.maximum(squares[block, None] - explained, least[block, None])
        deviance = degrees[block, None] * np.log(unexplained) + np.log(shrunk / PENALTIES[:, None]).sum(axis=2)
        share = np.exp((deviance.min(axis=1, keepdims=True) - deviance) / 2)
        share /= share.sum(axis=1, keepdims=True)
        inverse[block] = (share[:, :, None] / shrunk).sum(axis=1)
        penalties[block] = np.exp((share * np.log(PENALTIES)).sum(axis=1))
    return inverse, penalties
