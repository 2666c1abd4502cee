"""Parquet files in which the rows of a group are found without reading the rest.

Row groups are small and end where a shard ends, if one ends near; files too. The statistics for the table's log are
exact: texts are not cut off, and times are rounded outwards.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spinney.core.clustering import row_group_rows

ROW_GROUP_ROWS = 16_384
ROW_GROUP_BYTES = 32 * 1024**2
"""Of rows in memory; rows with large payloads make smaller row groups."""

FILE_BYTES = 64 * 1024**2

KEYS = ("group_key", "round_id", "model_id")
"""The texts that rows are looked up by: of other texts the log has no statistics."""

LONGEST_KEY = 1_024
"""Characters. A file with a longer one has no statistics of that column."""

_MANY_VALUES = ("event_id", "event_time", "kafka_offset")
"""Columns whose values rarely repeat, so that a dictionary only costs."""


@dataclass(frozen=True)
class Written:
    """A file that is not part of a table yet. stats: as the log of a Delta table has them."""

    path: Path
    bytes: int
    rows: int
    stats: dict[str, Any]


class FileWriter:
    """Writes sorted rows into files `<name>-<number>.parquet`. To be used in a `with`; `written` is whole afterwards.

    schema: of the rows, without partition columns.
    """

    def __init__(self, place: Path, name: str, schema: pa.Schema) -> None:
        self.written: list[Written] = []
        self._place, self._name, self._schema = place, name, schema
        self._waiting: list[pa.Table] = []
        self._rows = 0
        self._shard = schema.get_field_index("shard")
        self._open: _OpenFile | None = None

    def __enter__(self) -> Self:
        self._place.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._flush(at_end=True)
        self._close()

    def write(self, rows: pa.Table) -> None:
        self._waiting.append(rows)
        self._rows += len(rows)
        if self._rows >= 4 * ROW_GROUP_ROWS or sum(each.nbytes for each in self._waiting) >= 2 * ROW_GROUP_BYTES:
            self._flush(at_end=False)

    def _flush(self, *, at_end: bool) -> None:
        """Write row groups; one and a half of them wait for the rows that follow, unless it is the end."""
        if not self._rows:
            return
        waiting = pa.concat_tables(self._waiting).combine_chunks()
        per_row = max(waiting.nbytes / len(waiting), 1e-9)
        wanted = max(1, min(ROW_GROUP_ROWS, int(ROW_GROUP_BYTES / per_row)))
        shards = waiting.column(self._shard).to_numpy() if self._shard >= 0 else np.zeros(len(waiting), np.int32)
        at = 0
        while len(waiting) - at > (0 if at_end else wanted + wanted // 2):
            rows = row_group_rows(shards[at:], wanted)
            end = at + rows
            self._write_group(waiting.slice(at, rows), ends_shard=end < len(shards) and shards[end] != shards[end - 1])
            at = end
        self._waiting, self._rows = ([waiting.slice(at)], len(waiting) - at) if at < len(waiting) else ([], 0)

    def _write_group(self, rows: pa.Table, *, ends_shard: bool) -> None:
        if self._open is None:
            path = self._place / f"{self._name}-{len(self.written):05}.parquet"
            self._open = _OpenFile(path, self._schema)
        self._open.write(rows)
        if self._open.bytes >= FILE_BYTES * (1.0 if ends_shard else 1.5):
            self._close()

    def _close(self) -> None:
        if self._open is not None:
            self.written.append(self._open.close())
            self._open = None


class _OpenFile:
    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path = path
        self._sink = pa.OSFile(str(path), "wb")
        repeated = [
            each.name
            for each in schema
            if each.name not in _MANY_VALUES
            and not pa.types.is_floating(each.type)
            and not pa.types.is_nested(each.type)
        ]
        self._writer = pq.ParquetWriter(self._sink, schema, compression="snappy", use_dictionary=repeated)
        self._ranges = {each.name: _Range() for each in schema if _has_statistics(each)}
        self._rows = 0

    def write(self, rows: pa.Table) -> None:
        self._writer.write_table(rows, row_group_size=max(len(rows), 1))
        self._rows += len(rows)
        for name, seen in self._ranges.items():
            seen.add(rows.column(name))

    @property
    def bytes(self) -> int:
        return int(self._sink.tell())

    def close(self) -> Written:
        self._writer.close()
        self._sink.close()
        # The files that this one replaces were on disk long ago: it must not be in the page cache alone.
        with open(self._path, "rb+") as stream:
            os.fsync(stream.fileno())
        known = {name: seen for name, seen in self._ranges.items() if seen.is_known}
        stats = {
            "numRecords": self._rows,
            "minValues": {name: _as_logged(seen.least, up=False) for name, seen in known.items()},
            "maxValues": {name: _as_logged(seen.greatest, up=True) for name, seen in known.items()},
            "nullCount": {name: seen.nulls for name, seen in self._ranges.items()},
        }
        return Written(self._path, self._path.stat().st_size, self._rows, stats)


def _has_statistics(column: pa.Field) -> bool:
    """Keys, times and whole numbers: what rows are selected by. Not floats, since NaN has no place in an order."""
    is_ordered = pa.types.is_integer(column.type) or pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)
    return bool(is_ordered or (pa.types.is_string(column.type) and column.name in KEYS))


class _Range:
    """Least and greatest of a column."""

    def __init__(self) -> None:
        self.least: Any = None
        self.greatest: Any = None
        self.nulls = 0
        self._too_long = False

    def add(self, column: pa.ChunkedArray) -> None:
        self.nulls += column.null_count
        ends = pc.min_max(column).as_py()
        if ends["min"] is None:
            return
        self.least = ends["min"] if self.least is None else min(self.least, ends["min"])
        self.greatest = ends["max"] if self.greatest is None else max(self.greatest, ends["max"])
        if isinstance(self.least, str):
            self._too_long |= max(len(ends["min"]), len(ends["max"])) > LONGEST_KEY

    @property
    def is_known(self) -> bool:
        return self.least is not None and not self._too_long


def _as_logged(value: Any, *, up: bool) -> Any:
    """As Delta's log has it: times in whole milliseconds."""
    if isinstance(value, datetime):
        if up and value.microsecond % 1000:
            value += timedelta(milliseconds=1)
        value = value.astimezone(UTC)
        return f"{value:%Y-%m-%dT%H:%M:%S}.{value.microsecond // 1000:03}Z"
    return value.isoformat() if isinstance(value, date) else value
