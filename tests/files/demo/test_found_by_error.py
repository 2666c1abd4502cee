from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from demo.found_by_error import InjectedChange, summarize_found_by_error
from demo.report_text import describe_found_by_error

AT = datetime(2020, 1, 6, tzinfo=UTC)


def hour(number: int) -> datetime:
    return AT + timedelta(hours=number)


@pytest.fixture
def known(tables):
    """Found at hour 20: a. By models from before the change b's loss triples, c's rises by half and d's triples.

    New models with changed rows: b's by another policy at hour 9, and e's before it had any answer after the change.
    """
    found = [("a", "error_rise", -1), ("a", "error_rise", 30), ("a", "error_rise", 20), ("b", "new_rows", 5)]
    found.append(("unchanged", "error_rise", 2))
    verdicts = pd.DataFrame(found, columns=["group_key", "policy", "clock"])
    verdicts = verdicts.assign(clock=verdicts["clock"].map(hour), decision="fit")
    models = [(key, f"{key}0", "promoted", -1) for key in "abcde"]
    models += [("b", "b1", "unproven", 9), ("d", "d1", "refused", 9), ("e", "e1", "promoted", 0)]
    promotions = pd.DataFrame(models, columns=["group_key", "model_id", "decision", "trained_through"])
    promotions["trained_through"] = promotions["trained_through"].map(hour)
    answers = [(key, f"{key}0", -2, 2.0) for key in "abcde"]
    answers += [
        ("b", "b0", 1, 6.0),
        ("b", "b1", 12, 1.0),
        ("c", "c0", 1, 3.0),
        ("d", "d0", 1, 6.0),
        ("e", "e1", 1, 6.0),
    ]
    rows = pd.DataFrame(answers, columns=["group_key", "model_id", "event_time", "fleet"])
    rows = rows.assign(event_time=rows["event_time"].map(hour), event_id=rows.index.astype(str))
    return replace(tables, verdicts=verdicts, promotions=promotions, predictions=rows.drop(columns="fleet")), rows


def test_changed_groups_are_found_by_their_error_refitted_before_or_their_error_has_hardly_risen(known) -> None:
    tables, rows = known
    change = InjectedChange(frozenset("abcde"), AT)
    found = summarize_found_by_error(tables, change, rows.drop(columns="model_id"))
    assert (found["changed"], found["found"], found["hours"]["p50"]) == (5, 1, 20.0)
    assert found["others"] == {"not_risen": 2, "refitted": 1, "unnoticed": 1}
    assert describe_found_by_error({"found_by_error": found}) == (
        "error_rise found 1 of 5 changed groups, the median 20 h after the change. Of the others, 2 had an error that "
        "rose to less than 1.5 times, 1 had been refitted for another reason by then, 1 went unnoticed. Other alarms: "
        "2; errors of unchanged groups rise too."
    )


def test_without_losses_only_the_found_ones_are_reported(known) -> None:
    tables, _ = known
    found = summarize_found_by_error(tables, InjectedChange(frozenset("bcd"), AT), None)
    assert (found["found"], found["others"]) == (0, None)
    assert describe_found_by_error({"found_by_error": found}) == (
        "error_rise found 0 of 3 changed groups. Other alarms: 4; errors of unchanged groups rise too."
    )
