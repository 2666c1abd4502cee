"""Spark reads, streams and appends to tables whose files were rewritten without it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import functions as F

from schemas import tables
from spinney.core import keys
from spinney.operations import clustering, maintenance
from spinney.operations.clustering import CommitGuard, cluster
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.clustered_files import file_rewriting, sorted_file_writing
from streaming.delta_source import read_appended

START = datetime(2024, 5, 1, tzinfo=UTC)
SHOPS = [f"s{at}" for at in range(40)]


def events(fleet, first: int, rows: int) -> list[dict]:
    times = [START + timedelta(hours=at, microseconds=at) for at in range(first, first + rows)]
    return [
        fleet.event(shop, 1, f"{shop}-{at:%d%H}", at, price=1.5, stock=number, ingested_on=START.date())
        for number, at in enumerate(times)
        for shop in SHOPS
    ]


def ids(rows) -> list[str]:
    return sorted(row["event_id"] for row in rows)


def test_spark_reads_streams_and_appends_as_if_no_file_had_been_clustered(spark, world, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sorted_file_writing, "ROW_GROUP_ROWS", 50)
    monkeypatch.setattr(sorted_file_writing, "FILE_BYTES", 1_000)
    fleet = world()
    place = FleetStore.of(fleet.config).directory(tables.EVENTS)
    writer = delta.DirectoryWriter(place, "ingest", "c")

    def stream() -> list[str]:
        """What comes out of a stream of the table, from where it was left."""
        seen: list = []
        query = (
            read_appended(spark, place).writeStream.foreachBatch(lambda frame, _: seen.extend(frame.collect()))
        ).option("checkpointLocation", str(tmp_path / "checkpoint")).trigger(availableNow=True).start()  # fmt: skip
        query.awaitTermination()
        return ids(seen)

    fleet.put(tables.EVENTS, events(fleet, 0, 4))
    writer.append(spark.createDataFrame(delta.open_dataset(DeltaTable(place.uri)).to_table()), step="s", batch_id=0)
    before = fleet.rows(tables.EVENTS)
    version = delta.current_version(place)
    assert stream() == ids(before)
    [done] = cluster(DeltaTable(place.uri), "events", is_requested=True)
    assert len(done.new) > 2
    assert delta.current_version(place) == version + 1
    assert stream() == []
    for at in (version, None):
        assert ids(delta.spark_frame(spark, place, at).collect()) == ids(before)
    key, last = keys.encode(["s7", 1]), START + timedelta(hours=3, microseconds=3)
    found = delta.spark_frame(spark, place).filter((F.col("group_key") == key) & (F.col("event_time") == F.lit(last)))
    assert ids(found.collect()) == ["s7-0103"] * 2
    fleet.put(tables.EVENTS, events(fleet, 10, 1))
    assert writer.append(delta.spark_frame(spark, place).limit(3), step="s", batch_id=1)
    assert len(stream()) == len(SHOPS) + 3
    assert delta.DirectoryWriter(place, "ingest", "c").is_stored("s", 1)


def test_appends_of_spark_and_merges_in_another_thread_lose_nothing(spark, world) -> None:
    """As in a running stream: Spark appends under the query's lock, files are rewritten beside it."""
    fleet = world()
    place, lock, stop, errors, merged = (
        FleetStore.of(fleet.config).directory(tables.EVENTS),
        threading.Lock(),
        threading.Event(),
        [],
        [],
    )
    fleet.put(tables.EVENTS, events(fleet, 0, 2))

    def keep_merging() -> None:
        try:
            while not stop.is_set():
                merged.extend(
                    cluster(DeltaTable(place.uri), "events", CommitGuard(lock, lambda: False), is_requested=True)
                )
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=keep_merging)
    thread.start()
    writer = delta.DirectoryWriter(place, "ingest", "c")
    frame = spark.createDataFrame(delta.open_dataset(DeltaTable(place.uri)).to_table().slice(0, 5))
    for batch in range(8):
        with lock:
            assert writer.append(frame, step="s", batch_id=batch)
    stop.set()
    thread.join()
    assert errors == []
    assert len(merged) > 1
    assert len(fleet.rows(tables.EVENTS)) == 2 * len(SHOPS) + 8 * 5
    assert delta.spark_frame(spark, place).count() == 2 * len(SHOPS) + 8 * 5


@pytest.mark.parametrize(
    ("base", "part", "values"),
    [
        (tables.PREDICTIONS, "", {"probabilities": [("yes", 0.75), ("no", None)], "scored_on": START.date()}),
        (tables.HEALTH, "score", {"drift": [0.5, None], "group_key": None, "observed_on": START.date()}),
        (tables.MODELS, "stream", {"payload": b"\x00\xff" * 1000, "signature": None, "fitted_at": START}),
    ],
)
def test_files_that_tidy_puts_together_hold_the_same_rows_to_spark(spark, world, base, part, values) -> None:
    fleet = world()
    place = FleetStore.of(fleet.config).directory(base, part)
    for batch in range(4):
        row = {"shard": 3, "group_key": f'["ü{batch % 2}","1"]', "batch_id": batch, **values}
        fleet.put(base, [row, {**row, **({"probabilities": None} if base is tables.PREDICTIONS else {})}], part)

    def by_spark() -> list[tuple]:
        return sorted((tuple(row) for row in delta.spark_frame(spark, place).collect()), key=repr)

    before = by_spark()
    done = maintenance.tidy_directory(
        FleetStore.of(fleet.config), fleet.config.retention, place, START + timedelta(days=1)
    )
    assert (done.small, len(DeltaTable(place.uri).file_uris())) == (4, 1)
    assert by_spark() == before
    assert clustering.run_name(DeltaTable(place.uri).file_uris()[0]) == ""
    assert not Path(place.uri, file_rewriting.WORK).exists()
