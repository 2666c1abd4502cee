"""Read Delta tables by delta-rs, without a JVM.

Arrow reads the files of a table. A table with deletion vectors or column mapping is read by the engine of delta-rs
instead, which does not keep the order of the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, DeltaProtocolError
from pyarrow import fs

from spinney.core.errors import ContractError
from spinney.sources.columnar.parquet_files import INT96_UNIT
from spinney.sources.columnar.typed_files import rows_per_batch
from spinney.sources.row_batch import DataFile, RowBatch

_ERRORS = (DeltaError, pa.ArrowException, OSError)


def is_delta(folder: Path) -> bool:
    """Return whether a folder is a Delta table."""
    return (folder / "_delta_log").is_dir()


def open_delta(folder: Path, name: str) -> DataFile:
    """Open a Delta table. Raises ContractError: not a Delta table, or one with features that delta-rs does not
    support.
    """
    try:
        table = DeltaTable(str(folder))
        try:
            return _open_files(table, folder, name)
        except DeltaProtocolError:
            return _open_scan(table, name)
    except _ERRORS as error:
        raise unreadable(name, error) from error


def _open_files(table: DeltaTable, folder: Path, name: str) -> DataFile:
    # By Arrow's own file system: that of delta-rs reads slower.
    data = table.to_pyarrow_dataset(
        filesystem=fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem()),
        parquet_read_options=ds.ParquetReadOptions(coerce_int96_timestamp_unit=INT96_UNIT),
    )
    rows = data.count_rows()
    columns = {field.name: field.type for field in data.schema}
    size = rows_per_batch(data.schema, 0, rows)
    return DataFile(name, columns, rows, is_exact=True, read=lambda only: _read(data, name, only, size))


def _open_scan(table: DeltaTable, name: str) -> DataFile:
    schema = pa.schema(table.schema().to_arrow())
    columns = {field.name: field.type for field in schema}
    # The count includes deleted rows.
    return DataFile(name, columns, table.count(), is_exact=False, read=lambda only: _scan(table, name, only, schema))


def unreadable(name: str, error: Exception) -> ContractError:
    """Return the error for a Delta table that cannot be read."""
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return ContractError(
        f"{name}: expected a Delta table; got: {first[:300]}. If it uses features that are not known here, "
        "write its rows to Parquet files and name their folder"
    )


def _read(data: ds.Dataset, name: str, only: Sequence[str] | None, size: int) -> Iterator[RowBatch]:
    first = 1
    columns = {column: ds.field(column) for column in (data.schema.names if only is None else only)}
    try:
        scanner = data.scanner(columns, batch_size=size, batch_readahead=1, fragment_readahead=1)
        for batch in scanner.to_batches():
            yield RowBatch(name, range(first, first + batch.num_rows), batch)
            first += batch.num_rows
    except _ERRORS as error:
        raise unreadable(name, error) from error


def _scan(table: DeltaTable, name: str, only: Sequence[str] | None, schema: pa.Schema) -> Iterator[RowBatch]:
    first = 1
    wanted = list(schema.names) if only is None else list(only)
    kinds = pa.schema([schema.field(column) for column in wanted])
    try:
        for batch in pa.RecordBatchReader.from_stream(table.scan(columns=wanted)):
            # The engine has views of texts and bytes.
            yield RowBatch(name, range(first, first + batch.num_rows), batch.cast(kinds))
            first += batch.num_rows
    except _ERRORS as error:
        raise unreadable(name, error) from error
