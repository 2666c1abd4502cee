"""A large append is sorted by shard in small row groups; a small one stays as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas import tables
from spinney.storage.layout import FleetStore
from spinney.tables import delta, table_files
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.delta import DirectoryWriter


@pytest.fixture
def store(configured) -> FleetStore:
    made = FleetStore.of(configured())
    delta.create_tables(made)
    return made


def outcomes(store: FleetStore, shards: np.ndarray) -> pa.Table:
    """Rows of these shards, numbered in their order."""
    n = len(shards)
    known = {
        "shard": pa.array(shards, pa.int32()), "event_id": pa.array(np.arange(n)).cast(pa.string()),
        "group_key": pa.array([f'["{shard}"]' for shard in shards]), "label": pa.array(np.arange(n), pa.float64()),
    }  # fmt: skip
    schema = arrow_schema(store.directory(tables.OUTCOMES).contract)
    return pa.table([known.get(name, pa.nulls(n)).cast(schema.field(name).type) for name in schema.names], schema)


def append(store: FleetStore, rows: pa.Table) -> Path:
    """The file that an append of these rows has written."""
    place = store.directory(tables.OUTCOMES)
    DirectoryWriter(place, "ingest", "c1").append(rows, step="outcomes", batch_id=0)
    table = delta.open_existing(place)
    (file,) = table_files.list_files(table)
    return table_files.table_folder(table) / file.path


def test_row_groups_of_a_large_append_hold_different_shards_and_rows_of_a_shard_keep_their_order(store) -> None:
    shards = np.random.default_rng(3).integers(0, 64, 25_000)
    file = pq.ParquetFile(append(store, outcomes(store, shards)))
    found = [file.read_row_group(n).select(["shard", "event_id"]) for n in range(file.num_row_groups)]
    assert [len(rows) for rows in found] == [10_000, 10_000, 5_000]
    in_order = sorted(range(25_000), key=lambda n: (shards[n], n))
    rows = pa.concat_tables(found)
    assert rows.column("event_id").to_pylist() == [str(n) for n in in_order]
    assert rows.column("shard").to_pylist() == [int(shards[n]) for n in in_order]


def test_a_small_append_is_written_as_it_is(store) -> None:
    shards = np.array([5, 3, 5, 1])
    file = pq.ParquetFile(append(store, outcomes(store, shards)))
    assert file.read().column("shard").to_pylist() == [5, 3, 5, 1]


@pytest.mark.parametrize("rows", [4, 25_000])
def test_an_append_is_compressed_whatever_its_size(store, rows: int) -> None:
    metadata = pq.ParquetFile(append(store, outcomes(store, np.arange(rows) % 64))).metadata
    groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
    assert {group.column(n).compression for group in groups for n in range(group.num_columns)} == {"SNAPPY"}
