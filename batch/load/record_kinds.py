"""The rows of one kind of message (events or outcomes) during a load."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from batch.load.column_checks import PLACE, Checker, Columns
from batch.load.spool import Spool
from spinney.core.errors import StoreError


class RecordKind:
    """Checks rows; keeps the valid ones in a spool and the doubtful ones in a Parquet file.

    topic: stored with the rows. scratch: folder for temporary files. late: outcomes that are extracted from events.
    """

    def __init__(self, checker: Checker, spool: Spool, topic: str, scratch: Path, *, late: bool = False) -> None:
        self.checker, self.spool, self.topic, self.late = checker, spool, topic, late
        name = self.columns.base.name
        self.doubtful, self.validated = scratch / f"{name}.doubtful.parquet", scratch / f"{name}.validated"
        self.checked_rows = self.doubtful_rows = 0
        self._writer: pq.ParquetWriter | None = None

    @property
    def columns(self) -> Columns:
        return self.checker.columns

    def check(
        self, batch: pa.RecordBatch, raw: pa.RecordBatch, place: pa.Array, carried: dict[str, pa.Array] | None = None
    ) -> None:
        """batch: the messages. raw: the same rows with all columns of the source, which Spark validates if they are
        doubtful. place: row numbers in the source. carried: additional columns to keep with the valid rows.
        """
        checked = self.checker.check(batch, place, carried)
        self.checked_rows += batch.num_rows
        self.spool.add(checked.valid)
        if checked.doubtful.any():
            self._doubt(pa.Table.from_batches([raw]).append_column(PLACE, place).filter(pa.array(checked.doubtful)))

    def _doubt(self, rows: pa.Table) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.doubtful, rows.schema)
        self._writer.write_table(rows)
        self.doubtful_rows += rows.num_rows

    def close(self) -> None:
        """End checking. Raises StoreError when the numbers of rows do not add up."""
        if self._writer is not None:
            self._writer.close()
        if self.spool.rows + self.doubtful_rows != self.checked_rows:
            raise StoreError(
                f"{self.topic}: expected {self.checked_rows} rows, valid or doubtful; got {self.spool.rows} and "
                f"{self.doubtful_rows}. Nothing was loaded"
            )
