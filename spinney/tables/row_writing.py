"""Writes the rows of a batch from Spark's tasks: each task writes Parquet files, the driver commits once per table.

Collecting the rows on the driver would need their size in advance, so the batch would be cached and read twice. Files
of a repeated task or a killed batch are part of no commit; `spinney tidy` removes them.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, date
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
from deltalake.transaction import AddAction

from schemas.contract import Contract
from spinney.core.column_names import internal_name
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.sorted_files import FileWriter, WrittenFile

KIND, ARRIVED_AT = internal_name("kind"), internal_name("arrived_at")
"""Columns of the rows: which table a row belongs to; the batch's timestamp."""

REPORT_DDL = f"{KIND} string, path string, bytes bigint, rows bigint, partition string, stats string"
_REPORT = pa.schema(
    [
        (KIND, pa.string()),
        ("path", pa.string()),
        ("bytes", pa.int64()),
        ("rows", pa.int64()),
        ("partition", pa.string()),
        ("stats", pa.string()),
    ]
)


@dataclass(frozen=True)
class TargetTable:
    """A table that rows of one kind belong to.

    folder: the table's. source_names: column of the table -> column of the rows, where that has another name.
    """

    folder: Path
    contract: Contract
    source_names: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def schema(self) -> pa.Schema:
        """The table's columns."""
        return arrow_schema(self.contract)


@dataclass(frozen=True)
class RowWriting:
    """Writes the rows of each kind to its table. Pickled into Spark's workers.

    targets: by kind; rows of other kinds are ignored.
    """

    targets: Mapping[str, TargetTable]
    batch_id: int

    def write(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """One row of REPORT_DDL for each file.

        batches: KIND, ARRIVED_AT (the same in all rows) and the columns of the tables, without `ingested_at`,
        `ingested_on` and `batch_id`, which are the same for a whole batch.
        """
        with _TaskFiles(self.targets, self.batch_id) as files:
            for batch in batches:
                rows = pa.table(batch)
                for kind in pc.unique(rows.column(KIND)).to_pylist():
                    if kind in self.targets:
                        files.write(kind, rows.filter(pc.equal(rows.column(KIND), kind)))
        yield pa.RecordBatch.from_pylist(list(files.report()), schema=_REPORT)


class _TaskFiles:
    """The files of one task, one writer per kind. Use it in a `with` block and call `report` afterwards."""

    def __init__(self, targets: Mapping[str, TargetTable], batch_id: int) -> None:
        self._targets, self._batch_id = targets, batch_id
        self._writers: dict[str, FileWriter] = {}
        self._partitions: dict[str, dict[str, date]] = {}
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
            else rows.column(target.source_names.get(field.name, field.name)).cast(field.type)
            for field in schema
        ]
        self._writers[kind].write(pa.table(columns, schema=schema))

    def report(self) -> Iterator[dict[str, Any]]:
        """Yield one row of REPORT_DDL per file."""
        for kind, writer in self._writers.items():
            for file in writer.written:
                yield self._row(kind, file)

    def _row(self, kind: str, written: WrittenFile) -> dict[str, Any]:
        partition = {name: value.isoformat() for name, value in self._partitions[kind].items()}
        return {
            KIND: kind,
            "path": written.path.relative_to(self._targets[kind].folder).as_posix(),
            "bytes": written.bytes,
            "rows": written.rows,
            "partition": json.dumps(partition),
            "stats": json.dumps(written.stats),
        }


def add_actions(report: pa.Table, kind: str) -> list[AddAction]:
    """Return the actions that commit the files of one kind. report: rows of REPORT_DDL."""
    now = int(time.time() * 1000)
    files = report.filter(pc.equal(report.column(KIND), kind)).to_pylist()
    return [
        AddAction(row["path"], row["bytes"], json.loads(row["partition"]), now, True, row["stats"]) for row in files
    ]
