from __future__ import annotations

import pandas as pd
import pytest

from demo.interval_coverage import summarize_intervals
from demo.report_text import describe_intervals


def predicted(rows: list[tuple[str, float | None, float | None]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["event_id", "lower", "upper"])
    return frame.assign(group_key="a")


def labelled(*labels: float) -> pd.DataFrame:
    return pd.DataFrame({"group_key": "a", "event_id": [str(n) for n in range(len(labels))], "label": labels})


def test_labels_at_the_ends_are_inside_and_predictions_without_an_interval_are_counted_apart() -> None:
    rows = [("0", 1.0, 3.0), ("1", 1.0, 3.0), ("2", 1.0, 3.0), ("3", 0.0, 8.0), ("4", None, None), ("5", 0.0, 9.0)]
    found = summarize_intervals(predicted(rows), labelled(1.0, 3.0, 3.1, 4.0, 5.0), 0.9)
    # Inside are the first, second and fourth of four with an interval; widths 2, 2, 2 and 8. Event 5 has no label.
    assert found == {"nominal": 0.9, "rows": 5, "unbounded": pytest.approx(0.2), "covered": 0.75, "width": 3.5}
    assert describe_intervals({"intervals": found, "worth": {"unit": "kelvin"}}) == (
        "75.0 % of 5 labels within their interval (90 % intended), mean width 3.50 kelvin; 20.0 % without an interval"
    )


def test_an_event_that_was_answered_twice_counts_once_by_its_first_answer() -> None:
    found = summarize_intervals(predicted([("0", 0.0, 2.0), ("0", 5.0, 6.0)]), labelled(1.0), 0.9)
    assert found is not None
    assert (found["rows"], found["covered"]) == (1, 1.0)


def test_without_intervals_there_is_nothing_to_report() -> None:
    assert summarize_intervals(predicted([("0", None, None)]), labelled(1.0), 0.9) is None
    assert summarize_intervals(predicted([("0", 1.0, 2.0)]), labelled(), 0.9) is None
    assert describe_intervals({"intervals": None, "worth": {"unit": ""}}) == ""
