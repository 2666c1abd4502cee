from __future__ import annotations

from typing import Any

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.staleness.group_state import NEVER, GroupStates
from spinney.core.staleness.health_rows import HealthRows
from spinney.core.staleness.last_arrival_times import STEP, note_arrivals

A, B = '["a"]', '["b"]'
NAMES = ("event_at", "labelled_at", "labelled_from")
ROWS = st.lists(st.tuples(st.sampled_from([A, B]), st.integers(0, 3), st.integers(0, 40 * STEP)), max_size=12)


def noted(*batches: list[tuple[str, int, int]]) -> dict[str, list[Any]]:
    groups = GroupStates.empty()
    groups.positions_of([A, B])
    for rows in batches:
        frame = pd.DataFrame(rows, columns=["group_key", "labelled", "last_event_time"])
        note_arrivals(groups, HealthRows.of_frame(frame))
    return {name: groups[name].tolist() for name in NAMES}


def test_events_and_labels_are_noted_by_six_hours_of_their_own_time() -> None:
    found = noted([(A, 0, 9 * STEP + 5), (A, 2, 3 * STEP)], [(A, 1, 7 * STEP - 1), (B, 0, 2 * STEP)])
    assert found == {
        "event_at": [9 * STEP, 2 * STEP],
        "labelled_at": [6 * STEP, NEVER],
        "labelled_from": [3 * STEP, NEVER],
    }


@given(ROWS, ROWS, st.randoms(use_true_random=False))
def test_neither_order_nor_batches_matter(first: list[Any], second: list[Any], random: Any) -> None:
    shuffled = first + second
    random.shuffle(shuffled)
    assert noted(first, second) == noted(shuffled)
