"""Partial pooling: each group's coefficients are shrunk toward those of its parent's model.

With the residuals r = y − (b₀ + Xβ₀) of the parent's intercept b₀ and coefficients β₀, a group's model is
b₀ + c + X(β₀ + δ), where c and δ minimise

    Σ w (r − c − Zδₛ)² + k (c² + ‖δₛ‖²)

Z are the features standardised by the group's own rows, as `ridge` does it, and δₛ the coefficients on that scale. So a
group without rows would be its parent, and one with many rows its own least-squares fit: k, `Pooling.rows`, is the
number of rows that the parent counts as. A group with fewer than k rows keeps its parent's coefficients, δ = 0, and
moves its intercept only, by n ÷ (n + k) of its mean residual: its features have hardly spread, and a slope would be
extrapolated (decision 0038 has the loss with and without).

This is the posterior mean under a normal prior centred at the parent's coefficients with the variance σ²/k (D. V.
Lindley and A. F. M. Smith, Bayes estimates for the linear model, J. R. Statist. Soc. B 34, 1972; A. Gelman and J. Hill,
Data analysis using regression and multilevel/hierarchical models, 2007, chapter 12).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from spinney.core.features.encoding import Encoder, Floats
from spinney.core.models.linear import Linear, Link
from spinney.core.models.model import Model
from spinney.core.training.fit_kernels import KernelInput
from spinney.core.training.normal_equations import Chunk, chunks, fill_column, normal_equations, solve_all


def fit_pooled(stack: KernelInput) -> Iterator[tuple[int, Model | Exception]]:
    """Fit the groups of the input that have a prior. Yields a group's position and its model or error."""
    if stack.pooling is None:
        return
    of_group = {g: prior for g, prior in enumerate(stack.pooling.priors) if prior is not None}
    encoders = [_encoder(stack, g, prior) for g, prior in enumerate(stack.pooling.priors)]
    for part in chunks(stack, list(of_group), encoders):
        priors = _Priors.of([of_group[g] for g in part.groups], [part.encoders[g] for g in part.groups])
        for g, fitted in zip(part.groups, _solve(part, priors, stack.pooling.rows), strict=True):
            yield g, fitted if isinstance(fitted, Exception) else Model(part.encoders[g], fitted)


@dataclass(frozen=True)
class _Priors:
    """The parents' models of the groups of a chunk. intercept: (n,). coefficients, fill: (n, width)."""

    intercept: Floats
    coefficients: Floats
    fill: Floats

    @classmethod
    def of(cls, models: Sequence[Model], encoders: Sequence[Encoder]) -> _Priors:
        """encoders: of the groups. A value of a string feature that the parent does not know has a coefficient of 0."""
        coefficients, fill = (np.zeros((len(models), encoders[0].width)) for _ in range(2))
        for row, (model, encoder) in enumerate(zip(models, encoders, strict=True)):
            known = _known_columns(model.encoder, encoder)
            coefficients[row, known] = model.estimator.coefficients[0]
            fill[row, known] = model.estimator.fill
        return cls(np.array([model.estimator.intercept[0] for model in models]), coefficients, fill)


def _encoder(stack: KernelInput, g: int, prior: Model | None) -> Encoder:
    """The group's encoder: of each string feature the parent's values, then those that only the group has."""
    if not stack.columns.words or prior is None:
        return Encoder(stack.columns.features, ((),) * len(stack.columns.words))
    own = Encoder.learn(stack.columns.take(stack.rows(g)))
    pairs = zip(prior.encoder.vocabularies, own.vocabularies, strict=True)
    return replace(own, vocabularies=tuple(tuple(dict.fromkeys((*known, *words))) for known, words in pairs))


def _known_columns(parent: Encoder, group: Encoder) -> list[int]:
    """The position of each of the parent's columns among the group's."""
    fixed = group.width - sum(map(len, group.vocabularies))
    columns, at = list(range(fixed)), fixed
    for known, words in zip(parent.vocabularies, group.vocabularies, strict=True):
        columns += range(at, at + len(known))
        at += len(words)
    return columns


def _solve(part: Chunk, priors: _Priors, rows: float) -> Iterator[Linear | Exception]:
    with np.errstate(all="ignore"):  # after an overflow the model is not finite, which the caller reports
        filled, fill = _fill(part, priors)
        of_row = np.repeat(np.arange(len(priors.intercept)), np.diff(part.starts))
        residuals = part.labels - priors.intercept[of_row]
        for i, column in enumerate(filled):
            residuals -= priors.coefficients[:, i][of_row] * column
        sums = normal_equations(replace(part, matrix=filled, labels=residuals))
        has_slopes = np.diff(part.starts) >= rows  # with fewer, the parent's
        moments = np.where(has_slopes[:, None], sums.moments, 0.0)
        deviations, errors = solve_all(sums.products + rows * np.eye(len(filled)), moments)
        deviations /= sums.scale
        # The columns are centred, so the intercept's penalty acts on the mean residual alone.
        intercept = priors.intercept + sums.label_mean * sums.total_weight / (sums.total_weight + rows)
        for i in range(deviations.shape[1]):
            intercept -= deviations[:, i] * sums.center[:, i]
        coefficients = priors.coefficients + deviations
    models = zip(intercept[:, None], coefficients[:, None], fill, strict=True)
    for g, (own_intercept, own_coefficients, own_fill) in enumerate(models):
        yield errors[g] if g in errors else Linear(Link.IDENTITY, own_intercept, own_coefficients, own_fill)


def _fill(part: Chunk, priors: _Priors) -> tuple[Floats, Floats]:
    """The columns without missing values, and what replaced them: the group's mean, or the parent's without values."""
    sizes, filled, fill = np.diff(part.starts), np.empty_like(part.matrix), np.empty_like(priors.fill)
    of_row = np.repeat(np.arange(len(sizes)), sizes)
    for i, column in enumerate(part.matrix):
        has_value = np.add.reduceat(~np.isnan(column), part.starts[:-1], dtype=np.int64) > 0
        _, mean = fill_column(column, sizes, of_row, lambda values: np.add.reduceat(values, part.starts[:-1]))
        fill[:, i] = np.where(has_value, mean, priors.fill[:, i])
        filled[i] = np.where(np.isnan(column), fill[:, i][of_row], column)
    return filled, fill
