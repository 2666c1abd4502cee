"""Ids of records without one: a hash of the values of their other columns.

Numbers of the same value are the same text whatever their type, and a column without a value does not count. So a
record keeps its id when a column is widened, or added without a value. Records with the same values have the same id,
and count as copies of one.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from pyarrow import types

from spinney.core.records.column_conversion import TypedColumn
from spinney.core.records.rules import RecordRules
from spinney.core.timestamps import to_microseconds

_FIRST_DAY = date(1970, 1, 1).toordinal()
_EXACT = 2.0**53
"""Below this, every whole double is one integer."""


def add_content_id(values: dict[str, Any], rules: RecordRules) -> None:
    """Add the id of a record whose rules read none, in place. values: of the other columns, as `convert_value` returns
    them.
    """
    if rules.content_id is not None:
        cells = ((name, _plain(values[name])) for name in sorted(values))
        values[rules.content_id.name] = _hash(cells)


def add_content_ids(columns: dict[str, TypedColumn], rules: RecordRules, rows: int) -> None:
    """Add the ids of many records whose rules read none, in place: the same as `add_content_id` gives for each.

    columns: the other columns by name, each of shape (rows,).
    """
    if rules.content_id is None:
        return
    names = sorted(columns)
    cells = zip(*(_plain_column(columns[name].values) for name in names), strict=True)
    ids = [_hash(zip(names, row, strict=True)) for row in cells]
    columns[rules.content_id.name] = TypedColumn(pa.array(ids, pa.string()))
    assert len(ids) == rows, "every message has a time"


def _hash(cells: Iterable[tuple[str, Any]]) -> str:
    """Return 32 hexadecimal digits. cells: name and value of each column, in the order of the names."""
    texts = ((name, _text(value)) for name, value in cells if value is not None)
    # With the length of each text, no two rows are the same string.
    whole = "".join(f"{name}={len(text)}:{text}" for name, text in texts)
    return str(xxhash.xxh3_128_hexdigest(whole.encode()))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < _EXACT else repr(value)
    if isinstance(value, Decimal):
        text = format(value, "f")
        return (text.rstrip("0").rstrip(".") if "." in text else text) if value else "0"
    return str(value)


def _plain(value: Any) -> Any:
    """Return the value as `_plain_column` does: a time as microseconds and a date as days since 1970."""
    if isinstance(value, datetime):
        return to_microseconds(value)
    return value.toordinal() - _FIRST_DAY if isinstance(value, date) else value


def _plain_column(values: pa.Array) -> list[Any]:
    if types.is_timestamp(values.type):
        values = pc.cast(values, pa.int64())
    elif types.is_date(values.type):
        values = pc.cast(values, pa.int32())
    return list(values.to_pylist())
