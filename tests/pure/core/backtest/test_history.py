"""The slices of a history compared with what a round selects from the rows that were known at its clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.backtest.history import History, LabelTiming
from spinney.core.recipes.recipe import Feature, Recipe
from spinney.core.timestamps import from_microseconds
from spinney.core.training.training_set import select_training_set

HOUR = 3_600_000_000
START = 1_772_000_000_000_000
RECIPE = Recipe(
    "ridge", (), (Feature("x", "double"), Feature("word", "string")), Feature("y", "double"), "regression", "absolute",
    1, 5, timedelta(hours=20),
)  # fmt: skip
ROWS = st.lists(
    st.tuples(
        st.sampled_from("abc"),  # group
        st.integers(0, 30),  # id: repeated ones too
        st.integers(0, 40),  # hour of the event
        st.one_of(st.none(), st.integers(0, 30)),  # hours until the label was observed
        st.one_of(st.none(), st.floats(-5, 5)),  # label
    ),
    min_size=1,
    max_size=40,
)


def frame(rows: list[tuple]) -> pd.DataFrame:
    groups, ids, hours, waits, labels = zip(*rows, strict=True)
    times = START + HOUR * np.array(hours, dtype=np.int64)
    observed = [None if wait is None else at + wait * HOUR for at, wait in zip(times.tolist(), waits, strict=True)]
    return pd.DataFrame(
        {
            "group_key": [f'["{name}"]' for name in groups],
            "event_id": [f"e{n}" for n in ids],
            "event_time": pd.to_datetime(times, unit="us", utc=True),
            "observed_at": pd.to_datetime(pd.array(observed, dtype="Int64"), unit="us", utc=True),
            "label": pd.array(labels, dtype="Float64").to_numpy(np.float64, na_value=np.nan),
            "x": np.arange(len(rows), dtype=np.float64),
            "word": ["w" + name for name in groups],
        }
    )


@given(ROWS, st.integers(0, 60), st.integers(0, 12), st.integers(1, 8))
def test_a_slice_is_what_a_round_selects_from_the_rows_known_at_its_clock(
    rows: list[tuple], at: int, delay: int, window_rows: int
) -> None:
    whole, recipe, clock = frame(rows), replace(RECIPE, window_rows=window_rows), START + at * HOUR
    if whole["label"].isna().all():
        return
    history = History.of(whole, recipe, LabelTiming(delay * HOUR))
    groups = np.arange(history.n_groups)
    found = history.training_set(groups, clock, recipe)
    # The earliest copy of an event counts, as `ingest` stores it; copies of the same time are one event.
    first = whole.dropna(subset=["label"]).sort_values(["event_time", "observed_at"], kind="stable")
    first = first.drop_duplicates(["group_key", "event_id"])
    now = pd.Timestamp(clock, unit="us", tz="UTC")
    mature = first["event_time"] + pd.Timedelta(delay, "h") <= now
    is_known = first["observed_at"].isna() | (first["observed_at"] <= now)
    keys = sorted(set(whole.dropna(subset=["label"])["group_key"]))
    expected = select_training_set(first[mature & is_known], keys, recipe, from_microseconds(clock))
    assert found.keys == expected.keys
    assert found.starts.tolist() == expected.starts.tolist()
    assert found.times.tolist() == expected.times.tolist()
    assert found.ids.tolist() == expected.ids.tolist()


def test_labels_that_come_after_the_horizon_do_not_reach_the_judge_but_are_fitted() -> None:
    rows = [("a", n, 0, wait, 1.0) for n, wait in enumerate((1, 3, 5, None))]
    history = History.of(frame(rows), RECIPE, LabelTiming(2 * HOUR, health_horizon=3 * HOUR))
    reported = history.known_within(START, START + 10 * HOUR)
    assert history.rows.ids[reported].tolist() == ["e0", "e3", "e1"]
    assert len(history.training_set(np.array([0]), START + 5 * HOUR, RECIPE).times) == 4


@pytest.mark.parametrize(("begin", "end", "ids"), [(0, 1, ["e1"]), (-1, 0, ["e0"]), (-1, 9, ["e0", "e1", "e2"])])
def test_the_events_of_a_step_are_those_after_its_begin_until_its_end(begin: int, end: int, ids: list[str]) -> None:
    history = History.of(frame([("a", n, n, 0, 1.0) for n in range(3)]), RECIPE, LabelTiming(0))
    found = history.answered_within(START + begin * HOUR, START + end * HOUR)
    assert history.rows.ids[found].tolist() == ids


def test_a_label_is_not_known_by_an_earlier_copy_of_its_event_that_lacks_it() -> None:
    rows = [("a", 1, 0, 2, None), ("a", 1, 0, 9, 1.0), ("a", 2, 0, 3, 1.0)]
    history = History.of(frame(rows), RECIPE, LabelTiming(HOUR))
    known = dict(zip(history.rows.ids.tolist(), ((history.known_at - START) // HOUR).tolist(), strict=True))
    assert known == {"e1": 9, "e2": 3}
