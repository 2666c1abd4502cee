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
from spinney.core.training.comparisons.held_out_loss import RowsToPredict, not_finite_error, row_losses, split_by_group
from spinney.core.training.estimators import kernel_for
from spinney.core.training.fit_kernels import KernelResult, Timer
from spinney.core.training.loss import Loss
from spinney.core.training.training_set import TrainingSet

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class RefitRequest:
    """A group to fit again by the recipe `recipe_id`.

    stop: position of the group's oldest held-out row. places: positions of the rows to measure on.
    """

    group_index: int
    recipe_id: str
    stop: int
    places: Integers


@dataclass(frozen=True)
class RefitResult:
    """The result of a RefitRequest. losses: one for each of its `places`; None if it failed, then `error` says why."""

    estimator: str
    losses: Floats | None
    error: str | None
    elapsed_ms: float


def refit_and_measure(
    training_set: TrainingSet,
    refits: Sequence[RefitRequest],
    recipes: Mapping[str, Recipe],
    loss: Loss,
    timer: Timer,
    known_error: str | None = None,
) -> list[RefitResult]:
    """Fit each group's earlier recipe and measure its losses on the held-out rows. Never raises.

    recipes: by recipe_id. loss: the loss that challengers are measured by; an earlier recipe's own loss is used only
    for its fit. known_error: if given, nothing is fitted and each result has this error.
    """
    if known_error is not None:
        return [_failure(recipes[request.recipe_id], known_error) for request in refits]
    results: dict[int, RefitResult] = {}
    for name in dict.fromkeys(request.recipe_id for request in refits):
        requests = [request for request in refits if request.recipe_id == name]
        try:
            with current_group.reported_as(current_group.REFIT):
                current_group.report(None, current_group.FIT)
                measured = _measure_recipe(training_set, requests, recipes[name], loss, timer)
        except Exception as error:  # the recipe as a whole fails: no such estimator any more, or no such column
            measured = [
                _failure(recipes[name], fit_error_text(training_set.keys[request.group_index], error))
                for request in requests
            ]
        results |= {request.group_index: result for request, result in zip(requests, measured, strict=True)}
    return [results[request.group_index] for request in refits]


def _measure_recipe(
    training_set: TrainingSet, refits: Sequence[RefitRequest], recipe: Recipe, loss: Loss, timer: Timer
) -> list[RefitResult]:
    with_own_features = training_set.with_features(recipe.features)
    begins = np.array([_first_row(training_set, refit, recipe) for refit in refits], dtype=np.int64)
    stops = np.array([refit.stop for refit in refits], dtype=np.int64)
    fits: list[KernelResult | None] = [None] * len(refits)
    fittable = np.flatnonzero(begins < stops).tolist()
    if fittable:
        kernel = kernel_for(recipe.estimator, recipe.task, recipe.arguments)
        stack = with_own_features.kernel_input(
            [refits[index].group_index for index in fittable], stops[fittable], recipe, begins[fittable]
        )
        for index, fit in zip(fittable, kernel.fit(stack, timer), strict=True):
            fits[index] = fit
    losses_and_errors = _measure_fits(with_own_features, refits, fits, loss)
    return [
        _result(recipe, training_set.keys[refit.group_index], fit, losses_and_errors.get(index))
        for index, (refit, fit) in enumerate(zip(refits, fits, strict=True))
    ]


def _first_row(training_set: TrainingSet, refit: RefitRequest, recipe: Recipe) -> int:
    """Position of the first row that this recipe would have been fitted on when the oldest held-out row arrived."""
    begin, stop = int(training_set.starts[refit.group_index]), refit.stop
    if not is_parent(training_set.keys[refit.group_index]):
        begin = max(begin, stop - recipe.window_rows)
    oldest = int(training_set.times[stop]) - recipe.window // _MICROSECOND
    return begin + int(np.searchsorted(training_set.times[begin:stop], oldest, side="left"))


def _measure_fits(
    training_set: TrainingSet, refits: Sequence[RefitRequest], fits: Sequence[KernelResult | None], loss: Loss
) -> dict[int, tuple[Floats, Exception | None]]:
    """Return the losses of each fitted model on its request's rows, and what it raised, by the request's position."""
    fitted = [(index, fit.model) for index, fit in enumerate(fits) if fit is not None and fit.model is not None]
    row_model = np.repeat(np.arange(len(fitted)), [len(refits[index].places) for index, _ in fitted])
    places = np.concatenate([refits[index].places for index, _ in fitted]) if fitted else np.empty(0, dtype=np.int64)

    def begin(model_index: int) -> None:
        current_group.report(training_set.keys[refits[fitted[model_index][0]].group_index], current_group.PREDICT)

    rows = RowsToPredict(places, row_model)
    all_losses, raised = row_losses(training_set, [model for _, model in fitted], rows, loss, begin)
    by_model = enumerate(zip(fitted, split_by_group(all_losses, row_model), strict=True))
    return {index: (own_losses, raised.get(model_index)) for model_index, ((index, _), own_losses) in by_model}


def _result(
    recipe: Recipe, key: str, fit: KernelResult | None, measured: tuple[Floats, Exception | None] | None
) -> RefitResult:
    """Return the result of one group. measured: the losses of its model and what it raised; None without a model."""
    if fit is None:
        return _failure(recipe, "no row of its window lies before the held-out rows")
    own_losses, error = measured or (None, fit.error)
    if own_losses is None or error is not None:
        return _failure(recipe, fit_error_text(key, error), fit.ms)
    if np.isnan(own_losses).any():
        return _failure(recipe, not_finite_error(key, None).cause, fit.ms)
    return RefitResult(recipe.estimator, own_losses, None, fit.ms)


def _failure(recipe: Recipe, error: str, ms: float = 0.0) -> RefitResult:
    return RefitResult(recipe.estimator, None, error, ms)


def as_metrics(refit: RefitRequest, found: RefitResult) -> dict[str, Any]:
    """Return the entry `refitted` of a fit's metrics."""
    return {"estimator": found.estimator, "recipe_id": refit.recipe_id}
