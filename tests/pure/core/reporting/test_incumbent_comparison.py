"""The incumbent and the fleet are compared on the same rows, and on none that a model was fitted on."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from spinney.core.reporting.incumbent_comparison import (
    Basis,
    ComparedErrors,
    HeldOutFit,
    compare_answers,
    compare_held_out,
    measure_for,
    summarize,
)

START = datetime(2024, 5, 1, tzinfo=UTC)
_, ABSOLUTE = measure_for("regression", "absolute")


def hour(n: float) -> datetime:
    return START + timedelta(hours=n)


def answered(*rows: tuple) -> pd.DataFrame:
    names = ("group_key", "event_time", "trained_through", "label", "prediction", "incumbent")
    frame = pd.DataFrame(rows, columns=list(names))
    return frame.assign(trained_through=pd.to_datetime(frame["trained_through"], utc=True))


def test_only_rows_newer_than_the_answering_models_training_are_compared() -> None:
    rows = answered(
        ("a", hour(5), hour(4), 10.0, 11.0, 13.0),  # 1 and 3
        ("a", hour(6), hour(4), 10.0, 12.0, 11.0),  # 2 and 1
        ("a", hour(4), hour(4), 10.0, 10.0, 99.0),  # its newest training row
        ("a", hour(7), None, 10.0, 10.0, 99.0),  # nobody knows what that model has seen
        ("a", hour(8), hour(4), None, 10.0, 99.0),
        ("a", hour(8), hour(4), 10.0, None, 99.0),
        ("a", hour(8), hour(4), 10.0, 10.0, None),
        ("b", hour(9), hour(1), 1.0, 1.5, 1.0),
    )
    assert compare_answers(rows, ABSOLUTE) == [
        ComparedErrors("a", Basis.ANSWERED, 2, 2.0, 1.5),
        ComparedErrors("b", Basis.ANSWERED, 1, 0.0, 0.5),
    ]


def test_of_classes_the_share_of_wrong_answers_is_compared() -> None:
    measure, per_row = measure_for("classification", "log")
    assert measure == "wrong"
    rows = answered(
        ("a", hour(5), hour(4), "x", "x", "y"),
        ("a", hour(6), hour(4), "y", "x", "y"),
        ("a", hour(7), hour(4), "y", "y", "x"),
        ("a", hour(8), hour(4), "y", "y", "y"),
    )
    assert compare_answers(rows, per_row) == [ComparedErrors("a", Basis.ANSWERED, 4, 0.5, 0.25)]


def fitted(count: int = 14) -> pd.DataFrame:
    """The incumbent is wrong by as many as the hours since START, rows in disorder."""
    frame = pd.DataFrame({"event_id": [f"e{n}" for n in range(count)], "event_time": [hour(n) for n in range(count)]})
    return frame.assign(label=100.0, incumbent=100.0 - np.arange(count)).sample(frac=1, random_state=1)


FIT = HeldOutFit("a", rows=14, compared=2, loss=0.25)


def test_a_first_model_is_measured_on_the_rows_that_were_held_out() -> None:
    assert compare_held_out(fitted(), FIT, ABSOLUTE) == ComparedErrors("a", Basis.HELD_OUT, 2, 12.5, 0.25)


def without_answer() -> pd.DataFrame:
    rows = fitted()
    return rows.assign(incumbent=rows["incumbent"].where(rows["event_id"] != "e12"))


@pytest.mark.parametrize(
    ("rows", "fit"),
    [
        (fitted(15), FIT),  # a row came since: which were fitted cannot be told
        (fitted(13), FIT),  # one was forgotten
        (without_answer(), FIT),
        (fitted(), replace(FIT, compared=0)),
    ],
)
def test_where_the_rows_cannot_be_reported_or_were_not_all_answered_nothing_is_compared(rows, fit: HeldOutFit) -> None:
    assert compare_held_out(rows, fit, ABSOLUTE) is None


def test_of_an_event_that_came_twice_the_first_counts() -> None:
    twice = fitted()
    twice = pd.concat([twice, twice[twice["event_id"] == "e3"].assign(event_time=hour(13), incumbent=0.0)])
    assert compare_held_out(twice, FIT, ABSOLUTE) == ComparedErrors("a", Basis.HELD_OUT, 2, 12.5, 0.25)


def test_the_whole_counts_each_row_alike_and_the_groups_worst_for_the_fleet_come_first() -> None:
    a = ComparedErrors("a", Basis.ANSWERED, 3, 2.0, 1.0)
    b = ComparedErrors("b", Basis.ANSWERED, 1, 1.0, 5.0)
    c = ComparedErrors("c", Basis.HELD_OUT, 4, 3.0, 3.5)
    found = summarize("absolute", [a, b, c])
    assert found.whole == (
        ComparedErrors(None, Basis.ANSWERED, 4, 1.75, 2.0),
        ComparedErrors(None, Basis.HELD_OUT, 4, 3.0, 3.5),
    )
    assert found.groups == (b, c, a)
    assert summarize("absolute", []).whole == ()
