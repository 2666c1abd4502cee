"""The numbers of one group: its error over time, its newest answers beside their labels, how its intervals held."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from schemas import tables
from spinney.core import timestamps
from spinney.core.champions.fleet_champion_selection import integer_values
from spinney.core.reporting.labelled_answers import IntervalCoverage, interval_coverage, with_late_labels
from spinney.core.reporting.loss_names import error_label
from spinney.storage import charter
from spinney.storage.layout import FleetStore
from spinney.tables import lookup
from spinney.tables.readers import error_history

POINTS = 60
"""Largest number of points of the error over time."""

ANSWERS = 200
"""Largest number of answers that are shown: the newest."""

OUTCOMES = 2_000
"""Number of newest outcomes that are searched for the labels of these answers."""

_ANSWER = ("event_id", "event_time", "prediction", "lower", "upper", "label", "model_id", "answered_by", "scored_at")


@dataclass(frozen=True)
class ErrorPoint:
    """The mean error of a group over an interval of event time that begins at `at`. labelled: rows with a label."""

    at: datetime
    labelled: int
    mean: float


@dataclass(frozen=True)
class GroupFigures:
    """The figures of a group beside its history. The field names are those of the page's JSON.

    error_label: what the error measures. answers: the newest first, with the label where one came.
    """

    group_key: str
    error_label: str
    errors: tuple[ErrorPoint, ...]
    answers: tuple[dict[str, Any], ...]
    coverage: IntervalCoverage | None


def read_group_figures(store: FleetStore, group_key: str) -> GroupFigures:
    """Return the figures of a group or parent; empty where nothing is stored of it. Raises StoreError."""
    answers = _read_answers(store, group_key)
    return GroupFigures(
        group_key=group_key,
        error_label=error_label(charter.losses_of(store)),
        errors=mean_errors(error_history.read_group_errors(store, group_key), POINTS),
        answers=tuple(lookup.to_dicts(answers)),
        coverage=interval_coverage(answers),
    )


def mean_errors(rows: pa.Table, points: int) -> tuple[ErrorPoint, ...]:
    """Return the mean error per interval of event time, oldest first; intervals without a label are left out.

    rows: labelled, loss and last_event_time, as `read_group_errors` returns them. points: number of intervals.
    """
    if not len(rows):
        return ()
    at, labelled = integer_values(rows, "last_event_time"), integer_values(rows, "labelled")
    first = int(at.min())
    width = max(-(-(int(at.max()) - first + 1) // points), 1)
    bucket = (at - first) // width
    count = np.bincount(bucket, labelled, points)
    loss = np.bincount(bucket, np.asarray(rows.column("loss"), dtype=np.float64), points)
    filled = np.flatnonzero(count).tolist()
    times = {place: timestamps.from_microseconds(first + width * place) for place in filled}
    return tuple(ErrorPoint(times[place], int(count[place]), float(loss[place] / count[place])) for place in filled)


def _read_answers(store: FleetStore, group_key: str) -> pa.Table:
    """The newest answers, the newest first, with the labels that came late."""
    (condition,) = lookup.RowFilter.of_groups([group_key]).conditions(store.fleet.shards)
    answers = lookup.read_newest(store, tables.PREDICTIONS, _ANSWER, "event_time", ANSWERS, condition)
    outcomes = lookup.read_newest(
        store, tables.OUTCOMES, ("event_id", "label", "observed_at"), "observed_at", OUTCOMES, condition
    )
    return with_late_labels(answers, outcomes)
