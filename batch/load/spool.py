"""Keep valid rows between validation and writing: in memory up to MEMORY_BYTES, then on disk by ranges of shards.

A range is small enough to be sorted in memory, so memory does not grow with the number of rows. But a range is at least
one shard, so if most rows are in one shard, memory must hold that shard.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from batch.load.group_numbers import GroupNumbers
from batch.load.vectorized_validation import GROUP
from spinney.core.errors import StoreError

MEMORY_BYTES = 512 * 1024**2
RANGE_BYTES = 192 * 1024**2
FEWEST_RANGES = 2


class Spool:
    """Rows of one table, added in any order and read back by ranges of shards.

    folder: for its files; created when needed. rows: expected number of rows, which determines the number of ranges.
    """

    def __init__(self, folder: Path, schema: pa.Schema, groups: GroupNumbers, rows: int) -> None:
        self._folder = folder
        self.schema = schema
        self._groups = groups
        self._expected = rows
        self._kept: list[pa.Table] = []
        self._bytes = 0
        self._ranges = 0
        self._files: list[pa.ipc.RecordBatchFileWriter] = []
        self.rows = 0

    def add(self, table: pa.Table) -> None:
        """Add rows."""
        if not table.num_rows:
            return
        table = table.select(self.schema.names).cast(self.schema)
        self.rows += table.num_rows
        self._bytes += table.nbytes
        if self._files:
            self._spill(table)
            return
        self._kept.append(table)
        if self._bytes > MEMORY_BYTES:
            self._begin_spilling()

    def expect(self, rows: int) -> None:
        """Increase the expected number of rows."""
        self._expected += rows

    def ranges(self) -> Iterator[pa.Table]:
        """Yield one table per range of shards, in the order of the shards. Can be read once."""
        for writer in self._files:
            writer.close()
        if not self._ranges:
            if self._kept:
                table, self._kept = pa.concat_tables(self._kept).combine_chunks(), []
                yield table
            return
        given = 0
        for at in range(self._ranges):
            with pa.OSFile(str(self._file(at))) as file, pa.ipc.open_file(file) as reader:
                table = reader.read_all().combine_chunks()
            self._file(at).unlink()
            given += table.num_rows
            if table.num_rows:
                yield table
        if given != self.rows:
            raise StoreError(f"load: {self._folder}: expected the {self.rows} rows written; got {given}")

    def _begin_spilling(self) -> None:
        expected = self._bytes * max(1.0, self._expected / self.rows)
        self._ranges = max(FEWEST_RANGES, min(self._groups.shard_count, int(expected // RANGE_BYTES) + 1))
        self._folder.mkdir(parents=True, exist_ok=True)
        options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
        self._files = [pa.ipc.new_file(str(self._file(at)), self.schema, options=options) for at in range(self._ranges)]
        kept, self._kept = self._kept, []
        for table in kept:
            self._spill(table)

    def _spill(self, table: pa.Table) -> None:
        shards = self._groups.shards()[np.asarray(table[GROUP])].astype(np.int64)
        ranges = shards * self._ranges // self._groups.shard_count
        order = np.argsort(ranges.astype(np.uint16), kind="stable")
        ends = np.cumsum(np.bincount(ranges, minlength=self._ranges))
        table = table.take(pa.array(order))
        for at, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            if end > start:
                self._files[at].write_table(table.slice(start, end - start))

    def _file(self, at: int) -> Path:
        return self._folder / f"{at}.arrow"
