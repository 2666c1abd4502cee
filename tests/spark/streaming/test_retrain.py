"""The judge and its rounds over tables that others wrote."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from schemas import tables
from spinney.core import keys
from spinney.core.planning.brake import RaisedErrors
from spinney.core.staleness.group_state import NEVER
from spinney.core.staleness.judge import ShardReport
from spinney.retraining import judge_input
from spinney.storage import checkpoints
from spinney.storage.layout import FleetStore
from streaming import retrain
from streaming.delta_source import read_appended
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


def test_a_file_without_rows_lets_spark_begin_one_batch_though_nothing_is_new(spark, fleet, tmp_path) -> None:
    store = FleetStore.of(fleet.config)
    place = store.directory(tables.MODELS, "stream")
    checkpoints.write_query_id(store.checkpoint("retrain"), "c1")
    batches: list[int] = []

    def drain() -> None:
        read = read_appended(spark, place).writeStream.foreachBatch(lambda frame, _: batches.append(frame.count()))
        read.option("checkpointLocation", str(tmp_path / "c")).trigger(availableNow=True).start().awaitTermination()

    fleet.put(tables.MODELS, [{"group_key": A, "model_id": "m", "batch_id": 0}], "stream")
    drain()
    drain()
    assert batches == [1]
    retrain.force_batch(store)
    drain()
    assert batches == [1, 0]


def storm(spark, shards: int, judged_at: datetime):
    """What the shards report when the error of 60 groups rises at once."""
    groups = [f'["g{n}","1"]' for n in range(60)]
    parts = []
    for shard in range(shards):
        rows = [
            {
                "group_key": key, "policy": "error_rise", "decision": "fit", "reason": "raised",
                "numbers": {"refusals": 0}, "model_id": f"champion of {key}", "epoch": 0,
                "stale_since": NEVER, "clock": 0, "predicted_ms": 1.0,
                "urgency": 2.0, "gain_per_second": 1.0, "repeats": 0,
            }
            for key in groups if keys.shard_of(key, shards) == shard
        ]  # fmt: skip
        report = ShardReport(rows, len(rows), 0, RaisedErrors(len(rows), len(rows)))
        parts.append(judge_input.report_rows(shard, report, 0))
    whole = pd.concat(parts, ignore_index=True).astype(object)
    reported = spark.createDataFrame(whole.where(whole.notna(), None), judge_input.VERDICTS)
    return reported.selectExpr("*", f"{int(judged_at.timestamp() * 1e6)}L AS judged_at")


def test_a_storm_of_raised_errors_is_sampled_and_goes_on_after_a_restart_when_the_sample_is_better(
    spark, fleet, caplog
) -> None:
    writer = retrain.RetrainBatchWriter(spark, fleet.config, fleet.signer, "checkpoint")
    writer(storm(spark, fleet.config.fleet.shards, START), 0)
    verdicts = fleet.rows(tables.VERDICTS)
    sample = {row["group_key"] for row in verdicts if row["decision"] == "fit"}
    deferred = [row for row in verdicts if row["decision"] == "deferred"]
    assert (len(sample), len(deferred)) == (20, 40)
    assert all("upstream break is likely" in row["reason"] for row in deferred)
    assert "100% of the fleet turned stale at once" in caplog.text
    (recorded,) = fleet.rows(tables.ROUNDS)
    assert (recorded["groups_in"], recorded["deferred"]) == (60, 40)

    better = {"round_id": "stream-0", "epoch": 0, "decision": "promoted", "model_id": "m", "decided_at": START}
    better |= {"clock": START, "champion_loss": 4.0, "challenger_loss": 3.0, "batch_id": 0}
    fleet.put(tables.PROMOTIONS, [{**better, "group_key": key} for key in sample], "stream")
    restarted = retrain.RetrainBatchWriter(spark, fleet.config, fleet.signer, "checkpoint")
    restarted(storm(spark, fleet.config.fleet.shards, START + timedelta(minutes=1)), 1)
    again = [row for row in fleet.rows(tables.VERDICTS) if row["batch_id"] == 1]
    assert len([row for row in again if row["decision"] == "fit"]) == 60
