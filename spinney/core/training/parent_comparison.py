"""First models compared with their parents' champions, which answer for their groups until then.

Only held-out rows that are newer than the parent's champion are compared. It may have been fitted on the older ones,
which would favour it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spinney.core.champions.paired_test import winsorized_differences
from spinney.core.errors import MAX_ERROR_CHARACTERS
from spinney.core.features.encoding import Floats, Integers
from spinney.core.models.batch_scoring import NO_MODEL
from spinney.core.recipes.recipe import Feature
from spinney.core.training import current_group
from spinney.core.training.fit_attempt import FitAttempt, seen_through
from spinney.core.training.fit_request import FitRequest
from spinney.core.training.held_out_loss import RowsToPredict, mean_per_group, measure_rows
from spinney.core.training.loss import Loss
from spinney.core.training.parent_models import ParentModels
from spinney.core.training.training_set import TrainingSet

NOTHING_NEWER = "no held-out row is newer than the parent's model"
NO_ANSWER = "the parent's model gave no finite prediction for the held-out rows"

_Parents = Mapping[int, FitRequest]
"""Index of an attempt -> the parent, of the attempts that are compared."""


@dataclass(frozen=True)
class MeasuredChallengers:
    """Challengers on their held-out rows.

    rows: the held-out rows of all, each with the index of its attempt, ascending. losses: the challengers' on them.
    """

    attempts: Sequence[FitAttempt]
    rows: RowsToPredict
    losses: Floats


def compare_with_parents(
    training_set: TrainingSet, challengers: MeasuredChallengers, parents: ParentModels, loss: Loss
) -> None:
    """Add the metric `parent` to each attempt of a group that has no champion and whose parent has one.

    It has model_id and group_key of the parent's champion, and rows, the number of rows compared. If there are any:
    challenger_loss and loss, the means on them, and difference and difference_se, as of `winsorized_differences`. Else
    error: why not.
    """
    attempts, which = challengers.attempts, challengers.rows.model_index
    compared = {
        at: each.request.parent
        for at, each in enumerate(attempts)
        if each.request.champion_id is None and each.request.parent is not None
    }
    if not compared:
        return
    is_newer = _is_newer(training_set, challengers, compared)
    losses = _parent_losses(training_set, challengers, np.flatnonzero(is_newer), parents, loss)
    both = np.isfinite(losses) & np.isfinite(challengers.losses)
    counts = np.bincount(which[both], minlength=len(attempts))
    found = _comparisons(challengers.losses[both], losses[both], counts)
    has_newer = np.bincount(which[is_newer], minlength=len(attempts)) > 0
    for at, parent in compared.items():
        unmeasured = parents.errors.get(str(parent.champion_id), NO_ANSWER if has_newer[at] else NOTHING_NEWER)
        named = {"model_id": parent.champion_id, "group_key": parent.group_key, "rows": int(counts[at])}
        attempts[at].metrics["parent"] = named | (
            found[at] if counts[at] else {"error": unmeasured[:MAX_ERROR_CHARACTERS]}
        )


def _is_newer(training_set: TrainingSet, challengers: MeasuredChallengers, compared: _Parents) -> npt.NDArray[np.bool_]:
    """Shape (n_rows,): which held-out rows the parent's model was not fitted on; none of groups without a parent."""
    seen_until = np.full(len(challengers.attempts), np.iinfo(np.int64).max)
    seen_until[list(compared)] = [seen_through(parent) for parent in compared.values()]
    rows = challengers.rows
    newer: npt.NDArray[np.bool_] = training_set.times[rows.places] > seen_until[rows.model_index]
    return newer


def _parent_losses(
    training_set: TrainingSet, challengers: MeasuredChallengers, rows: Integers, parents: ParentModels, loss: Loss
) -> Floats:
    """Shape (n_rows,): the parents' losses on these held-out rows, by position; NaN elsewhere and without a number."""
    attempts, held = challengers.attempts, challengers.rows
    owners = held.model_index[rows]
    out = np.full(len(held.places), np.nan)
    ids = ["" if each.request.parent is None else str(each.request.parent.champion_id) for each in attempts]
    for features, names in _by_features(parents).items():
        index = {name: at for at, name in enumerate(names)}
        model_index = np.array([index.get(name, NO_MODEL) for name in ids], dtype=np.int64)[owners]
        asked = np.flatnonzero(model_index != NO_MODEL)
        reported = {name: each.request.group_key for name, each in zip(ids, attempts, strict=True)}
        out[rows[asked]] = measure_rows(
            training_set.with_features(features),
            [parents.models[name] for name in names],
            RowsToPredict(held.places[rows[asked]], model_index[asked]),
            loss,
            _reporter([reported[name] for name in names]),
        ).losses
    return out


def _by_features(parents: ParentModels) -> dict[tuple[Feature, ...], list[str]]:
    """The loaded models' ids by their features."""
    out: dict[tuple[Feature, ...], list[str]] = {}
    for name, model in parents.models.items():
        out.setdefault(model.encoder.features, []).append(name)
    return out


def _reporter(group_keys: Sequence[str]) -> Callable[[int], None]:
    return lambda at: current_group.report(group_keys[at], current_group.PREDICT_CHAMPION)


def _comparisons(own: Floats, theirs: Floats, counts: Integers) -> list[dict[str, Any]]:
    """What the rows of each attempt show. counts: shape (attempts,), rows of each."""
    differences, errors = winsorized_differences(own - theirs, counts)
    columns: dict[str, list[float | None]] = {
        "challenger_loss": mean_per_group(own, counts),
        "loss": mean_per_group(theirs, counts),
        "difference": [value if math.isfinite(value) else None for value in differences.tolist()],
        "difference_se": [value if math.isfinite(value) else None for value in errors.tolist()],
    }
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
