"""Values in the paths of files, as `store=007/part.parquet` has them, as fields of the files' rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from spinney.core.errors import ContractError
from spinney.core.records.json_parsing import UnreadableError, read_object
from spinney.core.records.time_parsing import instant_of_text
from spinney.sources.options import ReadOptions
from spinney.sources.python_values import to_values
from spinney.sources.row_batch import DataFile, RowBatch


def with_path_values(file: DataFile, values: Mapping[str, str | None], options: ReadOptions) -> DataFile:
    """Return the file with a text field for each value in its path.

    Reading raises ContractError for a row whose selected field of that name has another value than the path: one of the
    two would be lost.
    """
    if not values:
        return file
    checked = frozenset(values if options.selection is None else options.selection.select(values))
    if file.columns is None:
        fields = None if file.fields is None else {**file.fields, **dict.fromkeys(values, pa.string())}
        return replace(
            file, fields=fields, read=lambda _: (_with_fields(batch, values, checked) for batch in file.read(None))
        )
    own, read = file.columns, file.read

    def with_values(only: Sequence[str] | None) -> Iterator[RowBatch]:
        own_columns = None if only is None else [name for name in only if name in own]
        added = {name: value for name, value in values.items() if only is None or name in only}
        for batch in read(own_columns):
            yield batch if batch.columns is None else _with_columns(batch, batch.columns, added, checked)

    return replace(file, columns={**own, **dict.fromkeys(values, pa.string())}, read=with_values)


def _with_columns(
    batch: RowBatch, rows: pa.RecordBatch, values: Mapping[str, str | None], checked: frozenset[str]
) -> RowBatch:
    columns = dict(zip(rows.schema.names, rows.columns, strict=True))
    for name in checked & columns.keys() & values.keys():
        expected = _as_instant(values[name]) if types.is_timestamp(columns[name].type) else values[name]
        texts = _as_texts(columns[name])
        if (row := _differing(texts, expected).index(True).as_py()) >= 0:
            raise _another_value(batch, row, name, values[name], texts[row].as_py())
    columns |= {name: pa.repeat(pa.scalar(value, pa.string()), rows.num_rows) for name, value in values.items()}
    return replace(batch, columns=pa.RecordBatch.from_pydict(columns), texts=frozenset(batch.texts | values.keys()))


def _as_texts(column: pa.Array) -> pa.Array:
    """Return values as texts, as they are written in a path.

    An empty text counts as missing, as in paths that Spark writes.
    """
    if types.is_dictionary(column.type):
        return _as_texts(column.dictionary_decode())
    if types.is_integer(column.type) or types.is_boolean(column.type) or types.is_decimal(column.type):
        return column.cast(pa.string())
    return pa.array(map(_as_text, to_values(column)), pa.string())


def _as_text(value: Any) -> str | None:
    if isinstance(value, datetime):
        return (value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)).isoformat()
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str(value) or None


def _as_instant(text: str | None) -> str | None:
    """Return a text of a path in the form in which `_as_text` writes times, if it is a time; other texts unchanged."""
    at = None if text is None else instant_of_text(text)
    return text if at is None else at.isoformat()


def _differing(own: pa.Array, value: str | None) -> pa.BooleanArray:
    if not value:
        return own.is_valid()
    return pc.fill_null(pc.not_equal(own, value), True)


def _with_fields(batch: RowBatch, values: Mapping[str, str | None], checked: frozenset[str]) -> RowBatch:
    """Return JSON lines with the path's values added to each line. A field that the line has itself stays.

    checked: fields whose own value must equal that of the path; else ContractError is raised.
    """
    spelled = [json.dumps(name, ensure_ascii=False).encode(errors="surrogatepass") for name in values]
    fields = {name: f"{json.dumps(name)}:{json.dumps(value)}".encode() for name, value in values.items()}

    def extended(row: int, line: bytes) -> bytes:
        own: Mapping[str, Any] = {}
        # Only a line with such a text, or with an escape that may spell it, can have such a field.
        if b"\\" in line or any(text in line for text in spelled):
            try:
                own = read_object(line.decode())
            except (UnicodeDecodeError, UnreadableError):  # rejected as it is
                return line
        for name in checked & own.keys():
            if (_as_text(own[name]) or None) != (values[name] or None):
                raise _another_value(batch, row, name, values[name], own[name])
        added = b",".join(field for name, field in fields.items() if name not in own)
        if not added or not line.endswith(b"}"):
            return line
        inside = line[:-1].rstrip()
        return inside + (b"" if inside.endswith(b"{") else b",") + added + b"}"

    return replace(batch, lines=[extended(row, line) for row, line in enumerate(batch.lines)])


def _another_value(batch: RowBatch, row: int, name: str, of_path: str | None, own: Any) -> ContractError:
    """Return the error for a row whose own value differs from that of its path. row: position in the batch, from 0."""
    expected, got = (json.dumps(value, ensure_ascii=False, default=str) for value in (of_path, own))
    return ContractError(
        f"{batch.file}: row {batch.numbers[row]}: column {name}: expected {expected}, as in the path of the file; "
        f"got {got}. Remove the column from the file, or rename the folder"
    )
