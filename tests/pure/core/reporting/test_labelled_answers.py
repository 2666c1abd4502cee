from __future__ import annotations

import pyarrow as pa

from spinney.core.reporting.labelled_answers import IntervalCoverage, interval_coverage, with_late_labels


def test_a_label_that_came_late_is_put_beside_its_answer_and_never_replaces_one() -> None:
    answers = pa.table({"event_id": ["e1", "e2", "e3"], "label": pa.array([None, 5.0, None], pa.float64())})
    outcomes = pa.table({"event_id": ["e2", "e1", "e1"], "label": pa.array([9, 7, 8], pa.int64())})
    assert with_late_labels(answers, outcomes).column("label").to_pylist() == [7.0, 5.0, None]


def test_coverage_counts_labels_within_their_interval_ends_included() -> None:
    numbers = {
        "lower": [1.0, 1.0, 1.0, None, 1.0],
        "upper": [2.0, 2.0, 2.0, 2.0, 2.0],
        "label": [1.0, 2.0, 2.1, 1.5, None],
    }
    assert interval_coverage(pa.table(numbers)) == IntervalCoverage(rows=3, covered=2)


def test_without_intervals_or_with_classes_there_is_no_coverage() -> None:
    nothing = pa.nulls(1, pa.float64())
    assert interval_coverage(pa.table({"lower": nothing, "upper": nothing, "label": [1.0]})) is None
    assert interval_coverage(pa.table({"lower": nothing, "upper": nothing, "label": ["yes"]})) is None
