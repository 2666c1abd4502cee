"""The kernel of linear models: many groups in one call, and groups with a prior pooled with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from spinney.core.models.linear import Linear
from spinney.core.models.model import Model
from spinney.core.training.fit_kernels import KernelInput, KernelResult, Timer
from spinney.core.training.pooling.estimated_pooling import for_groups
from spinney.core.training.pooling.normal_equations import Chunk, chunks, learn_encoders
from spinney.core.training.pooling.pooled_ridge import fit_pooled


@dataclass(frozen=True)
class Solution:
    """A group's model. alpha: the penalty on its standardised coefficients, against a weight of 1 for each row."""

    linear: Linear
    alpha: float


class Solver(Protocol):
    """Fits the groups of a chunk alone."""

    def solve(self, part: Chunk, loss: str) -> Iterator[Solution | Exception]:
        """Yield a solution or an error for each group of the chunk. loss: the fleet's."""
        ...


@dataclass(frozen=True)
class LinearKernel:
    """Fits groups without a prior by its solver, and pools the others (`spinney.core.training.pooling`)."""

    solver: Solver

    def fit(self, stack: KernelInput, timer: Timer) -> list[KernelResult]:
        """Fit all groups. The time is divided equally among them."""
        began = timer()
        fits: list[Model | Exception] = [ValueError("not fitted")] * len(stack)
        priors = stack.pooling.priors if stack.pooling is not None else (None,) * len(stack)
        alone = [g for g, prior in enumerate(priors) if prior is None]
        for part in chunks(stack, alone, learn_encoders(stack)):
            for g, solved in zip(part.groups, self.solver.solve(part, stack.loss), strict=True):
                fits[g] = solved if isinstance(solved, Exception) else _model(stack, part, g, solved)
        for g, pooled in fit_pooled(stack):
            fits[g] = pooled
        ms = (timer() - began) * 1e3 / max(1, len(stack))
        return [KernelResult(ms, error=fit) if isinstance(fit, Exception) else KernelResult(ms, fit) for fit in fits]


def _model(stack: KernelInput, part: Chunk, g: int, solved: Solution) -> Model | Exception:
    model = Model(part.encoders[g], solved.linear)
    if stack.pooling is None or stack.pooling.rows is not None:
        return model
    try:
        return for_groups(stack, g, model, solved.alpha)
    except (ValueError, RuntimeError) as error:  # numbers of this parent alone: the others are fitted
        return error
