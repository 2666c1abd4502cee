"""The predictions for a group's events with the labels that arrived for them."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class IntervalCoverage:
    """Coverage of prediction intervals.

    rows: answers with an interval and a label. covered: those whose label is inside.
    """

    rows: int
    covered: int


def with_late_labels(answers: pa.Table, outcomes: pa.Table) -> pa.Table:
    """Return the answers with `label` filled from outcomes where the event itself had none.

    answers: of one group, with event_id and label. outcomes: of the same group, with event_id and label of a type that
    can be cast to that of the answers. Of several outcomes for one event, the first row counts.
    """
    position = pc.index_in(answers.column("event_id"), value_set=outcomes.column("event_id").combine_chunks())
    labels = answers.column("label")
    late = outcomes.column("label").combine_chunks().cast(labels.type).take(position)
    at = answers.column_names.index("label")
    return answers.set_column(at, "label", pc.coalesce(labels, late))


def interval_coverage(answers: pa.Table) -> IntervalCoverage | None:
    """Return how many labels are within their interval, ends included; None where no answer has both.

    answers: with lower, upper and label. Labels that are not numbers have no interval.
    """
    lower, upper, label = (answers.column(name) for name in ("lower", "upper", "label"))
    if not pa.types.is_floating(label.type):
        return None
    inside = pc.and_(pc.less_equal(lower, label), pc.less_equal(label, upper))  # null unless all three are known
    rows = len(inside) - inside.null_count
    return IntervalCoverage(rows, int(pc.sum(inside).as_py())) if rows else None
