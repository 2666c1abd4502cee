"""Read files of Arrow's IPC format (Feather 2 is the same format) as batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyarrow import ipc

from spinney.core.errors import ContractError
from spinney.sources.columnar.typed_files import (
    ERRORS,
    TypedFile,
    open_typed,
    row_bytes,
    rows_per_batch,
    unreadable_error,
)
from spinney.sources.options import ReadOptions
from spinney.sources.row_batch import DataFile

_FILE_MAGIC, _STREAM_MAGIC, _FEATHER_1_MAGIC = b"ARROW1", b"\xff\xff\xff\xff", b"FEA1"
_KIND = "an Arrow IPC"


def open_arrow(file: Path, name: str, options: ReadOptions) -> DataFile:
    """Open a file of Arrow's IPC file or stream format.

    Raises ContractError if it is neither, or has a selected column twice.
    """
    with file.open("rb") as raw:
        start = raw.read(len(_FILE_MAGIC))
    if start.startswith(_FEATHER_1_MAGIC):
        raise ContractError(
            f"{name}: expected Feather of version 2; got version 1, which Arrow no longer supports. Write it again: "
            "pyarrow.feather.write_feather(pyarrow.feather.read_table(OLD), NEW)"
        )
    # Arrow takes the first bytes of any other file for a length, and reserves so much memory.
    if not start.startswith((_FILE_MAGIC, _STREAM_MAGIC)):
        raise unreadable_error(name, ValueError("a file with another beginning"), _KIND)
    try:
        opened = _of_file(file) if start == _FILE_MAGIC else _of_stream(file)
    except ERRORS as error:
        raise unreadable_error(name, error, _KIND) from error
    return open_typed(opened, name, options, _KIND)


def _of_file(file: Path) -> TypedFile:
    with _file_reader(file, None) as reader:
        schema, batches = reader.schema, reader.num_record_batches
        first, last = (reader.get_batch(at).num_rows if batches else 0 for at in (0, batches - 1))
    rows = first * (batches - 1) + last if batches else 0

    def read(only: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        with _file_reader(file, _places(schema, only)) as reader:
            for at in range(reader.num_record_batches):
                yield from _slices(reader.get_batch(at))

    return TypedFile(schema, rows, is_exact=batches <= len(("first", "last")), read=read)


def _of_stream(file: Path) -> TypedFile:
    with _stream_reader(file, None) as reader:
        schema = reader.schema

    def read(only: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        with _stream_reader(file, _places(schema, only)) as reader:
            for batch in reader:
                yield from _slices(batch)

    return TypedFile(schema, file.stat().st_size // row_bytes(schema), is_exact=False, read=read)


@contextmanager
def _file_reader(file: Path, fields: list[int] | None) -> Iterator[ipc.RecordBatchFileReader]:
    """Open the file format. fields: places of the columns to read; None: all."""
    how = ipc.IpcReadOptions(included_fields=fields)
    with pa.OSFile(str(file), "rb") as raw, ipc.open_file(raw, options=how) as reader:
        yield reader


@contextmanager
def _stream_reader(file: Path, fields: list[int] | None) -> Iterator[ipc.RecordBatchStreamReader]:
    """Open the stream format. fields: places of the columns to read; None: all."""
    how = ipc.IpcReadOptions(included_fields=fields)
    with pa.OSFile(str(file), "rb") as raw, ipc.open_stream(raw, options=how) as reader:
        yield reader


def _places(schema: pa.Schema, only: Sequence[str] | None) -> list[int] | None:
    return None if only is None else [at for at, name in enumerate(schema.names) if name in only]


def _slices(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yield a batch in parts of bounded size, since a file may have all its rows in one batch."""
    size = rows_per_batch(batch.schema, batch.get_total_buffer_size(), batch.num_rows)
    for first in range(0, batch.num_rows, size):
        yield batch.slice(first, size)
