"""Variances of the groups below a parent around it, estimated from the parent's sample: empirical Bayes.

The deviations of a group's intercept and coefficients from its parent's are taken as random, with mean 0 and a variance
for each. Variances are relative to that of the residuals, so their inverse is a number of rows: a group's own mean
counts as much as its parent's model once it has that many.

They are estimated by moments of the residuals of the parent's model, group by group: the intercept's from pairs of rows
on different days (`day_effects`), or without such pairs by the analysis of variance of unbalanced groups (S. R. Searle,
G. Casella and C. E. McCulloch, Variance components, 1992, section 3.6). For the coefficients, with a group's centred
columns Z, its products A = Z'Z and moments z = Z'r, the expected value of z_j² is σ² A_jj + Σ_l τ_l² A_jl². Summed over
groups this is a linear system for the variances τ_l², which is solved by non-negative least squares. A variance that is
not above 0 means that the groups are not shown to differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from spinney.core.features.encoding import Floats, Integers
from spinney.core.training.comparisons.baseline import group_medians
from spinney.core.training.pooling.absolute_errors import clipped
from spinney.core.training.pooling.day_effects import covariances, weigh_days
from spinney.core.training.pooling.normal_equations import (
    CHUNK_ROWS,
    Chunk,
    NormalEquations,
    normal_equations,
    solve_all,
)

INTERCEPT, SLOPES, DAY, SHIFT = 0, slice(1, -2), -2, -1
"""Columns of the variances of a rung: of intercepts, coefficients, and the effects of a day on a group; and how far one
row may shift an intercept that is a median, in units of the label. This is the variance of the intercepts ÷ the mean
absolute deviation of a row from its group's median.
"""

OTHERS = 3
"""Number of those columns besides the coefficients."""

LEAST_OF_NOISE = 0.1
"""Share of the variance within groups that is taken for noise at least, however large the effects of days are."""

MAX_PENALTY = 1e12
"""Greatest penalty of a coefficient, in rows. It is used if groups are not shown to differ; the coefficient then stays
the parent's.
"""

_ROUNDING = np.finfo(np.float64).eps

CHUNK_PRODUCTS = 1 << 22
"""Largest number of products of columns that are in memory at once."""


def estimate_variances(
    matrix: Floats, residuals: Floats, lineage: Integers, days: Integers | None = None, *, has_outliers: bool = False
) -> Floats:
    """Estimate the variances of the deviations at each rung below a parent, shape (rungs, OTHERS + width).

    The first row is about the parents or groups directly below it, the last about the groups. Its columns are
    INTERCEPT, SLOPES, DAY and SHIFT. 0 if no rung has two groups, or no group has two rows.

    matrix: shape (width, n_rows), the parent's columns without missing values. residuals: shape (n_rows,), of the
    parent's model. lineage: shape (n_rows, rungs), from `lineage_codes`, the groups in the first column. days: shape
    (n_rows,), ascending; None: effects of days are not looked for. has_outliers: clip the residuals of each group
    before.

    Raises ValueError if squares of the columns are not finite, RuntimeError if SciPy finds no solution.
    """
    found = []
    exponent = np.frexp(np.abs(residuals).max(initial=0.0))[1]
    residuals = np.ldexp(residuals, -exponent)  # their squares are finite then
    for codes in reversed(lineage.T):
        order = np.argsort(codes, kind="stable")
        starts = np.concatenate([[0], np.flatnonzero(np.diff(codes[order])) + 1, [len(order)]])
        of_rung = clipped(residuals[order], None, starts) if has_outliers else residuals[order]
        rung = _Rung(matrix[:, order], of_rung, starts, None if days is None else days[order])
        variances = rung.variances(residuals[order])
        variances[SHIFT] = np.ldexp(variances[SHIFT], exponent)
        found.append(variances)
        residuals[order] -= rung.deviations(variances)
    return np.array(found)


def shrunk_slopes(sums: NormalEquations, variances: Floats) -> tuple[Floats, dict[int, Exception]]:
    """Return the most probable deviations of the coefficients, shape (n, width), and errors by position.

    sums: normal equations of the residuals of the parents' models. variances: shape (n, OTHERS + width), each row as in
    `estimate_variances`.
    """
    with np.errstate(divide="ignore"):
        penalties = np.minimum(1.0 / (variances[:, SLOPES] * sums.scale**2), MAX_PENALTY)
    slopes, errors = solve_all(sums.products + penalties[:, :, None] * np.eye(penalties.shape[1]), sums.moments)
    return slopes / sums.scale, errors


def own_share(total_weight: Floats, variances: Floats) -> Floats:
    """Return the weight of each group's own mean against its parent's, from 0 to 1, shape (n,).

    total_weight: of its rows, weighed by `weigh_days`.
    """
    rows = total_weight * variances[:, INTERCEPT]
    return np.asarray(rows / (1.0 + rows))


@dataclass(frozen=True)
class _Rung:
    """The rows of a sample, sorted by the groups or parents of one rung of the ladder: group g has rows starts[g] to
    starts[g + 1]. days: as in `estimate_variances`.
    """

    matrix: Floats
    residuals: Floats
    starts: Integers
    days: Integers | None

    def variances(self, unclipped: Floats) -> Floats:
        """Return the variances of the groups around the parent, shape (OTHERS + width,).

        Those of the coefficients are relative to the variance of a row around its group's mean, INTERCEPT and DAY to
        what effects of days leave of it. unclipped: the residuals before they were clipped.
        """
        sizes = np.diff(self.starts).astype(np.float64)
        rows, groups, found = sizes.sum(), len(sizes), np.zeros(OTHERS + len(self.matrix))
        means = np.add.reduceat(self.residuals, self.starts[:-1]) / sizes
        within = float(((self.residuals - np.repeat(means, np.diff(self.starts))) ** 2).sum())
        between = float((sizes * (means - sizes @ means / rows) ** 2).sum())
        if groups < 2 or rows <= groups or within == between == 0.0:
            return found
        least = between * _ROUNDING  # groups may differ where no row of one does
        noise = max(within / (rows - groups), least)
        intercept, of_day, of_rows = (between - (groups - 1) * noise) / (rows - (sizes**2).sum() / rows), 0.0, noise
        if self.days is not None and (shared := covariances(self.residuals, self.starts, self.days)) is not None:
            intercept, of_day = shared.lasting, max(shared.of_day, 0.0)
            of_rows = max(noise - of_day * shared.on_other_days, LEAST_OF_NOISE * noise)
        medians = np.repeat(group_medians(unclipped, np.diff(self.starts)), np.diff(self.starts))
        deviation = max(float(np.abs(unclipped - medians).sum()) / (rows - groups), np.sqrt(least))
        intercept = max(intercept, 0.0)
        found[[INTERCEPT, DAY]] = np.array([intercept, of_day]) / of_rows
        found[SHIFT] = intercept / deviation
        found[SLOPES] = self._slopes(noise) / noise
        return found

    def _slopes(self, noise: float) -> Floats:
        """Return the variances of the groups' coefficients around the parent's, shape (width,)."""
        width, spread = len(self.matrix), _spread(self.matrix)
        if not width:  # SciPy ends the process at a system without equations
            return np.zeros(0)
        squares, system = np.zeros(width), np.zeros((width, width))
        for _, part in self._parts():
            sums = normal_equations(part)
            scale = sums.scale / spread
            products = sums.products * scale[:, :, None] * scale[:, None, :]
            squares += ((sums.moments * scale) ** 2).sum(axis=0) - noise * np.einsum("gjj->j", products)
            system += (products**2).sum(axis=0)
        from scipy.optimize import nnls  # imported late, as scipy.special elsewhere

        slopes, _ = nnls(system, squares)
        return np.asarray(slopes / spread**2)

    def deviations(self, variances: Floats) -> Floats:
        """Predicted deviation of each row's group from the parent, shape (n_rows,)."""
        out = np.empty_like(self.residuals)
        for groups, part in self._parts():
            of_groups = np.broadcast_to(variances, (groups.stop - groups.start, len(variances)))
            sums = normal_equations(weigh_days(part, of_groups[:, DAY]))
            slopes, _ = shrunk_slopes(sums, of_groups)
            intercepts = own_share(sums.total_weight, of_groups) * sums.label_mean
            rows = slice(int(self.starts[groups.start]), int(self.starts[groups.stop]))
            of_row = np.repeat(np.arange(len(slopes)), np.diff(self.starts[groups.start : groups.stop + 1]))
            out[rows] = intercepts[of_row]
            for i, column in enumerate(self.matrix):
                out[rows] += slopes[:, i][of_row] * (column[rows] - sums.center[:, i][of_row])
        return out

    def _parts(self) -> Iterator[tuple[slice, Chunk]]:
        """Ranges of groups, and their rows."""
        most = max(1, CHUNK_PRODUCTS // max(1, len(self.matrix)) ** 2)
        begin, last = 0, len(self.starts) - 1
        while begin < last:
            stop = int(np.searchsorted(self.starts, self.starts[begin] + CHUNK_ROWS))
            stop = max(begin + 1, min(stop, begin + most, last))
            first, end = int(self.starts[begin]), int(self.starts[stop])
            starts = self.starts[begin : stop + 1] - first
            days = None if self.days is None else self.days[first:end]
            part = Chunk([], {}, self.matrix[:, first:end], self.residuals[first:end], None, starts, days)
            yield slice(begin, stop), part
            begin = stop


def _spread(matrix: Floats) -> Floats:
    spread = matrix.std(axis=1)
    return np.asarray(np.where(spread > 0, spread, 1.0))
