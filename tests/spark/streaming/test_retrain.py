"""The judge and its rounds over tables that others wrote."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from schemas import tables
from streaming import retrain
from streaming.progress import ProgressListener

START = datetime(2024, 5, 1, tzinfo=UTC)
A = '["a","1"]'


@pytest.fixture
def fleet(world):
    made = world()
    made.sell("a", 1, 25)
    (shard, *_) = {row["shard"] for row in made.rows(tables.EVENTS)}
    health = {"shard": shard, "observed_on": START.date(), "batch_id": 0}
    newest = START + timedelta(hours=24)
    made.put(
        tables.HEALTH,
        [
            {**health, "group_key": A, "rows": 25, "labelled": 25, "loss": 0.0, "last_event_time": START},
            {**health, "rows": 0, "labelled": 0, "loss": 0.0, "last_event_time": newest},
        ],
        "score",
    )
    return made


def test_a_round_is_dated_in_utc_whatever_zone_the_process_is_in(spark, fleet) -> None:
    assert time.localtime().tm_gmtoff != 0, "the tests run in a zone of their own"
    before = datetime.now(UTC).replace(microsecond=0)
    progress = ProgressListener()
    query = retrain.query(spark, fleet.config, fleet.signer, once=True)
    running = query.start(fleet.config, threading.Event(), progress, once=True)
    running.wait()
    progress.detach()
    assert running.error() is None
    (recorded,) = fleet.rows(tables.ROUNDS)
    (verdict,) = fleet.rows(tables.VERDICTS)
    (model,) = fleet.rows(tables.MODELS)
    assert (verdict["group_key"], verdict["policy"], model["status"]) == (A, "new_group", "fitted")
    assert before <= recorded["started_at"] <= datetime.now(UTC)
    assert verdict["judged_at"] == model["fitted_at"] == recorded["started_at"]
    assert before <= verdict["stale_since"] <= datetime.now(UTC)
    assert verdict["clock"] == model["clock"] == recorded["clock"] == START + timedelta(hours=24)
    assert model["trained_through"] == START + timedelta(hours=22)  # labels come two hours late
