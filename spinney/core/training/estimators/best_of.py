"""One of a short list of recipes for each group: the one that lost least on the newest of its rows.

Each candidate is fitted on the older rows and judged by the fleet's loss on the newest fifth; the winner is fitted on
all. The gate sees a choice made without the rows that it compares on: those are held out before a kernel is called. A
group with fewer than `compared_rows` rows to judge by takes the first candidate: of few rows chance would choose. The
scores of all candidates stand in the attempt's metrics. Want of memory is the group's failure, no candidate's: it may
be a neighbour's doing, and the choice must be the group's own.
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
from spinney.core.recipes.recipe import canonical
from spinney.core.training import current_group, estimators
from spinney.core.training.kernels import Fit, Kernel, Stack, Timer
from spinney.core.training.loss import Loss, loss_named
from spinney.core.training.training_rows import ranges

NAME = "best_of"
TASKS = ("regression", "classification")

JUDGED = 5
"""One row in so many is judged on: the newest fifth."""

COMPARED_ROWS = 10
_NONE = -1


def kernel(task: str, params: Mapping[str, Any]) -> Kernel:
    """params:

    candidates     two or more tables of `estimator` and, where it needs them, `params`; the first wins a tie
    compared_rows  rows to judge by that a choice needs, 10 by default: a group then has five times as many
    """
    listed, rows = params.get("candidates"), params.get("compared_rows", COMPARED_ROWS)
    sound = isinstance(listed, list) and len(listed) > 1 and all(map(_is_candidate, listed))
    whole = isinstance(rows, int) and not isinstance(rows, bool) and rows >= 1
    if not sound or not whole or set(params) - {"candidates", "compared_rows"} or not isinstance(listed, list):
        raise ContractError(
            "recipe.params of best_of: expected candidates, two or more tables such as { estimator = "
            '"ridge", params = { alpha = 1.0 } } of other estimators than best_of, and compared_rows, a whole number '
            f"from 1; got {dict(params)}"
        )
    kernels = [estimators.kernel_for(each["estimator"], task, each.get("params", {})) for each in listed]
    return BestOf(tuple(zip(_names(listed), kernels, strict=True)), rows)


def _is_candidate(each: Any) -> bool:
    return (
        isinstance(each, Mapping)
        and isinstance(each.get("estimator"), str)
        and each["estimator"] != NAME
        and isinstance(each.get("params", {}), Mapping)
        and not set(each) - {"estimator", "params"}
    )


def _names(listed: Sequence[Mapping[str, Any]]) -> list[str]:
    """The estimators' names, with their parameters where one comes twice."""
    names = [each["estimator"] for each in listed]
    return [
        name if names.count(name) == 1 else f"{name} {canonical(each.get('params', {}))}"
        for name, each in zip(names, listed, strict=True)
    ]


@dataclass(frozen=True)
class BestOf:
    """The kernel. candidates: name and kernel, the first first."""

    candidates: tuple[tuple[str, Kernel], ...]
    compared_rows: int

    def fit(self, stack: Stack, timer: Timer) -> list[Fit]:
        scores, spent, lacked = self._scores(stack, timer)
        best = np.argmin(scores, axis=1)  # the first of equals, and the first where none could be judged
        fits: list[Fit] = [Fit(0.0)] * len(stack)
        for g, error in lacked.items():
            best[g], fits[g] = _NONE, Fit(float(spent[g]), error=error)
        for at, (name, candidate) in enumerate(self.candidates):
            mine = np.flatnonzero(best == at)
            if not len(mine):
                continue
            fitted = candidate.fit(_part(stack, mine, stack.starts[mine + 1]), timer)
            for g, fit in zip(mine.tolist(), fitted, strict=True):
                fits[g] = replace(fit, ms=fit.ms + spent[g], scores=self._told(name, scores[g]))
        return fits

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """The candidates' own."""
        return tuple(kernel for _, kernel in self.candidates)

    def _told(self, chosen: str, scores: Any) -> dict[str, Any]:
        names = [name for name, _ in self.candidates]
        told = {
            name: score if math.isfinite(score) else None for name, score in zip(names, scores.tolist(), strict=True)
        }
        return {"chosen": chosen, "candidates": told}

    def _scores(self, stack: Stack, timer: Timer) -> tuple[Any, Any, dict[int, MemoryError]]:
        """Mean losses, shape (n_groups, n_candidates), infinite where there is none; their milliseconds; who lacked."""
        scores, spent = np.full((len(stack), len(self.candidates)), np.inf), np.zeros(len(stack))
        lacked: dict[int, MemoryError] = {}
        judged = np.diff(stack.starts) // JUDGED
        groups = np.flatnonzero(judged >= self.compared_rows)
        if not len(groups):
            return scores, spent, lacked
        stops = stack.starts[groups + 1]
        older = _part(stack, groups, stops - judged[groups])
        loss = loss_named(stack.loss)
        for at, (_, candidate) in enumerate(self.candidates):
            for g, fit in zip(groups.tolist(), candidate.fit(older, timer), strict=True):
                spent[g] += fit.ms
                if isinstance(fit.error, MemoryError):
                    lacked[g] = fit.error
                if fit.model is None:
                    continue
                current_group.begin(stack.keys[g], current_group.COMPARE)
                newest = slice(int(stack.starts[g + 1] - judged[g]), int(stack.starts[g + 1]))
                try:
                    scores[g, at] = _mean_loss(fit.model, stack, newest, loss)
                except MemoryError as error:
                    lacked[g] = error.with_traceback(None)  # its frames would hold on to what was taken there
        return scores, spent, lacked


def _part(stack: Stack, groups: Integers, stops: Integers) -> Stack:
    """These groups' rows up to the stops, weighed as if the newest of them were a group's newest."""
    begins = stack.starts[groups]
    rows, sizes = ranges(begins, stops), stops - begins
    weights = stack.weights
    if weights is not None:
        newest = weights[stops - 1]
        weights = weights[rows] / np.repeat(np.where(newest > 0, newest, 1.0), sizes)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    keys = tuple(stack.keys[g] for g in groups.tolist())
    return Stack(keys, stack.columns.take(rows), starts, stack.labels[rows], weights, stack.loss)


def _mean_loss(model: Model, stack: Stack, rows: slice, loss: Loss) -> float:
    """Infinite for a model that has no answer for one of the rows. Raises MemoryError."""
    try:
        raw = model.raw(stack.columns.take(rows))
    except MemoryError:
        raise
    except Exception:  # what it raises is told if it is chosen all the same
        return math.inf
    lost = loss.per_row(stack.labels[rows], raw[:, 0] if model.classes is None else (model.classes, raw))
    return float(lost.mean()) if np.isfinite(lost).all() else math.inf
