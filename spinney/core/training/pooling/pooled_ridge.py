"""Partial pooling: each group's coefficients are shrunk toward those of its parent's model.

With the residuals r = y − (b₀ + Xβ₀) of the parent's intercept b₀ and coefficients β₀, a group's model is b₀ + c + X(β₀
+ δ), where c and δ minimise

    Σ w (r − c − Zδₛ)² + k (c² + ‖δₛ‖²)

Z are the features standardised by the group's own rows, as `ridge` does it, and δₛ the coefficients on that scale. So a
group without rows would get its parent's model, and a group with many rows its own least-squares fit. k,
`Pooling.rows`, is the number of rows that the parent counts as. A group with fewer than k rows keeps its parent's
coefficients, δ = 0, and moves only its intercept, by n ÷ (n + k) of its mean residual: its features vary too little,
and a slope would be extrapolated (decision 0038 has the loss with and without this rule).

This is the posterior mean under a normal prior centred at the parent's coefficients with the variance σ²/k (D. V.
Lindley and A. F. M. Smith, Bayes estimates for the linear model, J. R. Statist. Soc. B 34, 1972; A. Gelman and J. Hill,
Data analysis using regression and multilevel/hierarchical models, 2007, chapter 12).

With the absolute loss δₛ is fitted again to residuals that are clipped about the first fit, and c is that share of the
median of what δ leaves, not of the mean (`absolute_errors`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from spinney.core.features.encoding import Floats
from spinney.core.models.linear import Linear, Link
from spinney.core.models.model import Model
from spinney.core.training.fit_kernels import KernelInput
from spinney.core.training.pooling.estimated_pooling import solve_estimated
from spinney.core.training.pooling.normal_equations import Chunk, NormalEquations, chunks, solve_all
from spinney.core.training.pooling.parent_priors import Priors, Residuals, encoder_with_prior, rungs_below


def fit_pooled(stack: KernelInput) -> Iterator[tuple[int, Model | Exception]]:
    """Fit the groups of the input that have a prior. Yields a group's position and its model or error."""
    if stack.pooling is None:
        return
    rows = stack.pooling.rows
    of_group = {g: prior for g, prior in enumerate(stack.pooling.priors) if prior is not None}
    encoders = [encoder_with_prior(stack, g, prior) for g, prior in enumerate(stack.pooling.priors)]
    for part in chunks(stack, list(of_group), encoders):
        priors = Priors.of([of_group[g] for g in part.groups], [part.encoders[g] for g in part.groups])
        if rows is None:
            solved = solve_estimated(part, priors, [rungs_below(stack, g) for g in part.groups], stack.loss)
        else:
            solved = _solve(part, priors, rows, stack.loss)
        for g, fitted in zip(part.groups, solved, strict=True):
            yield g, fitted if isinstance(fitted, Exception) else Model(part.encoders[g], fitted)


def _solve(part: Chunk, priors: Priors, rows: float, loss: str) -> Iterator[Linear | Exception]:
    with np.errstate(all="ignore"):  # after an overflow the model is not finite, which the caller reports
        residuals = Residuals.of(part, priors)
        sums = residuals.sums
        has_slopes = np.diff(part.starts) >= rows  # with fewer, the parent's

        def solve(of: NormalEquations) -> tuple[Floats, dict[int, Exception]]:
            moments = np.where(has_slopes[:, None], of.moments, 0.0)
            found, errors = solve_all(of.products + rows * np.eye(len(part.matrix)), moments)
            return found / of.scale, errors

        deviations, errors = residuals.slopes(solve, loss)
        # The columns are centred, so the intercept's penalty acts on the mean (or median) residual alone.
        located = residuals.location(deviations, loss)
        intercept = priors.intercept + located * sums.total_weight / (sums.total_weight + rows)
        for i in range(deviations.shape[1]):
            intercept -= deviations[:, i] * sums.center[:, i]
        coefficients = priors.coefficients + deviations
    models = zip(intercept[:, None], coefficients[:, None], residuals.fill, residuals.limits, strict=True)
    for g, (own_intercept, own_coefficients, fill, limits) in enumerate(models):
        linear = Linear(Link.IDENTITY, own_intercept, own_coefficients, fill, limits=limits)
        yield errors.get(g, linear)
