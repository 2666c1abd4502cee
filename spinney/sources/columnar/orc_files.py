"""Read ORC files as Arrow batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow import orc, types

from spinney.core.errors import ContractError
from spinney.sources.columnar.typed_files import ERRORS, TypedFile, open_typed, rows_per_batch, unreadable_error
from spinney.sources.options import ReadOptions
from spinney.sources.row_batch import DataFile

_KIND = "an ORC"


def open_orc(file: Path, name: str, options: ReadOptions) -> DataFile:
    """Open an ORC file. Raises ContractError: not an ORC file, or a selected column twice in it.

    Arrow reads times of ORC in nanoseconds and fails at a time outside 1677 to 2262; the error then names the column.
    """
    try:
        opened = orc.ORCFile(file)
        schema, rows, size = opened.schema, opened.nrows, opened.content_length
    except ERRORS as error:
        raise unreadable_error(name, error, _KIND) from error
    batch_rows = rows_per_batch(schema, size, rows)

    def read(only: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        wanted = list(schema.names) if only is None else list(only)
        try:
            yield from _batches(file, wanted, batch_rows)
        except pa.ArrowInvalid as error:
            column = _column_out_of_range(file, schema, wanted)
            if column is None:
                raise
            raise ContractError(
                f"{name}: column {column}: expected times from 1677-09-22 to 2262-04-11, the nanoseconds of 64 bits "
                f"by which Arrow reads ORC; got: {str(error)[:200]}. Write the rows as Parquet"
            ) from error

    return open_typed(TypedFile(schema, rows, is_exact=True, read=read), name, options, _KIND)


def _batches(file: Path, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
    data = ds.dataset(file, format="orc")
    scanner = data.scanner(
        {name: ds.field(name) for name in columns}, batch_size=size, batch_readahead=1, fragment_readahead=1
    )
    yield from scanner.to_batches()


def _column_out_of_range(file: Path, schema: pa.Schema, columns: Sequence[str]) -> str | None:
    """Return the first column of times that cannot be read by itself; None if all can."""
    for name in columns:
        if types.is_timestamp(schema.field(name).type):
            try:
                orc.ORCFile(file).read([name])
            except pa.ArrowInvalid:
                return name
    return None
