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
from spinney.core.training.fit_kernels import Kernel
from spinney.core.training.linear_kernel import LinearKernel, Solution
from spinney.core.training.pooling.normal_equations import Chunk, normal_equations, solve_all

NAME = "ridge"
TASKS = ("regression",)


def kernel(task: str, params: Mapping[str, Any]) -> Kernel:
    """Return the kernel of `ridge`. params: alpha, a number not below zero, 1.0 by default."""
    del task  # there is only one
    unknown = sorted(set(params) - {"alpha"})
    alpha = params.get("alpha", 1.0)
    if unknown or isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 <= alpha < np.inf:
        raise ContractError(f"recipe.params of ridge: expected {{ alpha = a number not below 0 }}; got {dict(params)}")
    return LinearKernel(RidgeSolver(float(alpha)))


@dataclass(frozen=True)
class RidgeSolver:
    """Ridge regression. alpha: the penalty on the standardised coefficients, as scikit-learn's Ridge counts it."""

    alpha: float

    def solve(self, part: Chunk, loss: str) -> Iterator[Solution | Exception]:
        """Fit each group of a chunk by least squares, whatever the fleet's loss."""
        del loss
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
            if g in errors:
                yield errors[g]
            else:
                yield Solution(Linear(Link.IDENTITY, own_intercept, own_coefficients, fill), self.alpha)
