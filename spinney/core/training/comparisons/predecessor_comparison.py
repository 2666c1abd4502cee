"""Compare champions with the models that they replaced, on the rows that are newer than the champion.

Neither model has seen these rows: all of them count, not only the held-out ones. Each is a forecast made before its row
came, so the mean difference is prequential (A. P. Dawid, Statistical theory: the prequential approach, J. R. Statist.
Soc. A 147, 1984). The gate decides by it whether the champion is withdrawn
(`spinney.core.champions.predecessor_watch`), and over the groups that were drawn at random it is the gain from
retraining (`spinney.core.reporting.retraining_gain`).

Metrics that are added to an attempt, none where nothing was compared:

predecessor_id         the model that would answer if the champion were withdrawn
watched_rows           rows newer than the champion that both models predict
watched_champion_loss, predecessor_loss
                       mean losses on them
watched_difference, watched_difference_se
                       mean of champion loss - predecessor loss with cut sizes, its raised standard error, null for one
                       row: see `spinney.core.champions.symmetry_test`
against_predecessor    of those held-out rows on which the challenger was compared with the champion: rows,
                       challenger_loss, predecessor_loss, difference, difference_se, as for the champion
predecessor_error      why it was not compared
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spinney.core.champions.paired_test import winsorized_differences
from spinney.core.champions.symmetry_test import cut_differences
from spinney.core.errors import MAX_ERROR_CHARACTERS, SpinneyError
from spinney.core.features.encoding import NULL_TIME, Floats, Integers
from spinney.core.models.model import Model
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Recipe
from spinney.core.training import current_group
from spinney.core.training.champion_model import load_champion
from spinney.core.training.comparisons.held_out_loss import (
    RowsToPredict,
    finite_or_none,
    mean_per_group,
    measure_models,
    rows_of_columns,
)
from spinney.core.training.fit_attempt import FitAttempt, reporter
from spinney.core.training.loss import loss_named
from spinney.core.training.training_set import TrainingSet, concatenated_ranges


def compare_predecessors(
    training_set: TrainingSet, attempts: Sequence[FitAttempt], recipe: Recipe, signer: Signer
) -> None:
    """Add the metrics of this module to the attempts whose champion has a predecessor and newer rows.

    attempts: of groups of the training set, with the rows on which the challenger was compared. Never raises because of
    a model: `predecessor_error` says why one was not compared.
    """
    watched = [attempt for attempt in attempts if _newer_rows(training_set, attempt) > 0]
    if recipe.predecessor_error is not None:
        for attempt in watched:
            attempt.metrics["predecessor_error"] = recipe.predecessor_error[:MAX_ERROR_CHARACTERS]
        return
    with current_group.reported_as(current_group.PREDECESSOR):
        pairs = [pair for attempt in watched if (pair := _load_pair(attempt, recipe, signer)) is not None]
        if pairs:
            _compare(training_set, pairs, recipe)


@dataclass(frozen=True)
class _Pair:
    """An attempt with its champion and the champion's predecessor."""

    attempt: FitAttempt
    champion: Model
    predecessor: Model


def _newer_rows(training_set: TrainingSet, attempt: FitAttempt) -> int:
    """Number of the group's rows that are newer than its champion, if that has a predecessor; else 0."""
    request = attempt.request
    if request.predecessor is None or request.champion_id is None or request.trained_through == NULL_TIME:
        return 0
    begin, stop = training_set.starts[attempt.group_index : attempt.group_index + 2].tolist()
    return int(stop - begin - np.searchsorted(training_set.times[begin:stop], request.trained_through, side="right"))


def _load_pair(attempt: FitAttempt, recipe: Recipe, signer: Signer) -> _Pair | None:
    """Verify and load both models; None, with the reason in the metrics, if that fails."""
    current_group.report(attempt.request.group_key, current_group.PREDECESSOR)
    try:
        champion = load_champion(attempt.request, recipe, signer)
        return _Pair(attempt, champion, load_champion(attempt.request.for_predecessor(), recipe, signer))
    except SpinneyError as error:
        attempt.metrics["predecessor_error"] = str(error)[:MAX_ERROR_CHARACTERS]
        return None


def _compare(training_set: TrainingSet, pairs: Sequence[_Pair], recipe: Recipe) -> None:
    """Measure both models of each pair on the rows newer than the champion."""
    stops = training_set.starts[[pair.attempt.group_index + 1 for pair in pairs]]
    counts = np.array([_newer_rows(training_set, pair.attempt) for pair in pairs], dtype=np.int64)
    rows = RowsToPredict(concatenated_ranges(stops - counts, stops), np.repeat(np.arange(len(pairs)), counts))
    champion = _losses(training_set, pairs, [pair.champion for pair in pairs], rows, recipe.loss)
    predecessor = _losses(training_set, pairs, [pair.predecessor for pair in pairs], rows, recipe.loss)
    measured = np.isfinite(champion) & np.isfinite(predecessor)
    places, owner = rows.places[measured], rows.model_index[measured]
    ends = np.cumsum(np.bincount(owner, minlength=len(pairs)))
    metrics = _watch_metrics(champion[measured], predecessor[measured], np.diff(ends, prepend=0))
    per_pair = zip(pairs, metrics, np.split(places, ends[:-1]), np.split(predecessor[measured], ends[:-1]), strict=True)
    for pair, found, own_places, own_losses in per_pair:
        if not len(own_places):
            pair.attempt.metrics["predecessor_error"] = "one of both models predicts no row newer than the champion"
            continue
        assert pair.attempt.request.predecessor is not None, "loaded"
        pair.attempt.metrics |= {"predecessor_id": pair.attempt.request.predecessor.model_id, **found}
        pair.attempt.metrics |= _against_predecessor(pair.attempt, own_places, own_losses)


def _losses(
    training_set: TrainingSet, pairs: Sequence[_Pair], models: Sequence[Model], rows: RowsToPredict, loss: str
) -> Floats:
    """The loss of each row by its pair's model; NaN where it has no finite prediction."""
    on_begin = reporter([pair.attempt for pair in pairs], current_group.PREDECESSOR)
    return measure_models(training_set, dict(enumerate(models)), rows, loss_named(loss), on_begin).losses


def _watch_metrics(champion: Floats, predecessor: Floats, counts: Integers) -> list[dict[str, Any]]:
    """The metrics of the watched rows of each pair. champion, predecessor: losses of each row."""
    differences, errors = cut_differences(champion - predecessor, counts)
    columns = {
        "watched_rows": counts.tolist(),
        "watched_champion_loss": mean_per_group(champion, counts),
        "predecessor_loss": mean_per_group(predecessor, counts),
        "watched_difference": finite_or_none(differences),
        "watched_difference_se": finite_or_none(errors),
    }
    return rows_of_columns(columns)


def _against_predecessor(attempt: FitAttempt, places: Integers, losses: Floats) -> dict[str, Any]:
    """The challenger against the predecessor; empty if no row has a loss of both.

    places, losses: positions of the rows with a loss of the predecessor, and these losses.
    """
    if attempt.compared_places is None or attempt.compared_losses is None:
        return {}
    _, own, others = np.intersect1d(attempt.compared_places, places, assume_unique=True, return_indices=True)
    if not len(own):
        return {}
    challenger, predecessor, counts = attempt.compared_losses[own], losses[others], np.array([len(own)])
    difference, error = winsorized_differences(challenger - predecessor, counts)
    values = {
        "rows": len(own),
        "challenger_loss": mean_per_group(challenger, counts)[0],
        "predecessor_loss": mean_per_group(predecessor, counts)[0],
        "difference": finite_or_none(difference)[0],
        "difference_se": finite_or_none(error)[0],
    }
    return {"against_predecessor": values}
