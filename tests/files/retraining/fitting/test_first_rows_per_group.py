"""Which rows of a group are kept: copies of an event count as one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st

from spinney.retraining.fitting.first_rows_per_group import lowest, newest

START = datetime(2024, 5, 1, tzinfo=UTC)


def rows_of(*events: tuple[int, int, str]) -> pa.Table:
    """Rows of (group, hour, id)."""
    groups, hours, ids = (list(column) for column in zip(*events, strict=True))
    times = pa.array([START + timedelta(hours=hour) for hour in hours], pa.timestamp("us", "UTC"))
    return pa.table({"group": pa.array(groups, pa.int32()), "event_time": times, "event_id": ids})


def kept(rows: pa.Table, most: int) -> list[tuple[int, str]]:
    chosen = rows.take(pa.array(newest("group", 3, most)(rows)))
    return list(zip(chosen["group"].to_pylist(), chosen["event_id"].to_pylist(), strict=True))


def test_a_group_whose_events_are_all_stored_twice_keeps_as_many_events_as_one_without_copies() -> None:
    twice = rows_of(*[(0, hour, f"e{hour}") for hour in range(5) for _ in range(2)])
    assert kept(twice, 3) == [(0, name) for name in ("e2", "e2", "e3", "e3", "e4", "e4")]


def test_ids_of_one_time_and_ids_of_other_groups_are_no_copies() -> None:
    rows = rows_of((0, 1, "b"), (0, 1, "a"), (0, 1, "c"), (1, 1, "a"), (1, 1, "b"), (1, 0, "a"), (1, 1, "a"))
    assert sorted(kept(rows, 2)) == [(0, "b"), (0, "c"), (1, "a"), (1, "a"), (1, "b")]


EVENTS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.sampled_from("abc")), min_size=1, max_size=40)


@examples(100)
@given(EVENTS, st.integers(1, 5))
def test_the_newest_events_are_those_that_a_sorted_list_of_distinct_ones_ends_with(
    events: list[tuple[int, int, str]], most: int
) -> None:
    distinct = {group: sorted({(hour, name) for of, hour, name in events if of == group}) for group in range(3)}
    wanted = {(group, *event) for group, found in distinct.items() for event in found[-most:]}
    rows = rows_of(*events)
    chosen = [events[place] for place in newest("group", 3, most)(rows).tolist()]
    assert sorted(chosen) == sorted(event for event in events if event in wanted)
    assert [event[:2] for event in chosen] == sorted(event[:2] for event in chosen)


def test_rows_of_the_lowest_numbers_are_kept_with_all_that_are_equal() -> None:
    rows = pa.table({"parent": [0, 0, 0, 0, 1, 1], "number": [5, 3, 3, 9, 7, 7]})
    places = lowest("parent", "number", 2)(rows).tolist()
    assert sorted(places) == [0, 1, 2, 4, 5]
