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
from spinney.core.training.estimators import kernel_for
from spinney.core.training.held_out_loss import Rows, losses, mean, no_answer, split
from spinney.core.training.kernels import Timer
from spinney.core.training.loss import loss_named
from spinney.core.training.training_rows import History


@dataclass(frozen=True)
class Watched:
    """A group whose challenger was measured.

    stop: end of the rows that the challenger was fitted on. places: positions of the rows that it was measured on.
    """

    g: int
    stop: int
    places: Integers


def measure(
    history: History, watched: Sequence[Watched], shadow: Shadow, timer: Timer
) -> list[tuple[dict[str, Any], float]]:
    """The entry `shadow` of each group's metrics, and its milliseconds.

    The entry has estimator, recipe_id, and either loss and rows or error.
    """
    names = {"estimator": shadow.recipe.estimator, "recipe_id": shadow.recipe.recipe_id}
    known = {history.keys[each.g]: shadow.given_up for each in watched if shadow.given_up} | dict(shadow.spoiled)
    trusted = [each for each in watched if history.keys[each.g] not in known]
    try:
        with current_group.said_as(current_group.SHADOW):
            current_group.begin(None, current_group.FIT)
            measured = _measured(history, trusted, shadow.recipe, timer) if trusted else []
    except Exception as error:  # the estimator as a whole fails: no such name, or parameters it does not take
        measured = [({"error": fit_error_text(history.keys[each.g], error)}, 0.0) for each in trusted]
    found = {each.g: said for each, said in zip(trusted, measured, strict=True)}
    of_all = [found.get(each.g, ({"error": known.get(history.keys[each.g])}, 0.0)) for each in watched]
    return [(names | said, ms) for said, ms in of_all]


def _measured(
    history: History, watched: Sequence[Watched], recipe: Recipe, timer: Timer
) -> list[tuple[dict[str, Any], float]]:
    kernel, loss = kernel_for(recipe.estimator, recipe.task, recipe.arguments), loss_named(recipe.loss)
    stops = np.array([each.stop for each in watched], dtype=np.int64)
    current_group.begin(None, current_group.FIT)
    fits = kernel.fit(history.stack([each.g for each in watched], stops, recipe), timer)
    said: list[dict[str, Any]] = [
        {} if fit.model else {"error": fit_error_text(history.keys[each.g], fit.error)}
        for each, fit in zip(watched, fits, strict=True)
    ]
    able = [at for at, fit in enumerate(fits) if fit.model is not None]
    which = np.repeat(np.arange(len(able)), [len(watched[at].places) for at in able])
    places = np.concatenate([watched[at].places for at in able]) if able else np.empty(0, dtype=np.int64)
    models = [fit.model for fit in fits if fit.model is not None]

    def begin(at: int) -> None:
        current_group.begin(history.keys[watched[able[at]].g], current_group.ASK)

    of_all, errors = losses(history, models, Rows(places, which), loss, begin)
    for nth, own in enumerate(split(of_all, which)):
        if np.isnan(own).any():
            raised = errors.get(nth)
            key = history.keys[watched[able[nth]].g]
            said[able[nth]]["error"] = fit_error_text(key, raised) if raised else no_answer(key, None).cause
        else:
            said[able[nth]] |= {"loss": mean(own), "rows": len(own)}
    return [(of, fit.ms) for of, fit in zip(said, fits, strict=True)]
