"""Open the source of a load: Parquet or Delta as Arrow batches, or the reason why Spark has to read it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyarrow import fs, types

from batch.load.typed_columns import is_known
from spinney.core.errors import StoreError
from spinney.stores.storage import folder

BATCH_ROWS, BATCH_BYTES = 262_144, 64 * 1024**2
"""Upper bounds of one batch; bytes are estimated from the schema and the file's metadata."""

_TEXT_BYTES = 32
INT96_UNIT = "us"
"""INT96 timestamps reach beyond 2262, the last year of nanoseconds in 64 bits."""

Batches = Callable[[], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class Source:
    """A source that Arrow reads. rows: their number. batches: makes an iterator; always the same order."""

    name: str
    schema: pa.Schema
    rows: int
    batches: Batches


@dataclass(frozen=True)
class OnlySpark:
    """A source that Spark has to read. why: in words."""

    name: str
    why: str


def opened(source: str) -> Source | OnlySpark:
    """A Parquet file or folder, or a Delta table. Raises StoreError: nothing there, or none of these."""
    place = folder(source)
    if not place.exists():
        raise StoreError(f"load: nothing at {source}; expected a Parquet file or folder, or a Delta table")
    try:
        found = _delta(source, place) if is_delta(place) else _parquet(source, place)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(source, error) from error
    if isinstance(found, OnlySpark):
        return found
    names = found.schema.names
    if len({name.lower() for name in names}) < len(names):
        return OnlySpark(source, "columns whose names differ only by case")
    for field in found.schema:
        if not is_known(field.type):
            return OnlySpark(source, f"column {field.name} of type {field.type}")
    return found


def is_delta(place: Path) -> bool:
    return (place / "_delta_log").is_dir()


def unreadable(source: str, error: Exception) -> StoreError:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return StoreError(f"load: {source}: expected a Parquet file or folder, or a Delta table; got: {first}")


def _delta(source: str, place: Path) -> Source | OnlySpark:
    try:
        # By Arrow's own file system, as `delta.dataset` has it.
        data = DeltaTable(str(place)).to_pyarrow_dataset(
            filesystem=fs.SubTreeFileSystem(str(place), fs.LocalFileSystem()),
            parquet_read_options=ds.ParquetReadOptions(coerce_int96_timestamp_unit=INT96_UNIT),
        )
    except DeltaError as error:
        return OnlySpark(source, str(error))
    rows = data.count_rows()
    size = _batch_rows(data.schema, 0, rows)

    def batches() -> Iterator[pa.RecordBatch]:
        return data.scanner(batch_size=size, batch_readahead=1, fragment_readahead=1).to_batches()

    return Source(source, data.schema, rows, batches)


def _parquet(source: str, place: Path) -> Source | OnlySpark:
    files = [place] if place.is_file() else _visible(place)
    if not files:
        raise StoreError(f"load: {source}: expected a Parquet file or folder, or a Delta table; got an empty folder")
    if any(file.is_dir() for file in files):
        return OnlySpark(source, "folders inside the folder, which Spark reads as columns")
    schema, rows, size = None, 0, 0
    for file in files:
        with _open(file) as opened_:
            metadata, mine = opened_.metadata, _schema(opened_)
            if mine is None:
                return OnlySpark(source, f"a column of {file.name} that Arrow and Spark read as different types")
        if schema is not None and _by_name(mine) != _by_name(schema):
            return OnlySpark(source, f"columns of {file.name} that are not those of {files[0].name}")
        schema = schema or mine
        rows += metadata.num_rows
        size += sum(metadata.row_group(at).total_byte_size for at in range(metadata.num_row_groups))
    batch_rows = _batch_rows(schema, size, rows)

    def batches() -> Iterator[pa.RecordBatch]:
        for file in files:
            with _open(file) as opened_:
                for batch in opened_.iter_batches(batch_rows):
                    yield _as_declared(batch, schema)

    return Source(source, schema, rows, batches)


def _visible(place: Path) -> list[Path]:
    """The files and folders that Spark does not ignore, sorted by name."""
    return sorted(Path(each) for each in os.scandir(place) if not each.name.startswith((".", "_")))


def _open(file: Path) -> pq.ParquetFile:
    return pq.ParquetFile(file, coerce_int96_timestamp_unit=INT96_UNIT)


def _schema(file: pq.ParquetFile) -> pa.Schema | None:
    """The columns as Spark has them; None where a logical type of Parquet is another type to Spark than to Arrow."""
    schema = file.schema_arrow
    if len(schema) != len(file.schema):
        return schema  # nested: refused by its type
    for at, field in enumerate(schema):
        column = file.schema.column(at)
        if types.is_binary(field.type) and column.logical_type.type != "NONE":
            return None
        if column.physical_type == "INT96":
            schema = schema.set(at, field.with_type(pa.timestamp(INT96_UNIT, "UTC")))
    return pa.schema([(field.name, field.type) for field in schema])


def _by_name(schema: pa.Schema) -> dict[str, pa.DataType]:
    return {field.name: field.type for field in schema}


def _as_declared(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The columns in the order of the first file; times of 96 bits as points in time, as Spark has them."""
    columns = [batch.column(name) for name in schema.names]
    return pa.RecordBatch.from_arrays(
        [
            column if column.type == field.type else column.cast(field.type)
            for column, field in zip(columns, schema, strict=True)
        ],
        schema=schema,
    )


def _batch_rows(schema: pa.Schema, size: int, rows: int) -> int:
    widths = [field.type.bit_width // 8 if _is_fixed(field.type) else _TEXT_BYTES for field in schema]
    width = max(sum(widths), size // max(rows, 1), 1)
    return max(1, min(BATCH_ROWS, BATCH_BYTES // width))


def _is_fixed(kind: pa.DataType) -> bool:
    return types.is_primitive(kind) or types.is_decimal128(kind)
