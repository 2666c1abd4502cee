"""Read Parquet files as Arrow batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from spinney.sources.columnar.typed_files import ERRORS, TypedFile, open_typed, rows_per_batch, unreadable_error
from spinney.sources.options import ReadOptions
from spinney.sources.row_batch import DataFile

INT96_UNIT = "us"
"""Unit in which INT96 timestamps are read: they may be later than 2262, where nanoseconds in 64 bits end."""

_KIND = "a Parquet"


def open_parquet(file: Path, name: str, options: ReadOptions) -> DataFile:
    """Open a Parquet file. Raises ContractError: not a Parquet file, or a selected column twice in it."""
    try:
        with _opened(file) as opened:
            metadata, schema = opened.metadata, opened.schema_arrow
    except ERRORS as error:
        raise unreadable_error(name, error, _KIND) from error
    size = sum(metadata.row_group(at).total_byte_size for at in range(metadata.num_row_groups))
    batch_rows = rows_per_batch(schema, size, metadata.num_rows)

    def read(only: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        with _opened(file) as opened:
            yield from opened.iter_batches(batch_rows, columns=None if only is None else list(only))

    typed = TypedFile(schema, metadata.num_rows, is_exact=True, read=read, unreadable=_unreadable(schema, metadata))
    return open_typed(typed, name, options, _KIND)


def _unreadable(schema: pa.Schema, metadata: pq.FileMetaData) -> frozenset[str]:
    """Return the columns of lists of a fixed size that may have gaps, which Arrow writes and does not read."""
    lists = {field.name for field in schema if types.is_fixed_size_list(field.type)}
    if not lists:
        return frozenset()
    groups = [metadata.row_group(at) for at in range(metadata.num_row_groups)]
    chunks = [group.column(at) for group in groups for at in range(metadata.num_columns)]
    with_gaps = [each.path_in_schema for each in chunks if each.statistics is None or each.statistics.null_count != 0]
    return frozenset(name for name in lists if any(path.startswith(f"{name}.") for path in with_gaps))


def _opened(file: Path) -> pq.ParquetFile:
    # pyarrow's default keeps every column chunk that it has read until the file is closed: 80 bytes a row.
    return pq.ParquetFile(file, coerce_int96_timestamp_unit=INT96_UNIT, pre_buffer=False)
