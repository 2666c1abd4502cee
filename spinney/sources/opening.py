"""Open a file, a folder of files or a Delta table, whatever is in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from spinney.core.config.values import local_path
from spinney.core.errors import ContractError
from spinney.sources import agreement
from spinney.sources.batch import Batch, DataFile, Source
from spinney.sources.csv_files import open_csv
from spinney.sources.delta_tables import open_delta
from spinney.sources.files import Found, Kind, find
from spinney.sources.json_lines import open_json_lines
from spinney.sources.options import Options
from spinney.sources.parquet_files import open_parquet


def open_source(path: str | Path, options: Options | None = None) -> Source:
    """Open a source and look at its files' columns, reading no rows yet (of CSV: whether its bytes are text).

    Raises ContractError: nothing there, no kind of file that is known, or files that disagree about a column.
    """
    options = options or Options()
    name = str(path)
    found, notes = find(name, Path(local_path(name) or name))
    files = [_with_partitions(_open(each, options), each.partitions) for each in found]
    notes += (*agreement.check(files, options), *(note for file in files for note in file.notes))
    return Source(
        name,
        _columns(files),
        len(files),
        sum(file.rows for file in files),
        all(file.exact for file in files),
        lambda: _read(files, options),
        notes,
    )


def _open(found: Found, options: Options) -> DataFile:
    try:
        if found.kind is Kind.PARQUET:
            return open_parquet(found.path, found.name)
        if found.kind is Kind.DELTA:
            return open_delta(found.path, found.name)
        if found.kind is Kind.CSV:
            return open_csv(found.path, found.name, options)
        return open_json_lines(found.path, found.name, options)
    except OSError as error:
        raise ContractError(f"{found.name}: expected a file that can be read; got: {error.strerror}") from error


def _columns(files: Sequence[DataFile]) -> dict[str, pa.DataType] | None:
    columns: dict[str, pa.DataType] = {}
    for file in files:
        if file.columns is None:
            return None
        columns = {**file.columns, **columns}
    first = files[0].columns or {}
    return {**first, **{name: kind for name, kind in columns.items() if name not in first}}


def _read(files: Sequence[DataFile], options: Options) -> Iterator[Batch]:
    for file in files:
        only: Sequence[str] | None = None
        if options.wanted is not None and options.wanted.only and file.columns is not None:
            only = options.wanted.columns_of(file.columns)
        yield from file.read(only)


def _with_partitions(file: DataFile, values: Mapping[str, str | None]) -> DataFile:
    """The file with a column of text for each value of its path, in place of one of that name in the file."""
    if not values:
        return file
    if file.columns is None:
        return replace(file, read=lambda only: (_with_fields(batch, values) for batch in file.read(only)))
    own, read = file.columns, file.read

    def with_values(only: Sequence[str] | None) -> Iterator[Batch]:
        mine = None if only is None else [name for name in only if name in own and name not in values]
        added = {name: value for name, value in values.items() if only is None or name in only}
        for batch in read(mine):
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


def _with_fields(batch: Batch, values: Mapping[str, str | None]) -> Batch:
    """JSON lines with the values of their path, where a line does not have such a field itself."""
    fields = {json.dumps(name).encode(): json.dumps(value).encode() for name, value in values.items()}

    def extended(line: bytes) -> bytes:
        added = b",".join(name + b":" + value for name, value in fields.items() if name not in line)
        if not added or not line.endswith(b"}"):
            return line
        inside = line[:-1].rstrip()
        return inside + (b"" if inside.endswith(b"{") else b",") + added + b"}"

    return replace(batch, lines=[extended(line) for line in batch.lines])
