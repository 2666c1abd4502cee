"""One kind of message of a load, on its way from the source to its table."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from batch.load.checking import PLACE, Checker, Columns
from batch.load.spool import Spool
from spinney.core.errors import StoreError


class Kind:
    """Events, or outcomes: their check, the valid rows, and the source's rows that are doubtful.

    topic: as records of it name it. scratch: the load's own folder. late: outcomes taken out of rows of events.
    """

    def __init__(self, checker: Checker, spool: Spool, topic: str, scratch: Path, *, late: bool = False) -> None:
        self.checker, self.spool, self.topic, self.late = checker, spool, topic, late
        name = self.columns.base.name
        self.doubtful, self.judged = scratch / f"{name}.doubtful.parquet", scratch / f"{name}.judged"
        self.checked_rows = self.doubtful_rows = 0
        self._writer: pq.ParquetWriter | None = None

    @property
    def columns(self) -> Columns:
        return self.checker.columns

    def check(
        self, batch: pa.RecordBatch, raw: pa.RecordBatch, place: pa.Array, carried: dict[str, pa.Array] | None = None
    ) -> None:
        """batch: the messages. raw: the same rows as the source has them, to be judged when in doubt. place: their
        numbers in the source. carried: columns to be kept beside the valid rows.
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
        """No more rows are checked. Raises StoreError where one was lost."""
        if self._writer is not None:
            self._writer.close()
        if self.spool.rows + self.doubtful_rows != self.checked_rows:
            raise StoreError(
                f"{self.topic}: expected {self.checked_rows} rows, valid or doubtful; got {self.spool.rows} and "
                f"{self.doubtful_rows}. Nothing was loaded"
            )
