"""Medians, clipped residuals and least absolute deviations, for fleets with the absolute loss.

Least squares estimates means. Where errors are skewed or have long tails, as delays have, a slope of means is much
steeper than one of medians, and a few rows decide it. So for the absolute loss the last parent is fitted by least
absolute deviations, and the residuals from which slopes of groups are estimated are clipped.
"""

from __future__ import annotations

import numpy as np

from spinney.core.features.encoding import Floats, Integers
from spinney.core.training.comparisons.baseline import group_medians, groups_of_one_size
from spinney.core.training.pooling.normal_equations import solve_all

CLIP = 3.0
"""Residuals farther from their group's median than this many median absolute deviations are clipped. Of normal errors
that is two standard deviations. The method: P. J. Huber, Robust statistics, 1981, section 7.
"""

CLIPPED_FITS = 4
"""Fits to clipped residuals after the first fit. Each lets a row that is far off count a tenth of what it did before:
after four, one that is 100,000 deviations off hardly counts.
"""

SMOOTHED = 1e-3
"""Residuals below this share of the typical one count as that large, so that no row gets an infinite weight."""

MOST_STEPS, IMPROVEMENT = 50, 1e-6


def weighted_medians(values: Floats, weights: Floats | None, starts: Integers) -> Floats:
    """Return the weighted median of each group's values, shape (n,): half of the weight is on either side.

    starts: shape (n + 1,): group g has values starts[g] to starts[g + 1].
    """
    sizes = np.diff(starts)
    if weights is None:
        return group_medians(values, sizes)
    medians = np.empty(len(sizes))
    for alike in groups_of_one_size(sizes):
        size = int(sizes[alike[0]])
        rows = starts[alike, None] + np.arange(size)
        order = np.argsort(values[rows], axis=1, kind="stable")
        below = np.cumsum(np.take_along_axis(weights[rows], order, axis=1), axis=1)
        half = below[:, -1:] / 2
        places = np.stack([(below < half).sum(axis=1), (below <= half).sum(axis=1)], axis=1)
        middle = np.take_along_axis(order, np.minimum(places, size - 1), axis=1)
        medians[alike] = np.take_along_axis(values[rows], middle, axis=1).mean(axis=1)
    return medians


def shrunk_medians(values: Floats, weights: Floats | None, starts: Integers, shifts: Floats) -> Floats:
    """Return the c of each group with the least sum of w·|values − c| ÷ b plus c² ÷ (2 τ²), shape (n,).

    That is the most probable location if rows deviate from it by Laplace's distribution with the scale b, and locations
    from 0 normally with the variance τ². A row of weight 1 shifts it by at most τ² ÷ b, however far off the row is; of
    many rows it is the median. By the median formula of Y. Li and S. Osher, A new median formula with applications to
    PDE based denoising, Commun. Math. Sci. 7, 2009.

    weights, starts: as in `weighted_medians`. shifts: τ² ÷ b of each group, shape (n,), in units of the values.
    """
    sizes, located = np.diff(starts), np.empty(len(starts) - 1)
    for alike in groups_of_one_size(sizes):
        rows = starts[alike, None] + np.arange(int(sizes[alike[0]]))
        order = np.argsort(values[rows], axis=1, kind="stable")
        of_row = np.ones(rows.shape) if weights is None else np.take_along_axis(weights[rows], order, axis=1)
        below = np.pad(np.cumsum(of_row, axis=1), ((0, 0), (1, 0)))
        pulled = shifts[alike, None] * (below[:, -1:] - 2 * below)  # the optimum if it had these rows below it
        ordered = np.take_along_axis(values[rows], order, axis=1)
        located[alike] = np.minimum(pulled, np.pad(ordered, ((0, 0), (0, 1)), constant_values=np.inf)).max(axis=1)
    return located


def clipped(values: Floats, weights: Floats | None, starts: Integers) -> Floats:
    """Return each group's values, no farther from their median than CLIP median absolute deviations.

    If more than half of a group's values are equal the median deviation is 0, and their mean deviation takes its place.
    starts: as in `weighted_medians`.
    """
    sizes = np.diff(starts)
    medians = np.repeat(weighted_medians(values, weights, starts), sizes)
    apart = np.abs(values - medians)
    bound = weighted_medians(apart, weights, starts)
    if not bound.all():
        total = sizes if weights is None else np.add.reduceat(weights, starts[:-1])
        means = np.add.reduceat(apart if weights is None else weights * apart, starts[:-1]) / total
        bound = np.where(bound > 0, bound, means)
    bound = CLIP * np.repeat(bound, sizes)
    return medians + np.clip(values - medians, -bound, bound)


def least_absolute(
    matrix: Floats, labels: Floats, weights: Floats | None, alpha: float, residuals: Floats
) -> tuple[float, Floats] | None:
    """Return the intercept and coefficients with the least sum of absolute residuals; None if they are not finite.

    By iteratively reweighted least squares (E. J. Schlossmacher, An iterative technique for absolute deviations curve
    fitting, J. Am. Statist. Ass. 68, 1973; as an MM algorithm: D. R. Hunter and K. Lange, Quantile regression via an MM
    algorithm, J. Comput. Graph. Statist. 9, 2000).

    matrix: shape (width, n_rows), without missing values. alpha: penalty on the standardised coefficients; a row whose
    residual is of typical size has a weight of 1 against it, as in `ridge`. residuals: those to begin with.
    """
    typical = float(np.average(np.abs(residuals), weights=weights))
    center, spread = matrix.mean(axis=1), matrix.std(axis=1)
    spread = np.where(spread > 0, spread, 1.0)
    design = np.vstack([np.ones(len(labels)), (matrix - center[:, None]) / spread[:, None]])
    penalty = np.diag([0.0, *[alpha] * len(matrix)])
    found, least = None, np.inf
    for _ in range(MOST_STEPS):
        of_row = typical / np.maximum(np.abs(residuals), SMOOTHED * typical)
        weighted = design * (of_row if weights is None else of_row * weights)
        solved, errors = solve_all((weighted @ design.T + penalty)[None], (weighted @ labels)[None])
        if errors or not np.isfinite(solved).all():
            return None
        residuals = labels - solved[0] @ design
        coefficients = solved[0, 1:] / spread
        found = float(solved[0, 0] - coefficients @ center), coefficients
        loss = float(np.average(np.abs(residuals), weights=weights))
        if not loss < least * (1 - IMPROVEMENT):
            break
        least = loss
    return found
