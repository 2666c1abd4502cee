"""Compare a challenger with its champion and with a constant on held-out rows; the results are metrics of the fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spinney.core.champions.paired_test import winsorized_differences
from spinney.core.features.encoding import Floats, Integers
from spinney.core.training.baseline import constant_losses
from spinney.core.training.held_out_loss import (
    MeasuredRows,
    RowsToPredict,
    finite_or_none,
    mean_per_group,
    rows_of_columns,
)
from spinney.core.training.loss import Loss
from spinney.core.training.prediction_jump import group_spreads, prediction_jumps
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


def comparison_metrics(older: OlderRows, rows: ComparedRows, loss: Loss) -> list[dict[str, Any]]:
    """Return, for each group, the metrics of the comparison, as `fit_groups` lists them.

    A metric is None without rows, or if it is not finite.
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
    columns["jump"] = (
        [None] * len(rows.counts) if loss.task == "classification" else finite_or_none(_jumps(older, rows))
    )
    return rows_of_columns(columns)


def _jumps(older: OlderRows, rows: ComparedRows) -> Floats:
    labels = older.training_set.labels
    has_champion = np.isfinite(rows.champion.predictions)
    group_of_row = np.repeat(np.arange(len(rows.counts)), rows.counts)[has_champion]
    predicted = rows.champion.predictions[has_champion]
    counts = np.bincount(group_of_row, minlength=len(rows.counts))
    spreads = np.full(len(counts), np.nan)
    compared = np.flatnonzero(counts)
    if len(compared):
        sizes = older.stops[compared] - older.begins[compared]
        older_labels = labels[concatenated_ranges(older.begins[compared], older.stops[compared])].astype(np.float64)
        spreads[compared] = group_spreads(older_labels, sizes)
    residuals = labels[rows.places[has_champion]].astype(np.float64) - predicted
    return prediction_jumps(residuals, rows.challenger.predictions[has_champion] - predicted, counts, spreads)
