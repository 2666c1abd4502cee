"""Compare first models with their parents' champions, which answer for the groups until then.

Only held-out rows that are newer than the parent's champion are compared. The champion may have been fitted on older
ones, which would favour it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.vocabulary import ESTIMATED
from spinney.core.champions.paired_test import winsorized_differences
from spinney.core.errors import MAX_ERROR_CHARACTERS
from spinney.core.features.encoding import Floats, Integers
from spinney.core.training import current_group
from spinney.core.training.comparisons.held_out_loss import (
    RowsToPredict,
    finite_or_none,
    mean_per_group,
    measure_models,
    rows_of_columns,
)
from spinney.core.training.comparisons.held_out_rows import seen_through
from spinney.core.training.fit_attempt import FitAttempt, reporter
from spinney.core.training.fit_request import FitRequest
from spinney.core.training.loaded_parent_models import ParentModels
from spinney.core.training.loss import Loss
from spinney.core.training.training_set import TrainingSet

NOTHING_NEWER = "no held-out row is newer than the parent's model"
NO_ANSWER = "the parent's model gave no finite prediction for the held-out rows"


@dataclass(frozen=True)
class _FirstModels:
    """Challengers of groups without a champion whose parents have one, and their held-out rows.

    parents: each attempt's parent. rows: positions of the held-out rows, and the index of each one's attempt,
    ascending. losses: the challengers' losses on these rows.
    """

    attempts: Sequence[FitAttempt]
    parents: Sequence[FitRequest]
    rows: RowsToPredict
    losses: Floats

    @classmethod
    def of(cls, attempts: Sequence[FitAttempt]) -> _FirstModels:
        """Return the first models among these attempts that have a parent's champion."""
        first = [
            (attempt, attempt.request.parent, attempt.compared_places, attempt.compared_losses)
            for attempt in attempts
            if attempt.request.champion_id is None and attempt.request.parent is not None
        ]
        found = [
            (attempt, parent, rows, own) for attempt, parent, rows, own in first if rows is not None and own is not None
        ]
        owners = np.repeat(np.arange(len(found)), [len(rows) for _, _, rows, _ in found])
        places = np.concatenate([np.empty(0, dtype=np.int64), *(rows for _, _, rows, _ in found)])
        losses = np.concatenate([np.empty(0), *(own for _, _, _, own in found)])
        attempts_and_parents = [attempt for attempt, *_ in found], [parent for _, parent, *_ in found]
        return cls(*attempts_and_parents, RowsToPredict(places, owners), losses)


def compare_with_parents(
    training_set: TrainingSet, attempts: Sequence[FitAttempt], parents: ParentModels, loss: Loss
) -> None:
    """Add the metric `parent` to each attempt of a group that has no champion and whose parent has one.

    The metric is a mapping. `model_id` and `group_key`: of the parent's champion. `pooling`: ESTIMATED if the first
    model is pooled with it by estimated weights. `rows`: number of compared rows. If there are any: `challenger_loss`
    and `loss` (of the parent's champion), mean losses; `difference` and `difference_se`, as in
    `winsorized_differences`. If there are none: `error`, the reason. attempts: with the held-out rows on which the
    challenger was measured.
    """
    first = _FirstModels.of(attempts)
    which, n_attempts = first.rows.model_index, len(first.attempts)
    seen_until = np.array([seen_through(parent) for parent in first.parents], dtype=np.int64)
    is_newer = training_set.times[first.rows.places] > seen_until[which]
    losses = _parent_losses(training_set, first, np.flatnonzero(is_newer), parents, loss)
    both = np.isfinite(losses) & np.isfinite(first.losses)
    counts = np.bincount(which[both], minlength=n_attempts)
    has_newer = np.bincount(which[is_newer], minlength=n_attempts) > 0
    found = _comparisons(first.losses[both], losses[both], counts)
    for at, (attempt, parent) in enumerate(zip(first.attempts, first.parents, strict=True)):
        why = parents.why_unmeasured(str(parent.champion_id))
        unmeasured = why or (NO_ANSWER if has_newer[at] else NOTHING_NEWER)
        named = {"model_id": parent.champion_id, "group_key": parent.group_key, "rows": int(counts[at])}
        if attempt.has_estimated_prior:
            named["pooling"] = ESTIMATED
        attempt.metrics["parent"] = named | (found[at] if counts[at] else {"error": unmeasured[:MAX_ERROR_CHARACTERS]})


def _parent_losses(
    training_set: TrainingSet, first: _FirstModels, rows: Integers, parents: ParentModels, loss: Loss
) -> Floats:
    """Shape (n_rows,): the parents' losses on these held-out rows, by position; NaN elsewhere and without a number."""
    ids = [str(parent.champion_id) for parent in first.parents]
    attempt_of = dict(zip(ids, first.attempts, strict=True))  # of each parent one of its groups, to be reported
    index_of = {name: index for index, name in enumerate(attempt_of)}
    models = {
        index: parents.models[name]
        for name, index in index_of.items()
        if name in parents.models and name not in parents.unasked
    }
    model_index = np.array([index_of[name] for name in ids], dtype=np.int64)[first.rows.model_index[rows]]
    on_begin = reporter(list(attempt_of.values()), current_group.PREDICT_PARENT)
    wanted = RowsToPredict(first.rows.places[rows], model_index)
    out = np.full(len(first.losses), np.nan)
    out[rows] = measure_models(training_set, models, wanted, loss, on_begin).losses
    return out


def _comparisons(own: Floats, theirs: Floats, counts: Integers) -> list[dict[str, Any]]:
    """The result of each attempt's rows. counts: shape (attempts,), rows of each."""
    differences, errors = winsorized_differences(own - theirs, counts)
    columns: dict[str, list[float | None]] = {
        "challenger_loss": mean_per_group(own, counts),
        "loss": mean_per_group(theirs, counts),
        "difference": finite_or_none(differences),
        "difference_se": finite_or_none(errors),
    }
    return rows_of_columns(columns)
