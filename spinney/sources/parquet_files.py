"""Read Parquet files as Arrow batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from spinney.core.errors import ContractError
from spinney.sources import column_checks
from spinney.sources.options import ReadOptions
from spinney.sources.row_batch import DataFile, RowBatch

BATCH_ROWS, BATCH_BYTES = 262_144, 64 * 1024**2
"""Upper bounds of one batch; bytes are estimated from the schema and the file's metadata."""

INT96_UNIT = "us"
"""INT96 timestamps reach beyond 2262, the last year of nanoseconds in 64 bits."""

_TEXT_BYTES = 32
_ERRORS = (pa.ArrowException, OSError)


def open_parquet(file: Path, name: str, options: ReadOptions) -> DataFile:
    """Open a Parquet file. Raises ContractError: not a Parquet file, or a selected column twice in it."""
    try:
        with _opened(file) as opened:
            metadata, schema = opened.metadata, opened.schema_arrow
    except _ERRORS as error:
        raise unreadable(name, error) from error
    size = sum(metadata.row_group(at).total_byte_size for at in range(metadata.num_row_groups))
    batch_rows = rows_per_batch(schema, size, metadata.num_rows)
    column_checks.refuse_duplicate_columns(name, schema.names, options)
    # None of them is selected. Which of them has the values is not known, and Arrow finds no column by such a name.
    repeated = column_checks.find_repeated_columns(schema.names)
    columns = {field.name: field.type for field in schema if field.name not in repeated}
    is_exclusive = options.selection is not None and options.selection.is_exclusive

    def read(only: Sequence[str] | None) -> Iterator[RowBatch]:
        return _read(file, name, list(columns) if repeated and only is None else only, batch_rows)

    notes = () if is_exclusive else tuple(map(column_checks.left_out_note, repeated))
    return DataFile(name, columns, metadata.num_rows, is_exact=True, read=read, notes=notes)


def unreadable(name: str, error: Exception) -> ContractError:
    """Return the error for a Parquet file that cannot be read."""
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return ContractError(f"{name}: expected a Parquet file; got: {first[:300]}")


def rows_per_batch(schema: pa.Schema, size: int, rows: int) -> int:
    """Return how many rows fit a batch. size: bytes of all rows; 0 if not known."""
    widths = [field.type.bit_width // 8 if _is_fixed(field.type) else _TEXT_BYTES for field in schema]
    width = max(sum(widths), size // max(rows, 1), 1)
    return max(1, min(BATCH_ROWS, BATCH_BYTES // width))


def _opened(file: Path) -> pq.ParquetFile:
    # pyarrow's default keeps every column chunk that it has read until the file is closed: 80 bytes a row.
    return pq.ParquetFile(file, coerce_int96_timestamp_unit=INT96_UNIT, pre_buffer=False)


def _read(file: Path, name: str, only: Sequence[str] | None, batch_rows: int) -> Iterator[RowBatch]:
    first = 1
    try:
        with _opened(file) as opened:
            for batch in opened.iter_batches(batch_rows, columns=None if only is None else list(only)):
                # A name may be the beginning of another one's path.
                names = [name for name in batch.schema.names if only is None or name in only]
                kept = batch.select(names)
                yield RowBatch(name, range(first, first + batch.num_rows), kept)
                first += batch.num_rows
    except _ERRORS as error:
        raise unreadable(name, error) from error


def _is_fixed(kind: pa.DataType) -> bool:
    return bool(types.is_primitive(kind) or types.is_decimal128(kind))
