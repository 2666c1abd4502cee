"""Writes the rows of a batch from Spark's tasks: each task writes Parquet files, the driver commits once per table.

If the driver collected the rows, it would have to know their size in advance, so the batch would be cached and read
twice. Files of a repeated task or a killed batch belong to no commit; `spinney tidy` removes them.

Tasks also report the ids of the rows. If the driver finds copies among them, it writes the files with copies again.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake.transaction import AddAction

from schemas.contract import Contract
from spinney.core.internal_column_names import internal_name
from spinney.core.records.recent_ids import IdHashes, Mask, ask_in_order
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.clustered_files.sorted_file_writing import FileWriter, WrittenFile

KIND, ARRIVED_AT = internal_name("kind"), internal_name("arrived_at")
"""Internal columns. KIND, in the report: the table that a file belongs to. ARRIVED_AT, in the rows: the batch's
timestamp.
"""

REPORT_DDL = f"{KIND} string, path string, bytes bigint, rows bigint, partition string, stats string, ids binary"
_REPORT = pa.schema(
    [
        (KIND, pa.string()),
        ("path", pa.string()),
        ("bytes", pa.int64()),
        ("rows", pa.int64()),
        ("partition", pa.string()),
        ("stats", pa.string()),
        ("ids", pa.binary()),
    ]
)


@dataclass(frozen=True)
class TargetTable:
    """A table that rows of one kind belong to.

    folder: the table's. has_ids: whether group_key and event_id identify a row's record, so that copies must not be
    stored.
    """

    folder: Path
    contract: Contract
    has_ids: bool = False

    @cached_property
    def schema(self) -> pa.Schema:
        """The table's columns."""
        return arrow_schema(self.contract)


@dataclass(frozen=True)
class RowWriting:
    """Writes the rows of each kind to its table. It is pickled and sent to Spark's workers.

    targets: kind -> table; rows of other kinds are ignored.
    """

    targets: Mapping[str, TargetTable]
    batch_id: int

    def write(self, parts: Iterable[tuple[str, pa.Table]]) -> Iterator[pa.RecordBatch]:
        """Write the rows. Yields one row of REPORT_DDL for each file.

        parts: kinds, each with at least one row: ARRIVED_AT (the same in all rows) and the columns of the table,
        without `ingested_at`, `ingested_on` and `batch_id`, which are the same for a whole batch.
        """
        with _TaskFiles(self.targets, self.batch_id) as files:
            for kind, rows in parts:
                if kind in self.targets:
                    files.write(kind, rows)
        yield pa.RecordBatch.from_pylist(list(files.report()), schema=_REPORT)


class _TaskFiles:
    """The files of one task, one writer per kind. Use it in a `with` block and call `report` afterwards."""

    def __init__(self, targets: Mapping[str, TargetTable], batch_id: int) -> None:
        self._targets, self._batch_id = targets, batch_id
        self._writers: dict[str, FileWriter] = {}
        self._partitions: dict[str, dict[str, date]] = {}
        self._ids: dict[str, list[bytes]] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def write(self, kind: str, rows: pa.Table) -> None:
        """Write rows of one kind. rows: at least one."""
        target = self._targets[kind]
        at = rows.column(ARRIVED_AT)[0].as_py().astimezone(UTC)
        constants = {"ingested_at": at, "ingested_on": at.date(), "batch_id": self._batch_id}
        partition = {name: constants[name] for name in target.contract.partitioned_by}
        schema = pa.schema([field for field in target.schema if field.name not in partition])
        if kind not in self._writers:
            place = target.folder.joinpath(*(f"{name}={value.isoformat()}" for name, value in partition.items()))
            self._partitions[kind] = partition
            self._writers[kind] = self._open.enter_context(FileWriter(place, f"part-{uuid.uuid4()}", schema))
        columns = [
            pa.repeat(pa.scalar(constants[field.name], field.type), rows.num_rows)
            if field.name in constants
            else rows.column(field.name).cast(field.type)
            for field in schema
        ]
        self._writers[kind].write(pa.table(columns, schema=schema))
        if target.has_ids:
            self._ids.setdefault(kind, []).append(IdHashes.of(rows["group_key"], rows["event_id"]).to_bytes())

    def report(self) -> Iterator[dict[str, Any]]:
        """Yield one row of REPORT_DDL per file. The first of a kind has the ids of all its files."""
        for kind, writer in self._writers.items():
            ids = b"".join(self._ids.get(kind, ()))
            partition = json.dumps({name: value.isoformat() for name, value in self._partitions[kind].items()})
            for number, file in enumerate(writer.written):
                yield {
                    KIND: kind,
                    "path": file.path.relative_to(self._targets[kind].folder).as_posix(),
                    "bytes": file.bytes,
                    "rows": file.rows,
                    "partition": partition,
                    "stats": json.dumps(file.stats),
                    "ids": b"" if number else ids,
                }


@dataclass(frozen=True)
class TaskFile:
    """A file that a task wrote. partition, stats: in the form that the log of a Delta table has."""

    path: str
    bytes: int
    partition: dict[str, str | None]
    stats: str


@dataclass(frozen=True)
class WrittenRows:
    """The files of one kind that the tasks wrote, not yet committed, and the ids of all their rows."""

    target: TargetTable
    files: tuple[TaskFile, ...]
    ids: IdHashes

    @classmethod
    def of(cls, report: pa.Table, kind: str, target: TargetTable) -> WrittenRows:
        """Return what the tasks wrote for `target`. kind: its name in the report. report: rows of REPORT_DDL."""
        rows = report.filter(pc.equal(report.column(KIND), kind)).to_pylist()
        files = (TaskFile(row["path"], row["bytes"], json.loads(row["partition"]), row["stats"]) for row in rows)
        return cls(target, tuple(files), IdHashes.from_bytes(b"".join(row["ids"] for row in rows)))

    def add_actions(self) -> list[AddAction]:
        """Return the actions that commit the files."""
        now = int(time.time() * 1000)
        return [AddAction(file.path, file.bytes, file.partition, now, True, file.stats) for file in self.files]

    def without_copies(self, are_kept: Callable[[IdHashes], Mask]) -> WrittenRows:
        """Drop rows: write each file that has such rows again, without them, and remove the first version.

        are_kept: returns for each id whether its row is kept; it gets the ids in the order of the records in Kafka.
        Rows pass through memory one row group at a time.
        """
        paths = [self.target.folder / file.path for file in self.files]
        parts = [pq.ParquetFile(path).read(list(_IDENTITY)) for path in paths]
        whole = pa.concat_tables(parts)
        ids = IdHashes.of(whole["group_key"], whole["event_id"])
        is_kept = ask_in_order(are_kept, ids, whole["kafka_partition"].to_numpy(), whole["kafka_offset"].to_numpy())
        ends = np.cumsum([part.num_rows for part in parts])
        files: list[TaskFile] = []
        for file, path, of_file in zip(self.files, paths, np.split(is_kept, ends[:-1]), strict=True):
            if of_file.all():
                files.append(file)
                continue
            files += (self._task_file(file, written) for written in _rewrite(path, of_file))
            path.unlink()
        return WrittenRows(self.target, tuple(files), ids.take(is_kept))

    def _task_file(self, before: TaskFile, written: WrittenFile) -> TaskFile:
        path = written.path.relative_to(self.target.folder).as_posix()
        return TaskFile(path, written.bytes, before.partition, json.dumps(written.stats))


_IDENTITY = ("group_key", "event_id", "kafka_partition", "kafka_offset")


def _rewrite(path: Path, is_kept: Mask) -> list[WrittenFile]:
    """Write the kept rows of a file into new files beside it."""
    source, at = pq.ParquetFile(path), 0
    with FileWriter(path.parent, f"part-{uuid.uuid4()}", source.schema_arrow) as writer:
        for number in range(source.num_row_groups):
            rows = source.read_row_group(number)
            kept = rows.filter(pa.array(is_kept[at : at + rows.num_rows]))
            at += rows.num_rows
            if kept.num_rows:
                writer.write(kept)
    return writer.written
