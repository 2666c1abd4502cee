"""The parents' models of some groups as arrays in the columns of these groups, which they are shrunk toward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from spinney.core.features.encoding import Encoder, Floats
from spinney.core.models.linear import unlimited
from spinney.core.models.model import Model
from spinney.core.training.fit_kernels import KernelInput
from spinney.core.training.parent_row_lineage import NO_CODE
from spinney.core.training.pooling.absolute_errors import CLIPPED_FITS, clipped, weighted_medians
from spinney.core.training.pooling.group_variances import DAY, INTERCEPT, OTHERS, SHIFT
from spinney.core.training.pooling.normal_equations import (
    Chunk,
    NormalEquations,
    Standardised,
    column_limits,
    fill_column,
)

Solve = Callable[[NormalEquations], tuple[Floats, dict[int, Exception]]]


@dataclass(frozen=True)
class Priors:
    """The parents' models of the groups of a chunk. intercept: (n,). coefficients, fill: (n, width).

    limits: of the parents' columns, shape (n, 2, width).
    variances: for each group the group variances of its parent's model, shape (rungs, OTHERS + width); None without
    them.
    """

    intercept: Floats
    coefficients: Floats
    fill: Floats
    limits: Floats
    variances: Sequence[Floats | None]

    @classmethod
    def of(cls, models: Sequence[Model], encoders: Sequence[Encoder]) -> Priors:
        """Return the parents' models in the columns of their groups' encoders.

        encoders: of the groups. A value of a string feature that the parent does not know has a coefficient of 0,
        and no variance.
        """
        width = encoders[0].width
        coefficients, fill = (np.zeros((len(models), width)) for _ in range(2))
        limits = np.repeat(unlimited(width)[None], len(models), axis=0)
        variances: list[Floats | None] = []
        for row, (model, encoder) in enumerate(zip(models, encoders, strict=True)):
            known = _known_columns(model.encoder, encoder)
            coefficients[row, known] = model.estimator.coefficients[0]
            fill[row, known] = model.estimator.fill
            if model.estimator.limits is not None:
                limits[row][:, known] = model.estimator.limits
            theirs = model.estimator.group_variances
            own = None if theirs is None else np.zeros((len(theirs), OTHERS + width))
            if own is not None:
                own[:, [INTERCEPT, *(1 + at for at in known), DAY, SHIFT]] = theirs
            variances.append(own)
        intercepts = np.array([model.estimator.intercept[0] for model in models])
        return cls(intercepts, coefficients, fill, limits, variances)


@dataclass(frozen=True)
class Residuals:
    """Residuals of a chunk's labels: the labels minus the predictions of each group's parent model.

    fill: values that replace missing features, shape (n_groups, width). limits: the parents', widened to those of the
    groups, shape (n_groups, 2, width). of_row: position of each row's group. part: the
    chunk with missing features filled and the residuals as labels. standard, sums: of that chunk.
    """

    fill: Floats
    limits: Floats
    of_row: np.ndarray
    part: Chunk
    standard: Standardised
    sums: NormalEquations

    @classmethod
    def of(cls, part: Chunk, priors: Priors) -> Residuals:
        """Return the residuals of a chunk's rows: the labels minus the predictions of the parents' models."""
        filled, fill = _fill(part, priors)
        of_row = np.repeat(np.arange(len(priors.intercept)), np.diff(part.starts))
        residuals = part.labels - priors.intercept[of_row]
        for i, column in enumerate(filled):
            residuals -= priors.coefficients[:, i][of_row] * column
        of_parents = replace(part, matrix=filled, labels=residuals)
        standard = Standardised.of(of_parents)
        own = column_limits(part)
        limits = np.stack(
            [np.minimum(priors.limits[:, 0], own[:, 0]), np.maximum(priors.limits[:, 1], own[:, 1])], axis=1
        )
        return cls(fill, limits, of_row, of_parents, standard, standard.normal_equations())

    def slopes(self, solve: Solve, loss: str) -> tuple[Floats, dict[int, Exception]]:
        """Return the slopes of each group, shape (n, width), and errors by position.

        With the absolute loss, which is that of the fleet, they are solved again for residuals that are clipped about
        the fit before. solve: returns slopes and errors for normal equations.
        """
        slopes, errors = solve(self.sums)
        if loss == "absolute":
            for _ in range(CLIPPED_FITS):
                explained = self._explained(slopes)
                labels = explained + clipped(self.part.labels - explained, self.part.weights, self.part.starts)
                moments = self.standard.moments(labels - self.standard.means(labels)[self.of_row])
                slopes, errors = solve(replace(self.sums, moments=moments))
        return slopes, errors

    def location(self, slopes: Floats, loss: str) -> Floats:
        """Return the mean of each group's residuals, shape (n,): with the absolute loss, the median of those that its
        slopes leave, about the group's mean features. slopes: shape (n, width).
        """
        if loss != "absolute":
            return self.sums.label_mean
        return weighted_medians(self.unexplained(slopes), self.part.weights, self.part.starts)

    def unexplained(self, slopes: Floats) -> Floats:
        """Return what slopes leave of each row's residual, about the group's mean features, shape (n_rows,)."""
        return self.part.labels - self._explained(slopes)

    def _explained(self, slopes: Floats) -> Floats:
        """Return what slopes explain of each row's residual, about the group's mean features."""
        explained = np.zeros(len(self.of_row))
        for i, column in enumerate(self.part.matrix):
            explained += slopes[:, i][self.of_row] * (column - self.sums.center[:, i][self.of_row])
        return explained


def encoder_with_prior(stack: KernelInput, g: int, prior: Model | None) -> Encoder:
    """Return the group's encoder: of each string feature the parent's values, then those that only the group has."""
    if not stack.columns.words or prior is None:
        return Encoder(stack.columns.features, ((),) * len(stack.columns.words))
    own = Encoder.learn(stack.columns.take(stack.rows(g)))
    pairs = zip(prior.encoder.vocabularies, own.vocabularies, strict=True)
    return replace(own, vocabularies=tuple(tuple(dict.fromkeys((*known, *words))) for known, words in pairs))


def rungs_below(stack: KernelInput, g: int) -> int:
    """Return the number of rungs below a parent of the input; 0 for a group."""
    return 0 if stack.lineage is None else int((stack.lineage[int(stack.starts[g])] != NO_CODE).sum())


def _known_columns(parent: Encoder, group: Encoder) -> list[int]:
    """The position of each of the parent's columns among the group's."""
    fixed = group.width - sum(map(len, group.vocabularies))
    columns, at = list(range(fixed)), fixed
    for known, words in zip(parent.vocabularies, group.vocabularies, strict=True):
        columns += range(at, at + len(known))
        at += len(words)
    return columns


def _fill(part: Chunk, priors: Priors) -> tuple[Floats, Floats]:
    """Return the columns with missing values filled, and the values that fill them: the group's mean, or the parent's
    value if the group has none.
    """
    sizes, filled, fill = np.diff(part.starts), np.empty_like(part.matrix), np.empty_like(priors.fill)
    of_row = np.repeat(np.arange(len(sizes)), sizes)
    for i, column in enumerate(part.matrix):
        has_value = np.add.reduceat(~np.isnan(column), part.starts[:-1], dtype=np.int64) > 0
        _, mean = fill_column(column, sizes, of_row, lambda values: np.add.reduceat(values, part.starts[:-1]))
        fill[:, i] = np.where(has_value, mean, priors.fill[:, i])
        filled[i] = np.where(np.isnan(column), fill[:, i][of_row], column)
    return filled, fill
