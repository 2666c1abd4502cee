"""Ridge regression on standardised features, for many groups in one call.

The model is that of ``SimpleImputer(mean) → StandardScaler → Ridge(alpha)``, with weights in the last step only. Groups
with a prior are pooled with it (`spinney.core.training.pooling.pooled_ridge`). Each group's normal equations are summed
about its own mean, then solved in one stacked call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from spinney.core.errors import ContractError
from spinney.core.models.linear import Linear, Link
from spinney.core.models.model import Model
from spinney.core.training.fit_kernels import Kernel, KernelInput, KernelResult, Timer
from spinney.core.training.pooling.estimated_pooling import for_groups
from spinney.core.training.pooling.normal_equations import Chunk, chunks, learn_encoders, normal_equations, solve_all
from spinney.core.training.pooling.pooled_ridge import fit_pooled

NAME = "ridge"
TASKS = ("regression",)


def kernel(task: str, params: Mapping[str, Any]) -> Kernel:
    """Return the kernel of `ridge`. params: alpha, a number not below zero, 1.0 by default."""
    del task  # there is only one
    unknown = sorted(set(params) - {"alpha"})
    alpha = params.get("alpha", 1.0)
    if unknown or isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 <= alpha < np.inf:
        raise ContractError(f"recipe.params of ridge: expected {{ alpha = a number not below 0 }}; got {dict(params)}")
    return StackedRidge(float(alpha))


@dataclass(frozen=True)
class StackedRidge:
    """The kernel of `ridge`. alpha: the penalty on the standardised coefficients, as scikit-learn's Ridge counts it."""

    alpha: float

    def fit(self, stack: KernelInput, timer: Timer) -> list[KernelResult]:
        """Fit all groups. The time is divided equally among them."""
        began = timer()
        fits: list[Model | Exception] = [ValueError("not fitted")] * len(stack)
        priors = stack.pooling.priors if stack.pooling is not None else (None,) * len(stack)
        alone = [g for g, prior in enumerate(priors) if prior is None]
        for part in chunks(stack, alone, learn_encoders(stack)):
            for g, fitted in zip(part.groups, self._solve(part), strict=True):
                fits[g] = fitted if isinstance(fitted, Exception) else Model(part.encoders[g], fitted)
        if stack.pooling is not None and stack.pooling.rows is None:
            fits = [self._for_groups(stack, g, fit) if isinstance(fit, Model) else fit for g, fit in enumerate(fits)]
        for g, pooled in fit_pooled(stack):
            fits[g] = pooled
        ms = (timer() - began) * 1e3 / max(1, len(stack))
        return [KernelResult(ms, error=fit) if isinstance(fit, Exception) else KernelResult(ms, fit) for fit in fits]

    def _solve(self, part: Chunk) -> Iterator[Linear | Exception]:
        with np.errstate(all="ignore"):  # after an overflow the model is not finite, which the caller reports
            sums = normal_equations(part)
            a = sums.products + self.alpha * np.eye(sums.products.shape[1])
            betas, errors = solve_all(a, sums.moments)
            coefficients = betas / sums.scale
            intercept = sums.label_mean.copy()
            for i in range(coefficients.shape[1]):
                intercept -= coefficients[:, i] * sums.center[:, i]
        models = zip(intercept[:, None], coefficients[:, None], sums.fill, strict=True)
        for g, (own_intercept, own_coefficients, fill) in enumerate(models):
            yield errors[g] if g in errors else Linear(Link.IDENTITY, own_intercept, own_coefficients, fill)

    def _for_groups(self, stack: KernelInput, g: int, model: Model) -> Model | Exception:
        try:
            return for_groups(stack, g, model, self.alpha)
        except (ValueError, RuntimeError) as error:  # numbers of this parent alone: the others are fitted
            return error
