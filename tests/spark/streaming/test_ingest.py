"""What ingest writes of a batch, and who writes it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from started_batches import start_batch

from schemas import tables
from spinney.core.timestamps import to_microseconds
from spinney.storage.layout import FleetStore
from spinney.tables.row_writing import ARRIVED_AT
from streaming import ingest
from streaming.ingest import STEPS, IngestBatchWriter

AT = datetime(2024, 5, 1, 12, tzinfo=UTC)
SCHEMA = (
    f"key binary, value binary, topic string, kafka_partition int, kafka_offset bigint, {ARRIVED_AT} timestamp, "
    "record_us bigint, edition int"
)
GOOD = b'{"shop":"a","dept":1,"sale":"s","at":"2024-05-01T10:00:00Z"}'
LARGE = b"x" * 2000


def batch_of(spark, values: list[bytes]):
    rows = [(None, bytearray(value), "sales", 0, n, AT, to_microseconds(AT), 0) for n, value in enumerate(values)]
    return spark.createDataFrame(rows, SCHEMA)


def writer(fleet) -> IngestBatchWriter:
    return IngestBatchWriter(fleet.config, ingest.stored_rows(fleet.config.record_schema, ()), "c")


def test_the_rows_of_a_batch_are_in_their_tables_with_the_time_and_number_of_the_batch(spark, world) -> None:
    fleet = world()
    start_batch(FleetStore.of(fleet.config), "ingest", 5, AT)

    writer(fleet)(batch_of(spark, [GOOD, LARGE, LARGE]), 5)

    (event,) = fleet.rows(tables.EVENTS)
    assert (event["event_id"], event["ingested_at"], event["ingested_on"]) == ("s", AT, AT.date())
    dead = fleet.rows(tables.DEAD_LETTERS)
    assert [(row["value"], row["ingested_at"], row["batch_id"]) for row in dead] == [(LARGE, AT, 5)] * 2


def test_of_copies_in_a_batch_and_in_the_next_one_only_the_first_is_stored(spark, world) -> None:
    fleet = world()
    store = FleetStore.of(fleet.config)
    other = GOOD.replace(b'"s"', b'"other"')
    write = writer(fleet)
    start_batch(store, "ingest", 0, AT)
    write(batch_of(spark, [LARGE, GOOD, GOOD, GOOD]), 0)
    start_batch(store, "ingest", 1, AT)
    write(batch_of(spark, [GOOD, other, LARGE]), 1)
    write = writer(fleet)
    start_batch(store, "ingest", 2, AT)
    write(batch_of(spark, [other, GOOD]), 2)

    stored = [(row["event_id"], row["batch_id"], row["kafka_offset"]) for row in fleet.rows(tables.EVENTS)]
    assert sorted(stored) == [("other", 1, 1), ("s", 0, 1)]
    assert len(fleet.rows(tables.DEAD_LETTERS)) == 2


def test_a_replay_of_a_batch_with_copies_stores_none_of_them(spark, world) -> None:
    fleet = world()
    start_batch(FleetStore.of(fleet.config), "ingest", 0, AT)
    batch = batch_of(spark, [GOOD, LARGE, GOOD])
    for _ in range(2):
        writer(fleet)(batch, 0)
    assert (len(fleet.rows(tables.EVENTS)), len(fleet.rows(tables.DEAD_LETTERS))) == (1, 1)


def test_a_replay_writes_only_the_steps_that_are_not_stored(spark, world) -> None:
    fleet = world()
    start_batch(FleetStore.of(fleet.config), "ingest", 0, AT)
    batch = batch_of(spark, [GOOD, LARGE])
    stopped = writer(fleet)
    stopped._targets.pop("dead_letters")  # as if it had been killed after the events
    steps = [each for each in STEPS if each[0] != "dead_letters"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest, "STEPS", tuple(steps))
        stopped(batch, 0)
    assert (len(fleet.rows(tables.EVENTS)), len(fleet.rows(tables.DEAD_LETTERS))) == (1, 0)

    writer(fleet)(batch, 0)

    assert (len(fleet.rows(tables.EVENTS)), len(fleet.rows(tables.DEAD_LETTERS))) == (1, 1)
    files = list(Path(FleetStore.of(fleet.config).directory(tables.EVENTS).uri).glob("**/*.parquet"))
    assert len(files) == 1, "the replay wrote no file of events"
