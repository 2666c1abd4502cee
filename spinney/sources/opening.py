"""Open a file, a folder of files or a Delta table, of any supported format."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from spinney.core.config.value_types import local_path
from spinney.core.errors import ContractError
from spinney.core.records.json_text import UnreadableError, read_object
from spinney.sources import column_checks
from spinney.sources.arrow_files import open_arrow
from spinney.sources.compressed import unpack
from spinney.sources.csv_files import open_csv
from spinney.sources.delta_tables import open_delta
from spinney.sources.files import FileFormat, SourceFile, find_files
from spinney.sources.fleet_tables import with_message_names
from spinney.sources.json_lines import open_json_lines
from spinney.sources.options import ReadOptions
from spinney.sources.orc_files import open_orc
from spinney.sources.parquet_files import open_parquet
from spinney.sources.row_batch import DataFile, RowBatch, Source

_OPENERS: Mapping[FileFormat, Callable[[Path, str, ReadOptions], DataFile]] = {
    FileFormat.PARQUET: open_parquet,
    FileFormat.ARROW: open_arrow,
    FileFormat.ORC: open_orc,
    FileFormat.CSV: open_csv,
    FileFormat.JSON_LINES: open_json_lines,
}


def open_source(path: str | Path, options: ReadOptions | None = None) -> Source:
    """Open a source and inspect its files' columns without reading rows (for CSV: also whether its bytes are text).

    Raises ContractError: nothing there, an unknown format, or files that disagree about a column.
    """
    options = options or ReadOptions()
    name = str(path)
    found, notes = find_files(name, Path(local_path(name) or name))
    files = [_with_partitions(_open_file(file, options), file.partitions) for file in found]
    notes += (*column_checks.check_columns(files, options), *(note for file in files for note in file.notes))
    return Source(
        name,
        _all_columns(files),
        len(files),
        sum(file.rows for file in files),
        all(file.is_exact for file in files),
        lambda: _read(files, options),
        notes,
    )


def _open_file(file: SourceFile, options: ReadOptions) -> DataFile:
    try:
        if file.file_format is FileFormat.DELTA:
            names = options.selection.stored if options.selection is not None else {}
            return with_message_names(open_delta(file.path, file.name), file.path, names)
        path = unpack(file.path, file.name)
        return _OPENERS[file.file_format](path, file.name, options)
    except OSError as error:
        raise ContractError(f"{file.name}: expected a file that can be read; got: {error.strerror}") from error


def _all_columns(files: Sequence[DataFile]) -> dict[str, pa.DataType] | None:
    columns: dict[str, pa.DataType] = {}
    for file in files:
        if file.columns is None:
            return None
        columns = {**file.columns, **columns}
    first = files[0].columns or {}
    return {**first, **{name: kind for name, kind in columns.items() if name not in first}}


def _read(files: Sequence[DataFile], options: ReadOptions) -> Iterator[RowBatch]:
    for file in files:
        only: Sequence[str] | None = None
        if options.selection is not None and options.selection.is_exclusive and file.columns is not None:
            only = options.selection.select(file.columns)
        yield from file.read(only)


def _with_partitions(file: DataFile, values: Mapping[str, str | None]) -> DataFile:
    """Return the file with a text column for each value in its path, which replaces a column of that name."""
    if not values:
        return file
    if file.columns is None:
        fields = None if file.fields is None else {**file.fields, **dict.fromkeys(values, pa.string())}
        return replace(file, fields=fields, read=lambda _: (_with_fields(batch, values) for batch in file.read(None)))
    own, read = file.columns, file.read

    def with_values(only: Sequence[str] | None) -> Iterator[RowBatch]:
        own_columns = None if only is None else [name for name in only if name in own and name not in values]
        added = {name: value for name, value in values.items() if only is None or name in only}
        for batch in read(own_columns):
            if batch.columns is None:
                yield batch
                continue
            columns = dict(zip(batch.columns.schema.names, batch.columns, strict=True))
            columns |= {
                name: pa.repeat(pa.scalar(value, pa.string()), batch.columns.num_rows) for name, value in added.items()
            }
            texts = batch.texts | added.keys()
            yield replace(batch, columns=pa.RecordBatch.from_pydict(columns), texts=frozenset(texts))

    return replace(file, columns={**own, **dict.fromkeys(values, pa.string())}, read=with_values)


def _with_fields(batch: RowBatch, values: Mapping[str, str | None]) -> RowBatch:
    """Return JSON lines with the values of their path, unless a line has such a field itself."""
    spelled = [json.dumps(name, ensure_ascii=False).encode(errors="surrogatepass") for name in values]
    fields = {name: f"{json.dumps(name)}:{json.dumps(value)}".encode() for name, value in values.items()}

    def extended(line: bytes) -> bytes:
        own: Collection[str] = ()
        # Only a line with such a text, or with an escape that may spell it, can have such a field.
        if b"\\" in line or any(text in line for text in spelled):
            try:
                own = read_object(line.decode())
            except (UnicodeDecodeError, UnreadableError):  # rejected as it is
                return line
        added = b",".join(field for name, field in fields.items() if name not in own)
        if not added or not line.endswith(b"}"):
            return line
        inside = line[:-1].rstrip()
        return inside + (b"" if inside.endswith(b"{") else b",") + added + b"}"

    return replace(batch, lines=[extended(line) for line in batch.lines])
