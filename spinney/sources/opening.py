"""Open a file, a folder of files or a Delta table, of any supported format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from spinney.core.config.value_types import local_path
from spinney.core.errors import ContractError
from spinney.sources import column_checks
from spinney.sources.columnar.arrow_files import open_arrow
from spinney.sources.columnar.delta_tables import open_delta
from spinney.sources.columnar.orc_files import open_orc
from spinney.sources.columnar.parquet_files import open_parquet
from spinney.sources.csv.csv_files import open_csv
from spinney.sources.decompression import unpack
from spinney.sources.events_and_outcomes_tables import with_message_names
from spinney.sources.file_discovery import FileFormat, SourceFile, find_files
from spinney.sources.json_lines import open_json_lines
from spinney.sources.options import ReadOptions
from spinney.sources.path_values import with_path_values
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

    Raises ContractError if there is no file, its format is unknown, or files disagree about a column.
    """
    options = options or ReadOptions()
    name = str(path)
    found, notes = find_files(name, Path(local_path(name) or name))
    files = [with_path_values(_open_file(file, options), file.partitions, options) for file in found]
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
