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
from spinney.sources.python_values import is_object_map, to_values, without_times_outside_calendar
from spinney.sources.row_batch import MalformedRow, RowBatch, Source

SAMPLE_ROWS = 100_000
MAX_MAP_KEYS = 100
"""The keys of maps become columns up to this number of different keys. More keys are data themselves, such as ids."""

_NULLABLE = {
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
}
"""Integer types that allow missing values, so that integers with gaps do not become floats."""


@dataclass(frozen=True)
class Sample:
    """The first rows of a source.

    frame: columns under the file's names, nested ones as ``outer.inner``. texts: the columns that are text only because
    the file has no types. unsplit: number of rows in between that could not be split into columns or are no JSON
    object. first_unsplit: the first of these. is_whole: whether the source has no rows after
    the sample.
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
    """Return the rows of all parts. A column without any value in one part gets its type from the other parts."""
    if not parts:
        return pd.DataFrame()
    names = dict.fromkeys(name for part in parts for name in part.columns)
    with_values = [part.dropna(axis="columns", how="all") for part in parts]
    frame = pd.concat(with_values, ignore_index=True).reindex(columns=list(names))
    return frame.drop(columns=[name for name in _outer_names(frame) if _are_objects(frame[name])])


def _outer_names(frame: pd.DataFrame) -> list[str]:
    """Return the names of the columns that hold objects: `a` if there is a field `a.b`."""
    ends = ((name, at) for name in frame.columns for at, letter in enumerate(name) if letter == ".")
    outer = {name[:at] for name, at in ends}
    return [name for name in frame.columns if name in outer]


def _are_objects(values: pd.Series[Any]) -> bool:
    """Return whether there are values, and all of them are objects, whose fields are columns."""
    found = set(map(type, values.dropna()))
    return found == {dict}


def _of_columns(batch: pa.RecordBatch) -> pd.DataFrame:
    table = pa.Table.from_batches([batch])
    # As when a record is read, a column of the whole name takes precedence over a field inside another one.
    own = {field.name: table.column(at) for at, field in enumerate(table.schema) if not types.is_struct(field.type)}
    while any(types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    columns: dict[str, pd.Series[Any]] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if name not in columns:
            values = own.get(name, column)
            columns[name] = _series(values)
            if is_object_map(values.type):
                columns = {**_fields_of_maps(name, values), **columns}
    return pd.DataFrame(columns, index=range(table.num_rows))


def _fields_of_maps(name: str, column: pa.ChunkedArray) -> dict[str, pd.Series[Any]]:
    """Return a column for each key of the maps, named as the fields inside objects are; none above MAX_MAP_KEYS keys.

    name: of the column of maps.
    """
    rows = [dict(_flat(row or {}, f"{name}.")) for row in to_values(column.combine_chunks())]
    keys = dict.fromkeys(key for row in rows for key in row)
    if len(keys) > MAX_MAP_KEYS:
        return {}
    return {key: pd.Series([row.get(key) for row in rows], dtype=object) for key in keys}


def _series(column: pa.ChunkedArray) -> pd.Series[Any]:
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if types.is_decimal(column.type):
        column = _numbers_of_decimals(column)
    if types.is_timestamp(column.type) or types.is_date(column.type):
        column = pa.chunked_array([without_times_outside_calendar(column.combine_chunks())])
    if types.is_timestamp(column.type) and column.type.tz is not None:
        column = column.cast(pa.timestamp(column.type.unit, "UTC"))  # pandas may not know the zone
    if types.is_string(column.type) or types.is_large_string(column.type):
        column = column.cast(pa.large_binary())  # Arrow reads texts from Parquet without checking them
    if types.is_binary(column.type) or types.is_large_binary(column.type):
        column = _texts_of_bytes(column)
    try:
        record: pd.Series[Any] = column.to_pandas(types_mapper=_NULLABLE.get, date_as_object=True)
    except (pa.ArrowException, ValueError, OverflowError, UnicodeError):  # no value of Python's in it
        record = pd.Series([None] * len(column), dtype=object)
    return record


def _numbers_of_decimals(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return decimals without a fraction as integers if they fit: databases write every integer so. Others as doubles,
    which are enough to guess a type by.
    """
    if column.type.scale <= 0:
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid:
            pass
    return column.cast(pa.float64())


def _texts_of_bytes(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return bytes as texts, with null for a few that are none: some writers do not declare that their bytes are texts.

    Bytes most of which are no texts are returned unchanged.
    """
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        texts = pa.array(map(_text_or_none, column.to_pylist()), pa.string())
    are_most = 2 * (len(texts) - texts.null_count) > len(column) - column.null_count
    return pa.chunked_array([texts]) if are_most else column


def _text_or_none(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _of_lines(batch: RowBatch) -> tuple[pd.DataFrame, list[MalformedRow]]:
    """Return the objects of JSON lines as a frame, and the lines that are not objects as malformed rows."""
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
    """Return why a line is not an object, in the words of the dead letter that it would become."""
    try:
        read_message(line)
    except RejectedError as error:
        return error.detail
    return "expected a JSON object"


def _flat(record: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each field, and those inside objects behind it: a field may be an object in some records only."""
    for name, value in record.items():
        yield f"{before}{name}", value
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
