"""Choose the best of a short list of estimators for each group.

Each candidate is fitted on the older rows and measured by the fleet's loss on the newest fifth; the one with the lowest
mean loss is fitted on all rows. The gate's held-out rows are removed before a kernel is called, so the choice does not
see them. A group with fewer than `compared_rows` rows to compare on takes the first candidate, since on few rows chance
would decide. All candidates' losses are in the metrics. Running out of memory fails the group, not the candidate: other
groups in the process may have caused it, and the choice must depend on the group's rows only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spinney.core.errors import ContractError
from spinney.core.features.encoding import Integers
from spinney.core.models.model import Model
from spinney.core.recipes.recipe import canonical_json
from spinney.core.training import current_group, estimators
from spinney.core.training.fit_kernels import Kernel, KernelInput, KernelResult, Timer
from spinney.core.training.loss import Loss, loss_named
from spinney.core.training.training_set import concatenated_ranges

NAME = "best_of"
TASKS = ("regression", "classification")

JUDGED_ONE_IN = 5
"""Candidates are compared on the newest 1 / JUDGED_ONE_IN of a group's rows."""

COMPARED_ROWS = 10
_NONE = -1


def kernel(task: str, params: Mapping[str, Any]) -> Kernel:
    """Return the kernel of `best_of`. params:

    candidates     two or more tables of `estimator` and, if needed, `params`; of equal losses the first wins
    compared_rows  fewest rows to compare on, 10 by default; a group then has five times as many rows
    """
    listed, rows = params.get("candidates"), params.get("compared_rows", COMPARED_ROWS)
    has_candidates = isinstance(listed, list) and len(listed) > 1 and all(map(_is_candidate, listed))
    is_whole_number = isinstance(rows, int) and not isinstance(rows, bool) and rows >= 1
    if (
        not has_candidates
        or not is_whole_number
        or set(params) - {"candidates", "compared_rows"}
        or not isinstance(listed, list)
    ):
        raise ContractError(
            "recipe.params of best_of: expected candidates, two or more tables such as { estimator = "
            '"ridge", params = { alpha = 1.0 } } of other estimators than best_of, and compared_rows, a whole number '
            f"from 1; got {dict(params)}"
        )
    kernels = [estimators.kernel_for(candidate["estimator"], task, candidate.get("params", {})) for candidate in listed]
    return BestOf(tuple(zip(_names(listed), kernels, strict=True)), rows)


def _is_candidate(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("estimator"), str)
        and value["estimator"] != NAME
        and isinstance(value.get("params", {}), Mapping)
        and not set(value) - {"estimator", "params"}
    )


def _names(listed: Sequence[Mapping[str, Any]]) -> list[str]:
    """The estimators' names, with their parameters if a name occurs twice."""
    names = [candidate["estimator"] for candidate in listed]
    return [
        name if names.count(name) == 1 else f"{name} {canonical_json(candidate.get('params', {}))}"
        for name, candidate in zip(names, listed, strict=True)
    ]


@dataclass(frozen=True)
class BestOf:
    """The kernel of `best_of`. candidates: name and kernel, in the order of the configuration."""

    candidates: tuple[tuple[str, Kernel], ...]
    compared_rows: int

    def fit(self, stack: KernelInput, timer: Timer) -> list[KernelResult]:
        """Fit the best candidate of each group on all its rows."""
        scores, elapsed_ms, memory_errors = self._scores(stack, timer)
        best = np.argmin(scores, axis=1)  # the first if several are equal or none could be compared
        fits: list[KernelResult] = [KernelResult(0.0)] * len(stack)
        for g, error in memory_errors.items():
            best[g], fits[g] = _NONE, KernelResult(float(elapsed_ms[g]), error=error)
        for at, (name, candidate) in enumerate(self.candidates):
            groups = np.flatnonzero(best == at)
            if not len(groups):
                continue
            fitted = candidate.fit(_part(stack, groups, stack.starts[groups + 1]), timer)
            for g, fit in zip(groups.tolist(), fitted, strict=True):
                fits[g] = replace(fit, ms=fit.ms + elapsed_ms[g], scores=self._scores_as_metrics(name, scores[g]))
        return fits

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """The candidates' kernels."""
        return tuple(kernel for _, kernel in self.candidates)

    def _scores_as_metrics(self, chosen: str, scores: Any) -> dict[str, Any]:
        names = [name for name, _ in self.candidates]
        scores_by_name = {
            name: score if math.isfinite(score) else None for name, score in zip(names, scores.tolist(), strict=True)
        }
        return {"chosen": chosen, "candidates": scores_by_name}

    def _scores(self, stack: KernelInput, timer: Timer) -> tuple[Any, Any, dict[int, MemoryError]]:
        """Return mean losses, milliseconds, and the groups that ran out of memory with their error.

        Losses and milliseconds: shape (n_groups, n_candidates); a loss is infinite if a candidate has none.
        """
        scores, elapsed_ms = np.full((len(stack), len(self.candidates)), np.inf), np.zeros(len(stack))
        memory_errors: dict[int, MemoryError] = {}
        judged_rows = np.diff(stack.starts) // JUDGED_ONE_IN
        groups = np.flatnonzero(judged_rows >= self.compared_rows)
        if not len(groups):
            return scores, elapsed_ms, memory_errors
        stops = stack.starts[groups + 1]
        older = _part(stack, groups, stops - judged_rows[groups])
        loss = loss_named(stack.loss)
        for at, (_, candidate) in enumerate(self.candidates):
            for g, fit in zip(groups.tolist(), candidate.fit(older, timer), strict=True):
                elapsed_ms[g] += fit.ms
                if isinstance(fit.error, MemoryError):
                    memory_errors[g] = fit.error
                if fit.model is None:
                    continue
                current_group.report(stack.keys[g], current_group.COMPARE)
                newest = slice(int(stack.starts[g + 1] - judged_rows[g]), int(stack.starts[g + 1]))
                try:
                    scores[g, at] = _mean_loss(fit.model, stack, newest, loss)
                except MemoryError as error:
                    memory_errors[g] = error.with_traceback(None)  # its frames would keep the allocated memory alive
        return scores, elapsed_ms, memory_errors


def _part(stack: KernelInput, groups: Integers, stops: Integers) -> KernelInput:
    """These groups' rows up to `stops`, with weights relative to the newest of the remaining rows."""
    begins = stack.starts[groups]
    rows, sizes = concatenated_ranges(begins, stops), stops - begins
    weights = stack.weights
    if weights is not None:
        newest = weights[stops - 1]
        weights = weights[rows] / np.repeat(np.where(newest > 0, newest, 1.0), sizes)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    keys = tuple(stack.keys[g] for g in groups.tolist())
    return KernelInput(keys, stack.columns.take(rows), starts, stack.labels[rows], weights, stack.loss)


def _mean_loss(model: Model, stack: KernelInput, rows: slice, loss: Loss) -> float:
    """The model's mean loss; infinite if a row has no finite prediction. Raises MemoryError."""
    try:
        raw = model.raw_predictions(stack.columns.take(rows))
    except MemoryError:
        raise
    except Exception:  # reported by its final fit, if it is chosen all the same
        return math.inf
    lost = loss.per_row(stack.labels[rows], raw[:, 0] if model.classes is None else (model.classes, raw))
    return float(lost.mean()) if np.isfinite(lost).all() else math.inf
