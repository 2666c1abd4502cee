from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from handwritten_history import Past, fleet_toml, hour

from schemas import tables
from spinney.core.config import parse
from spinney.storage.layout import FleetStore
from spinney.tables.readers.error_history import read_error_history, read_group_errors, read_time_range

A, B = '["a","1"]', '["b","1"]'


@pytest.fixture
def past(tmp_path: Path) -> Past:
    return Past(parse(fleet_toml(tmp_path), "fleet.toml", {}))


def health(
    key: str | None, at: float, labelled: int = 1, loss: float = 1.0, model_id: str | None = "m"
) -> dict[str, Any]:
    sums = {"rows": labelled, "labelled": labelled, "loss": loss}
    times = {"last_event_time": hour(at), "observed_on": hour(at).date(), "batch_id": 0}
    return {"group_key": key, "model_id": model_id, **sums, **times}


def test_a_bucket_ends_with_its_last_moment_and_sums_come_from_both_directories(past: Past) -> None:
    inside = (health(A, 10.5, 2, 3.0), health(A, 12, 1, 5.0), health(A, 12.001, 1, 7.0), health(B, 14, 4, 2.0))
    outside = (health(A, 10), health(A, 14.001))
    past.put(tables.HEALTH, "score", *inside, *outside)
    past.put(tables.HEALTH, "labels", health(A, 11, 1, 4.0))
    rows = read_error_history(FleetStore.of(past.config), hour(10), timedelta(hours=2), 2).to_pylist()
    assert sorted((row["group_key"], row["bucket"], row["labelled"], row["loss"]) for row in rows) == [
        (A, 0, 4, 12.0),
        (A, 1, 1, 7.0),
        (B, 1, 4, 2.0),
    ]


def test_ticks_of_the_clock_unlabelled_answers_and_labels_without_a_loss_do_not_count(past: Past) -> None:
    past.put(tables.HEALTH, "score", health(None, 11), health(A, 11, 0, 0.0), health(A, 11, 3, 0.0, model_id=None))
    store = FleetStore.of(past.config)
    assert read_error_history(store, hour(10), timedelta(hours=2), 1).num_rows == 0
    assert read_group_errors(store, A).num_rows == 0


def test_the_range_of_times_comes_from_the_log_and_is_unknown_without_rows(past: Past) -> None:
    store = FleetStore.of(past.config)
    assert read_time_range(store) is None
    past.put(tables.HEALTH, "score", health(A, 11), health(B, 7))
    past.put(tables.HEALTH, "labels", health(A, 3))
    first, last = read_time_range(store) or (hour(0), hour(0))
    assert first == hour(3)
    assert hour(11) <= last <= hour(11) + timedelta(milliseconds=1)
