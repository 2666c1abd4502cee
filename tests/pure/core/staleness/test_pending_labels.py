from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.errors import Corrupt
from spinney.core.staleness.health_rows import HealthRows
from spinney.core.staleness.pending_labels import LabelRows, PendingLabels

Delta = tuple[str, str | None, int, float, int]


def deltas(*rows: Delta) -> HealthRows:
    columns = ["group_key", "model_id", "labelled", "loss", "last_event_time"]
    frame = pd.DataFrame(list(rows), columns=columns)
    types = {"group_key": object, "model_id": object, "labelled": "int64", "loss": "float64"}
    return HealthRows.of_frame(frame.astype(types).astype({"last_event_time": "int64"}))


def as_rows(rows: LabelRows) -> list[tuple[object, ...]]:
    """The rows as plain values, which can be compared."""
    lists = [None if losses is None else losses.tolist() for losses in rows.losses]
    columns = (rows.group_key, rows.model_id, rows.labelled, rows.loss, rows.last_event_time, rows.mature_at)
    return list(zip(*(column.tolist() for column in columns), lists, strict=True))


def test_a_delta_matures_a_label_delay_after_its_event() -> None:
    pending = PendingLabels.empty().with_labels(deltas(("a", "m", 2, 0.5, 100)), label_delay=10)
    early, rest = pending.split(109)
    assert len(early) == 0
    assert len(rest.rows) == 1
    mature, rest = rest.split(110)
    assert (mature.group_key.tolist(), mature.labelled.tolist(), mature.loss.tolist()) == (["a"], [2], [0.5])
    assert len(rest.rows) == 0


def test_without_a_delay_a_delta_is_mature_at_its_own_time() -> None:
    mature, _ = PendingLabels.empty().with_labels(deltas(("a", "m", 1, 0.5, 100)), label_delay=0).split(100)
    assert len(mature) == 1


def test_answers_without_a_label_are_not_kept() -> None:
    assert len(PendingLabels.empty().with_labels(deltas(("a", "m", 0, 0.0, 100)), label_delay=0).rows) == 0


def test_what_waited_longer_comes_first() -> None:
    pending = (
        PendingLabels.empty()
        .with_labels(deltas(("late", "m", 1, 1.0, 30)), 0)
        .with_labels(deltas(("early", "m", 1, 1.0, 20)), 0)
    )
    assert pending.split(30)[0].group_key.tolist() == ["early", "late"]


def test_adding_leaves_the_pending_before_as_it_was() -> None:
    before = PendingLabels.empty().with_labels(deltas(("a", "m", 1, 1.0, 1)), 0)
    before.with_labels(deltas(("b", "m", 1, 1.0, 1)), 0)
    assert before.rows.group_key.tolist() == ["a"]


def test_pending_labels_survive_as_bytes() -> None:
    rows = deltas(("a", None, 1, 0.1, 5), ("b", "m", 2**40, 1e300, 6), ("b", "m", 2, 3.5, 7))
    rows.losses[2] = np.array([1.5, 2.0], dtype=np.float32)
    pending = PendingLabels.empty().with_labels(rows, 1)
    again = PendingLabels.from_bytes(pending.to_bytes())
    assert as_rows(again.rows) == as_rows(pending.rows)
    assert again.to_bytes() == pending.to_bytes()


def test_no_pending_labels_survive_as_bytes_and_take_new_ones() -> None:
    again = PendingLabels.from_bytes(PendingLabels.empty().to_bytes())
    assert len(again.split(0)[0]) == 0
    assert len(again.with_labels(deltas(("a", "m", 1, 0.5, 100)), 0).rows) == 1


def test_broken_bytes_are_refused() -> None:
    with pytest.raises(Corrupt):
        PendingLabels.from_bytes(PendingLabels.empty().to_bytes()[:20])


DELTAS = st.tuples(
    st.sampled_from("ab"), st.sampled_from(["m", "n", None]), st.integers(1, 3), st.floats(0, 9), st.integers(0, 3)
)


@given(st.lists(DELTAS, min_size=1), st.data())
def test_the_order_of_deltas_does_not_matter(rows: list[Delta], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(rows))
    one = PendingLabels.empty().with_labels(deltas(*rows), 1)
    other = PendingLabels.empty().with_labels(deltas(*shuffled), 1)
    assert one.to_bytes() == other.to_bytes()
    assert as_rows(one.split(2)[0]) == as_rows(other.split(2)[0])
