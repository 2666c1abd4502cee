"""Fit a champion's own recipe again on older rows, to compare it with a changed recipe on rows that neither has seen.

A champion that has seen the held-out rows cannot be measured on them. If the recipe was changed since, the champion's
recipe is fitted on the rows before the held-out ones, as the challenger is, and measured in the champion's place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from spinney.core.errors import fit_error_text
from spinney.core.features.encoding import Floats, Integers
from spinney.core.keys import is_parent
from spinney.core.recipes.recipe import Recipe
from spinney.core.training import current_group
from spinney.core.training.estimators import kernel_for
from spinney.core.training.held_out_loss import RowsToPredict, not_finite_error, row_losses, split_by_group
from spinney.core.training.kernels import KernelResult, Timer
from spinney.core.training.loss import loss_named
from spinney.core.training.training_set import TrainingSet

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class RefitRequest:
    """A group to fit again by recipe `recipe_id`.

    stop: position of its oldest held-out row. places: positions of the rows to measure on.
    """

    group_index: int
    recipe_id: str
    stop: int
    places: Integers


@dataclass(frozen=True)
class RefitResult:
    """losses: of each of the request's `places`; None if there is none, then `error` says why."""

    estimator: str
    losses: Floats | None
    error: str | None
    elapsed_ms: float


def refit_and_measure(
    history: TrainingSet,
    refits: Sequence[RefitRequest],
    recipes: Mapping[str, Recipe],
    timer: Timer,
    known_error: str | None = None,
) -> list[RefitResult]:
    """Fit each group's earlier recipe and measure its losses on the held-out rows. Never raises.

    recipes: by recipe_id. known_error: if given, nothing is fitted and each result has this error.
    """
    if known_error is not None:
        return [_failure(recipes[each.recipe_id], known_error) for each in refits]
    found: dict[int, RefitResult] = {}
    for name in dict.fromkeys(each.recipe_id for each in refits):
        alike = [each for each in refits if each.recipe_id == name]
        try:
            with current_group.reported_as(current_group.REFIT):
                current_group.report(None, current_group.FIT)
                measured = _measure_recipe(history, alike, recipes[name], timer)
        except Exception as error:  # the recipe as a whole fails: no such estimator any more, or no such column
            measured = [
                _failure(recipes[name], fit_error_text(history.keys[each.group_index], error)) for each in alike
            ]
        found |= {each.group_index: said for each, said in zip(alike, measured, strict=True)}
    return [found[each.group_index] for each in refits]


def _measure_recipe(
    history: TrainingSet, refits: Sequence[RefitRequest], recipe: Recipe, timer: Timer
) -> list[RefitResult]:
    own = history.with_features(recipe.features)
    begins = np.array([_first_row(history, each, recipe) for each in refits], dtype=np.int64)
    stops = np.array([each.stop for each in refits], dtype=np.int64)
    fits: list[KernelResult | None] = [None] * len(refits)
    able = np.flatnonzero(begins < stops).tolist()
    if able:
        kernel = kernel_for(recipe.estimator, recipe.task, recipe.arguments)
        stack = own.kernel_input([refits[at].group_index for at in able], stops[able], recipe, begins[able])
        for at, fit in zip(able, kernel.fit(stack, timer), strict=True):
            fits[at] = fit
    return _measure_fits(own, refits, fits, recipe)


def _first_row(history: TrainingSet, refit: RefitRequest, recipe: Recipe) -> int:
    """Position of the first row that this recipe would have been fitted on when the oldest held-out row arrived."""
    begin, stop = int(history.starts[refit.group_index]), refit.stop
    if not is_parent(history.keys[refit.group_index]):
        begin = max(begin, stop - recipe.window_rows)
    oldest = int(history.times[stop]) - recipe.window // _MICROSECOND
    return begin + int(np.searchsorted(history.times[begin:stop], oldest, side="left"))


def _measure_fits(
    history: TrainingSet, refits: Sequence[RefitRequest], fits: Sequence[KernelResult | None], recipe: Recipe
) -> list[RefitResult]:
    made = [(at, fit.model) for at, fit in enumerate(fits) if fit is not None and fit.model is not None]
    which = np.repeat(np.arange(len(made)), [len(refits[at].places) for at, _ in made])
    places = np.concatenate([refits[at].places for at, _ in made]) if made else np.empty(0, dtype=np.int64)

    def begin(nth: int) -> None:
        current_group.report(history.keys[refits[made[nth][0]].group_index], current_group.PREDICT)

    rows = RowsToPredict(places, which)
    of_all, raised = row_losses(history, [model for _, model in made], rows, loss_named(recipe.loss), begin)
    parts = enumerate(zip(made, split_by_group(of_all, which), strict=True))
    answered = {at: (own, raised.get(nth)) for nth, ((at, _), own) in parts}
    out = []
    for at, (refit, fit) in enumerate(zip(refits, fits, strict=True)):
        key = history.keys[refit.group_index]
        if fit is None:
            out.append(_failure(recipe, "no row of its window lies before the held-out rows"))
            continue
        own, error = answered.get(at, (None, fit.error))
        if own is None or error is not None:
            out.append(_failure(recipe, fit_error_text(key, error), fit.ms))
        elif np.isnan(own).any():
            out.append(_failure(recipe, not_finite_error(key, None).cause, fit.ms))
        else:
            out.append(RefitResult(recipe.estimator, own, None, fit.ms))
    return out


def _failure(recipe: Recipe, error: str, ms: float = 0.0) -> RefitResult:
    return RefitResult(recipe.estimator, None, error, ms)


def as_metrics(refit: RefitRequest, found: RefitResult) -> dict[str, Any]:
    """The entry `refitted` of a fit's metrics."""
    return {"estimator": found.estimator, "recipe_id": refit.recipe_id}
