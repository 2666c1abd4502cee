"""Read Delta tables by delta-rs, without a JVM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyarrow import fs

from spinney.core.errors import ContractError
from spinney.sources.batch import Batch, DataFile
from spinney.sources.parquet_files import INT96_UNIT, rows_per_batch

_ERRORS = (DeltaError, pa.ArrowException, OSError)


def is_delta(folder: Path) -> bool:
    return (folder / "_delta_log").is_dir()


def open_delta(folder: Path, name: str) -> DataFile:
    """Raises ContractError: no Delta table, or one that uses what delta-rs does not know."""
    try:
        # By Arrow's own file system: that of delta-rs reads slower.
        data = DeltaTable(str(folder)).to_pyarrow_dataset(
            filesystem=fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem()),
            parquet_read_options=ds.ParquetReadOptions(coerce_int96_timestamp_unit=INT96_UNIT),
        )
        rows = data.count_rows()
    except _ERRORS as error:
        raise unreadable(name, error) from error
    columns = {field.name: field.type for field in data.schema}
    size = rows_per_batch(data.schema, 0, rows)
    return DataFile(name, columns, rows, exact=True, read=lambda only: _read(data, name, only, size))


def unreadable(name: str, error: Exception) -> ContractError:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return ContractError(
        f"{name}: expected a Delta table; got: {first[:300]}. If it uses features that are not known here (deletion "
        "vectors, column mapping), write its rows to Parquet files and name their folder"
    )


def _read(data: ds.Dataset, name: str, only: Sequence[str] | None, size: int) -> Iterator[Batch]:
    first = 1
    columns = {each: ds.field(each) for each in (data.schema.names if only is None else only)}
    try:
        scanner = data.scanner(columns, batch_size=size, batch_readahead=1, fragment_readahead=1)
        for batch in scanner.to_batches():
            yield Batch(name, range(first, first + batch.num_rows), batch)
            first += batch.num_rows
    except _ERRORS as error:
        raise unreadable(name, error) from error
