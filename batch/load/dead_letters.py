"""The rejected rows of a load: kept in a file until the valid ones are stored, then appended to `dead_letters`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from batch.load import parquet_writer
from schemas import tables
from schemas.vocabulary import QueryName
from spinney.storage.atomic_files import local_folder
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.delta import DirectoryWriter

NAME = QueryName.LOAD.value
_KEPT_ROWS, _KEPT_BYTES = 20_000, 32 << 20
_SCHEMA = pa.schema(
    [
        ("topic", pa.string()),
        ("kafka_offset", pa.int64()),
        ("value", pa.binary()),
        ("reason", pa.string()),
        ("field", pa.string()),
        ("detail", pa.string()),
    ]
)


class DeadLetters:
    """Collects rejected rows in a file, which is created when it is needed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0
        self._writer: pq.ParquetWriter | None = None

    def add(self, row: dict[str, Any], *, topic: str, place: int) -> None:
        """Add a rejected row. row: value, reason, field, detail. place: the row's number in the source, from 0."""
        self._rows.append({**row, "topic": topic, "kafka_offset": place})
        self._bytes += len(row["value"])
        if len(self._rows) >= _KEPT_ROWS or self._bytes >= _KEPT_BYTES:
            self._write()

    def _write(self) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._file, _SCHEMA)
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=_SCHEMA))
        self._rows, self._bytes = [], 0

    def store(self, fleet_store: FleetStore, moment: datetime) -> int:
        """Append the rejected rows that the table does not have yet. Returns their number.

        A dead letter counts as stored if the table has its topic and value, since an interrupted load may have stored
        some.
        """
        if self._rows:
            self._write()
        if self._writer is None:
            return 0
        self._writer.close()
        place = fleet_store.directory(tables.DEAD_LETTERS)
        writer = DirectoryWriter(place, NAME, NAME)
        last = writer.last_commit(NAME)
        batch_id = last.batch_id + 1 if last else 0
        schema = arrow_schema(place.contract)
        stamps = {"kafka_partition": 0, "ingested_at": moment, "batch_id": batch_id}
        added, rows = [], 0
        for part in self._fresh(self._known(fleet_store)):
            added.append(parquet_writer.write(local_folder(place.uri), _finished(part, schema, stamps), {}))
            rows += part.num_rows
        if added:
            writer.append_files(added, step=NAME, batch_id=batch_id)
        return rows

    def _fresh(self, known: set[tuple[str, bytes]]) -> Iterator[pa.Table]:
        with pq.ParquetFile(self._file, pre_buffer=False) as opened:
            for batch in opened.iter_batches(_KEPT_ROWS):
                topics, values = batch["topic"].to_pylist(), batch["value"].to_pylist()
                is_fresh = [letter not in known for letter in zip(topics, values, strict=True)]
                if any(is_fresh):
                    yield pa.Table.from_batches([batch]).filter(pa.array(is_fresh))

    def _known(self, fleet_store: FleetStore) -> set[tuple[str, bytes]]:
        topics = pq.read_table(self._file, columns=["topic"])["topic"].unique()
        table = delta.open_table(fleet_store.directory(tables.DEAD_LETTERS))
        if table is None or not table.file_uris():
            return set()
        stored = delta.open_dataset(table).to_table(["topic", "value"], filter=ds.field("topic").isin(topics))
        return set(zip(stored["topic"].to_pylist(), stored["value"].to_pylist(), strict=True))


def _finished(rows: pa.Table, schema: pa.Schema, stamps: dict[str, Any]) -> pa.Table:
    columns = []
    for field in schema:
        if field.name in stamps:
            columns.append(pa.repeat(pa.scalar(stamps[field.name], field.type), rows.num_rows))
        elif field.name in rows.column_names:
            columns.append(rows[field.name])
        else:  # a file's rows have no key
            columns.append(pa.nulls(rows.num_rows, field.type))
    return pa.table(columns, schema=schema)
