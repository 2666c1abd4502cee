"""Copies are recognised by what the table has, whichever process stored it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from handwritten_history import fleet_toml
from started_batches import start_batch

from schemas import tables
from spinney.core.config import parse
from spinney.core.records.recent_ids import IdHashes
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.arrow_schemas import arrow_schema
from streaming import duplicate_records
from streaming.duplicate_records import RecentRecords

START = datetime(2024, 5, 1, 23, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEY = '["a"]'


def hashes(*ids: str) -> IdHashes:
    return IdHashes.of(pa.array([KEY] * len(ids), pa.string()), pa.array(ids, pa.string()))


class Ingest:
    """Batches of one query, each of which stores the ids that are new."""

    def __init__(self, store: FleetStore) -> None:
        self.store, self.directory = store, store.directory(tables.EVENTS)
        self.writer = delta.DirectoryWriter(self.directory, "ingest", "c")
        self.begin()

    def begin(self) -> None:
        """As a new process."""
        self.recent = RecentRecords(self.store, "ingest", tables.EVENTS, 2 * HOUR)

    def batch(self, batch_id: int, at: datetime, *ids: str) -> list[str]:
        start_batch(self.store, "ingest", batch_id, at)
        is_new = self.recent.are_new(hashes(*ids), batch_id)
        stored = [name for name, new in zip(ids, is_new, strict=True) if new]
        self.writer.append(self.rows(batch_id, at, *stored), step="events", batch_id=batch_id)
        self.recent.add(hashes(*stored), batch_id)
        return stored

    def rows(self, batch_id: int, at: datetime, *ids: str, topic: str = "sales") -> pa.Table:
        row = {"shard": 0, "group_key": KEY, "event_time": at, "topic": topic, "kafka_partition": 0, "kafka_offset": 0}
        row |= {"ingested_at": at, "ingested_on": at.date(), "batch_id": batch_id}
        schema = arrow_schema(self.directory.contract)
        whole = [dict.fromkeys(schema.names) | row | {"event_id": name} for name in ids]
        return pa.Table.from_pylist(whole, schema=schema)


@pytest.fixture
def ingest(tmp_path: Path) -> Ingest:
    store = FleetStore.of(parse(fleet_toml(root=str(tmp_path)), "fleet.toml", {}))
    delta.create_tables(store)
    return Ingest(store)


@pytest.mark.parametrize("is_new_process", [False, True])
def test_copies_in_one_batch_and_in_later_ones_are_no_new_records(ingest: Ingest, is_new_process: bool) -> None:
    assert ingest.batch(0, START, "1", "2", "1") == ["1", "2"]
    if is_new_process:
        ingest.begin()
    assert ingest.batch(1, START + HOUR, "3", "2") == ["3"]
    if is_new_process:
        ingest.begin()
    assert ingest.batch(2, START + HOUR, "3", "1") == []


@pytest.mark.parametrize("is_new_process", [False, True])
def test_a_silence_forgets_nothing_and_the_batch_after_the_next_one_everything(
    ingest: Ingest, is_new_process: bool
) -> None:
    ingest.batch(0, START, "1", "2")
    if is_new_process:
        ingest.begin()
    assert ingest.batch(1, START + 30 * HOUR, "1", "3") == ["3"]
    if is_new_process:
        ingest.begin()
    assert ingest.batch(2, START + 31 * HOUR, "1", "3") == ["1"]


def test_a_batch_that_was_killed_before_it_was_stored_finds_the_same_records_new(ingest: Ingest) -> None:
    ingest.batch(0, START, "1")
    start_batch(ingest.store, "ingest", 1, START + HOUR)
    assert ingest.recent.are_new(hashes("1", "2"), 1).tolist() == [False, True]
    ingest.begin()
    assert ingest.batch(1, START + HOUR, "1", "2") == ["2"]


def test_rows_of_another_topic_are_not_compared(ingest: Ingest) -> None:
    loaded = ingest.rows(0, START, "1", topic="history.parquet")
    delta.DirectoryWriter(ingest.directory, "load", "c").append(loaded, step="events", batch_id=0)
    assert ingest.batch(0, START + HOUR, "1") == ["1"]


def scanned(ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are opened from the log, as they were appended."""
    opened: list[str] = []
    read = duplicate_records.pq.ParquetFile
    monkeypatch.setattr(duplicate_records.pq, "ParquetFile", lambda path: opened.append(path.name) or read(path))
    return opened


def test_what_other_processes_appended_is_not_read(ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC)
    loaded = ingest.rows(0, now, "1", topic="history.parquet")
    delta.DirectoryWriter(ingest.directory, "load", "c").append(loaded, step="events", batch_id=0)
    ingest.batch(0, now, "2")
    ingest.begin()
    opened = scanned(ingest, monkeypatch)
    assert ingest.batch(1, now, "1", "2") == ["1"]
    assert len(opened) == 1


def test_of_a_table_that_was_merged_only_what_was_appended_in_the_time_is_read(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    for batch_id in range(3):
        ingest.batch(batch_id, now, f"{batch_id}")
    before = set(delta.open_existing(ingest.directory).file_uris())
    delta.open_existing(ingest.directory).optimize.compact()
    assert not before & set(delta.open_existing(ingest.directory).file_uris())
    ingest.begin()
    opened = scanned(ingest, monkeypatch)
    assert ingest.batch(3, now + HOUR, "0", "1", "2", "3") == ["3"]
    assert len(opened) == 3


@pytest.mark.parametrize("is_gone", ["file", "log"])
def test_where_appended_files_are_gone_the_table_itself_is_read(ingest: Ingest, is_gone: str) -> None:
    now = datetime.now(UTC)
    for batch_id in range(3):
        ingest.batch(batch_id, now, f"{batch_id}")
    table = delta.open_existing(ingest.directory)
    appended = table.file_uris()
    table.optimize.compact()
    if is_gone == "file":
        Path(appended[0]).unlink()
    else:
        table.create_checkpoint()
        (Path(ingest.directory.uri) / "_delta_log" / f"{1:020d}.json").unlink()
    ingest.begin()
    assert ingest.batch(3, now + HOUR, "0", "1", "2", "3") == ["3"]
