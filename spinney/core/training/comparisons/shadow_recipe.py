"""Fit a shadow recipe on a challenger's older rows and measure it on the rows the challenger was measured on.

Its models are discarded. It runs after the group's own fit and cannot change it: its errors are texts in the metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spinney.core.errors import fit_error_text
from spinney.core.features.encoding import Integers
from spinney.core.recipes.recipe import Recipe, Shadow
from spinney.core.training import current_group
from spinney.core.training.comparisons.held_out_loss import (
    RowsToPredict,
    finite_mean,
    not_finite_error,
    row_losses,
    split_by_group,
)
from spinney.core.training.estimators import kernel_for
from spinney.core.training.fit_kernels import Timer
from spinney.core.training.loss import loss_named
from spinney.core.training.training_set import TrainingSet


@dataclass(frozen=True)
class ShadowedGroup:
    """A group whose challenger was measured.

    stop: end of the rows that the challenger was fitted on. places: positions of the rows that it was measured on.
    """

    group_index: int
    stop: int
    places: Integers


def measure_shadow(
    training_set: TrainingSet, watched: Sequence[ShadowedGroup], shadow: Shadow, timer: Timer
) -> list[tuple[dict[str, Any], float]]:
    """Return, for each group, the entry `shadow` of its metrics and the milliseconds that the shadow took.

    The entry has estimator, recipe_id, and either loss and rows or error.
    """
    names = {"estimator": shadow.recipe.estimator, "recipe_id": shadow.recipe.recipe_id}
    known_errors = {
        training_set.keys[group.group_index]: shadow.disabled_reason for group in watched if shadow.disabled_reason
    } | dict(shadow.failed_groups)
    trusted = [group for group in watched if training_set.keys[group.group_index] not in known_errors]
    try:
        with current_group.reported_as(current_group.SHADOW):
            current_group.report(None, current_group.FIT)
            measured = _fit_and_measure(training_set, trusted, shadow.recipe, timer) if trusted else []
    except Exception as error:  # the estimator as a whole fails: no such name, or parameters it does not take
        measured = [({"error": fit_error_text(training_set.keys[group.group_index], error)}, 0.0) for group in trusted]
    entries = {group.group_index: entry for group, entry in zip(trusted, measured, strict=True)}
    results = [
        entries.get(group.group_index, ({"error": known_errors.get(training_set.keys[group.group_index])}, 0.0))
        for group in watched
    ]
    return [(names | entry, ms) for entry, ms in results]


def _fit_and_measure(
    training_set: TrainingSet, watched: Sequence[ShadowedGroup], recipe: Recipe, timer: Timer
) -> list[tuple[dict[str, Any], float]]:
    kernel, loss = kernel_for(recipe.estimator, recipe.task, recipe.arguments), loss_named(recipe.loss)
    stops = np.array([group.stop for group in watched], dtype=np.int64)
    current_group.report(None, current_group.FIT)
    fits = kernel.fit(training_set.kernel_input([group.group_index for group in watched], stops, recipe), timer)
    entries: list[dict[str, Any]] = [
        {} if fit.model else {"error": fit_error_text(training_set.keys[group.group_index], fit.error)}
        for group, fit in zip(watched, fits, strict=True)
    ]
    fitted = [at for at, fit in enumerate(fits) if fit.model is not None]
    row_model = np.repeat(np.arange(len(fitted)), [len(watched[at].places) for at in fitted])
    places = np.concatenate([watched[at].places for at in fitted]) if fitted else np.empty(0, dtype=np.int64)
    models = [fit.model for fit in fits if fit.model is not None]

    def begin(at: int) -> None:
        current_group.report(training_set.keys[watched[fitted[at]].group_index], current_group.PREDICT)

    all_losses, errors = row_losses(training_set, models, RowsToPredict(places, row_model), loss, begin)
    for model_index, own_losses in enumerate(split_by_group(all_losses, row_model)):
        if np.isnan(own_losses).any():
            raised = errors.get(model_index)
            key = training_set.keys[watched[fitted[model_index]].group_index]
            entries[fitted[model_index]]["error"] = (
                fit_error_text(key, raised) if raised else not_finite_error(key, None).cause
            )
        else:
            entries[fitted[model_index]] |= {"loss": finite_mean(own_losses), "rows": len(own_losses)}
    return [(entry, fit.ms) for entry, fit in zip(entries, fits, strict=True)]
