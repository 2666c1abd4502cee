"""Compare a challenger with its champion and with a constant on held-out rows; the results are metrics of the fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spinney.core.champions.paired_test import winsorized_differences
from spinney.core.features.encoding import Floats, Integers
from spinney.core.training.comparisons.baseline import constant_losses
from spinney.core.training.comparisons.held_out_loss import (
    MeasuredRows,
    RowsToPredict,
    finite_or_none,
    mean_per_group,
    rows_of_columns,
    split_by_count,
)
from spinney.core.training.comparisons.prediction_jump import group_spreads, jump_spreads, jumps_in_spreads
from spinney.core.training.loss import Loss
from spinney.core.training.training_set import TrainingSet, concatenated_ranges


@dataclass(frozen=True)
class OlderRows:
    """The rows of each group before its held-out ones: from begins to before stops, each of shape (groups,)."""

    training_set: TrainingSet
    begins: Integers
    stops: Integers


@dataclass(frozen=True)
class ComparedRows:
    """The held-out rows on which challengers are compared, those of the first group first.

    places: shape (n_rows,), positions in the TrainingSet. counts: shape (groups,), rows of each group. champion: the
    champions' losses; NaN for a group without one.
    """

    places: Integers
    counts: Integers
    challenger: MeasuredRows
    champion: MeasuredRows


@dataclass(frozen=True)
class ChampionAnswers:
    """A champion's predictions for the compared rows, and the jump of the measured challenger from them.

    places: positions in the TrainingSet of the rows that the champion predicts. spread: unit of the jump; NaN if it is
    zero. jump: None without rows or a spread.
    """

    places: Integers
    predictions: Floats
    spread: float
    jump: float | None


def comparison_metrics(older: OlderRows, rows: ComparedRows, loss: Loss) -> list[dict[str, Any]]:
    """Return, for each group, the metrics of the comparison, as `fit_groups` lists them.

    A metric is None without rows, or if it is not finite. `jump` is not among them: see `ChampionAnswers`.
    """
    group_of_row = np.repeat(np.arange(len(rows.counts)), rows.counts)
    constant = constant_losses(
        older.training_set, older.begins, older.stops, RowsToPredict(rows.places, group_of_row), loss
    )
    columns: dict[str, list[Any]] = {
        "heldout_rows": rows.counts.tolist(),
        "challenger_loss": mean_per_group(rows.challenger.losses, rows.counts),
    }
    for name, losses in (("champion", rows.champion.losses), ("constant", constant)):
        differences, errors = winsorized_differences(rows.challenger.losses - losses, rows.counts)
        columns[f"{name}_loss"] = mean_per_group(losses, rows.counts)
        columns[f"{name}_difference"] = finite_or_none(differences)
        columns[f"{name}_difference_se"] = finite_or_none(errors)
    return rows_of_columns(columns)


def champion_answers(older: OlderRows, rows: ComparedRows) -> list[ChampionAnswers]:
    """Return the answers of each group's champion to the compared rows, for regression."""
    labels = older.training_set.labels
    has_champion = np.isfinite(rows.champion.predictions)
    group_of_row = np.repeat(np.arange(len(rows.counts)), rows.counts)[has_champion]
    places, predicted = rows.places[has_champion], rows.champion.predictions[has_champion]
    counts = np.bincount(group_of_row, minlength=len(rows.counts))
    label_spreads = np.full(len(counts), np.nan)
    compared = np.flatnonzero(counts)
    if len(compared):
        sizes = older.stops[compared] - older.begins[compared]
        older_labels = labels[concatenated_ranges(older.begins[compared], older.stops[compared])].astype(np.float64)
        label_spreads[compared] = group_spreads(older_labels, sizes)
    spreads = jump_spreads(labels[places].astype(np.float64) - predicted, counts, label_spreads)
    jumps = finite_or_none(jumps_in_spreads(rows.challenger.predictions[has_champion] - predicted, counts, spreads))
    split = split_by_count(places, counts), split_by_count(predicted, counts)
    return [ChampionAnswers(*of_group) for of_group in zip(*split, spreads.tolist(), jumps, strict=True)]


def greater_jumps(answers: Sequence[ChampionAnswers], predictions: Sequence[Floats]) -> list[float | None]:
    """Return the jump of each stored model from its champion, or of the measured one, if that is greater.

    predictions: of each stored model, for the rows of the answers.
    """
    counts = np.array([len(of_group.places) for of_group in answers], dtype=np.int64)
    spreads = np.array([of_group.spread for of_group in answers], dtype=np.float64)
    steps = [mine - of_group.predictions for mine, of_group in zip(predictions, answers, strict=True)]
    stored = finite_or_none(jumps_in_spreads(np.concatenate([np.empty(0), *steps]), counts, spreads))
    pairs = [(of_group.jump, jump) for of_group, jump in zip(answers, stored, strict=True)]
    return [first if first is None or second is None else max(first, second) for first, second in pairs]
