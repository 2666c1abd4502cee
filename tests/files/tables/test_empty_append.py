"""A file without rows is appended at each start, so its cost must not grow with the log."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from new_tables import create_tables

from schemas import tables
from spinney.core.errors import StoreError
from spinney.storage.layout import Directory, FleetStore
from spinney.tables import delta
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.delta import DirectoryWriter
from spinney.tables.empty_append import STEP, append_no_rows


@pytest.fixture
def directory(configured) -> Directory:
    store = FleetStore.of(configured())
    create_tables(store)
    return store.directory(tables.MODELS, "stream")


def fit(directory: Directory, batch_id: int) -> None:
    schema = arrow_schema(directory.contract)
    row = dict.fromkeys(schema.names) | {
        "shard": 0, "group_key": "k", "status": "fitted", "fitted_at": datetime.now(UTC), "batch_id": batch_id,
    }  # fmt: skip
    rows = pa.Table.from_pylist([row], schema=schema)
    DirectoryWriter(directory, "retrain", "c1").append(rows, step="fit", batch_id=batch_id)


def test_the_log_is_not_searched_for_the_file_before_however_long_ago_it_was(directory, monkeypatch) -> None:
    monkeypatch.setattr(delta, "HISTORY_COMMITS", 3)
    append_no_rows(directory, "retrain", "c1")
    for batch_id in range(4):
        fit(directory, batch_id)
    searched: list[int | None] = []
    history = DeltaTable.history

    def recorded(table: DeltaTable, limit: int | None = None):
        searched.append(limit)
        return history(table, limit)

    monkeypatch.setattr(DeltaTable, "history", recorded)
    for _ in range(2):
        append_no_rows(directory, "retrain", "c1")
    assert searched == [3, 3]
    assert DeltaTable(directory.uri).version() == 7
    assert DeltaTable(directory.uri).count() == 4
    writer = DirectoryWriter(directory, "retrain", "c1")
    assert writer.last_commit("fit").batch_id == 3
    assert writer.last_commit(STEP).batch_id == 6, "the version before it"


def test_a_file_of_another_checkpoint_is_refused(directory) -> None:
    fit(directory, 0)
    with pytest.raises(StoreError, match="was written from checkpoint c1"):
        append_no_rows(directory, "retrain", "c2")
    assert DeltaTable(directory.uri).version() == 1
