"""Write models in the tasks that fit them: a task writes Parquet files into the table's folder and reports them.

The driver commits all files of a part at once. Files of a repeated task or a killed run are in no commit, and `spinney
tidy` removes them. Collecting models on the driver, or Spark's own writer, took as long as fitting them: 23 s for a
part of 4,000 groups, of which 10 s were that writer's first use.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake.transaction import AddAction

from schemas import tables
from spinney.core.keys import shard_of
from spinney.retraining.fitting.spark_fitting import KEPT
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.clustered_files.sorted_file_writing import FileWriter, WrittenFile

REPORT_DDL = "path string, bytes bigint, rows bigint, stats string, kept bigint"
_REPORT = pa.schema(
    [("path", pa.string()), ("bytes", pa.int64()), ("rows", pa.int64()), ("stats", pa.string()), ("kept", pa.int64())]
)


@dataclass(frozen=True)
class ModelWriter:
    """Writes rows of RESULT_TYPES as rows of `models`. It is pickled and sent to Spark's workers.

    folder: of the table. constants: values of the other columns of `models`. shards: the fleet's number of shards.
    """

    folder: Path
    constants: Mapping[str, Any]
    shards: int

    def write(self, fitted: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Write the models. Yields rows of REPORT_DDL: one for each file, and one with the number of kept groups."""
        schema, n_kept = arrow_schema(tables.MODELS), 0
        with FileWriter(self.folder, f"part-{uuid.uuid4()}", schema) as writer:
            for batch in fitted:
                is_kept = pc.equal(batch.column("status"), KEPT)
                n_kept += int(pc.sum(is_kept).as_py() or 0)
                rows = pa.table(batch).filter(pc.invert(is_kept))
                if rows.num_rows:
                    writer.write(self._as_models(rows, schema))
        yield _report_batch([*(_file_row(file) for file in writer.written), {"kept": n_kept}])

    def _as_models(self, rows: pa.Table, schema: pa.Schema) -> pa.Table:
        shards = pa.array([shard_of(key, self.shards) for key in rows.column("group_key").to_pylist()], pa.int32())
        columns = {name: rows.column(name) for name in rows.column_names} | {"shard": shards}
        for name, value in self.constants.items():
            columns[name] = pa.repeat(pa.scalar(value, schema.field(name).type), rows.num_rows)
        return pa.table([columns[field.name] for field in schema], schema=schema)


def _file_row(written: WrittenFile) -> dict[str, Any]:
    stats = json.dumps(written.stats)
    return {"path": written.path.name, "bytes": written.bytes, "rows": written.rows, "stats": stats, "kept": 0}


def _report_batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{"rows": 0, **row} for row in rows], schema=_REPORT)


def add_actions(report: pa.Table) -> list[AddAction]:
    """Return the Delta actions that add the files of a report to the table."""
    now = int(time.time() * 1000)
    files = report.filter(pc.is_valid(report.column("path"))).to_pylist()
    return [AddAction(row["path"], row["bytes"], {}, now, True, row["stats"]) for row in files]
