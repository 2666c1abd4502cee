"""The first rows of a source as a frame, to propose a configuration from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
from pyarrow import types

from spinney.core.records.validation import RejectedError, read_message
from spinney.sources.json_lines import parse_line
from spinney.sources.row_batch import MalformedRow, RowBatch, Source

SAMPLE_ROWS = 100_000
_NULLABLE = {
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
}
"""Integers with gaps stay integers."""


@dataclass(frozen=True)
class Sample:
    """The first rows of a source.

    frame: columns under the file's names, nested ones as ``outer.inner``. texts: the columns that are text only because
    the file has no types. unsplit: number of rows between these that could not be split into columns, or are no JSON
    object. first_unsplit: the first of them. is_whole: whether the source has no rows after these.
    """

    frame: pd.DataFrame
    texts: frozenset[str]
    unsplit: int = 0
    first_unsplit: MalformedRow | None = None
    is_whole: bool = True

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes about the rows that the frame lacks."""
        if self.first_unsplit is None:
            return ()
        first = self.first_unsplit
        left_out = "1 row left out" if self.unsplit == 1 else f"{self.unsplit:,} rows left out; the first"
        return (f"{left_out}: {first.file} row {first.number:,}: {first.problem}",)


def read_sample(source: Source, rows: int = SAMPLE_ROWS) -> Sample:
    """Return the first rows, at most `rows`. Raises ContractError: the file is damaged."""
    parts: list[pd.DataFrame] = []
    texts: set[str] = set()
    unsplit, first = 0, None
    left, is_whole = rows, True
    for batch in source.batches():
        if left <= 0:
            is_whole = False
            break
        malformed = batch.malformed
        if batch.columns is None:
            whole, bad = _of_lines(batch)
            malformed = (*malformed, *bad)
        else:
            whole = _of_columns(batch.columns)
        part = whole.head(left)
        texts |= batch.texts
        unsplit += len(malformed)
        first = first or next(iter(malformed), None)
        if len(part):
            parts.append(part)
            left -= len(part)
        if len(part) < len(whole):
            is_whole = False
            break
    return Sample(_joined(parts), frozenset(texts), unsplit, first, is_whole)


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of all parts. A column without a value in one part has the type that it has in the others."""
    if not parts:
        return pd.DataFrame()
    names = dict.fromkeys(name for part in parts for name in part.columns)
    with_values = [part.dropna(axis="columns", how="all") for part in parts]
    return pd.concat(with_values, ignore_index=True).reindex(columns=list(names))


def _of_columns(batch: pa.RecordBatch) -> pd.DataFrame:
    table = pa.Table.from_batches([batch])
    # As when a record is read, a column of the whole name takes precedence over a field inside another one.
    own = {field.name: table.column(at) for at, field in enumerate(table.schema) if not types.is_struct(field.type)}
    while any(types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    columns: dict[str, pd.Series[Any]] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if name not in columns:
            columns[name] = _series(own.get(name, column))
    return pd.DataFrame(columns, index=range(table.num_rows))


def _series(column: pa.ChunkedArray) -> pd.Series[Any]:
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if types.is_decimal(column.type):
        column = column.cast(pa.float64())
    if types.is_binary(column.type) or types.is_large_binary(column.type):
        column = _texts_of_bytes(column)
    try:
        record: pd.Series[Any] = column.to_pandas(types_mapper=_NULLABLE.get, date_as_object=True)
    except (pa.ArrowException, ValueError, OverflowError, UnicodeError):  # no value of Python's in it
        record = pd.Series([None] * len(column), dtype=object)
    return record


def _texts_of_bytes(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the texts of a writer that does not say that its bytes are texts; other bytes as they are."""
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        return column


def _of_lines(batch: RowBatch) -> tuple[pd.DataFrame, list[MalformedRow]]:
    """Return the objects of JSON lines, and the lines that are none."""
    objects: list[dict[str, Any]] = []
    malformed: list[MalformedRow] = []
    for number, line in zip(batch.numbers, batch.lines, strict=True):
        record = parse_line(line)
        if record is not None:
            objects.append(dict(_flat(record)))
        else:
            malformed.append(MalformedRow(batch.file, number, line.decode(errors="replace"), _why_no_object(line)))
    return pd.DataFrame(objects, dtype=object), malformed


def _why_no_object(line: bytes) -> str:
    """Return the detail of the dead letter that a line would become."""
    try:
        read_message(line)
    except RejectedError as error:
        return error.detail
    return "expected a JSON object"


def _flat(record: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value
