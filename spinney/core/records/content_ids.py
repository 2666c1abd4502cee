"""Ids of records without one: a hash of the values of the columns that the fleet was made with, under their names then.

Equal numbers have the same text whatever their type. A column that the fleet was made with as a `float` is hashed as
floats even after it was widened. So a record keeps its id when columns are added, renamed or widened, even if one query
validates it before the migration and another one after it. Records with the same values have the same id, and count as
copies of one record.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from pyarrow import types

from spinney.core.records.column_conversion import TypedColumn
from spinney.core.records.rules import OriginalColumn, RecordRules
from spinney.core.timestamps import to_microseconds

_FIRST_DAY = date(1970, 1, 1).toordinal()
_END = 2.0**63
"""Whole doubles from minus this to below this are hashed as the integers that they are, as a `bigint` is."""


def add_content_id(values: dict[str, Any], rules: RecordRules) -> None:
    """Add the id of a record in place, if it is a hash of the other columns and not read from a field.

    values: of the other columns, as `convert_value` returns them.
    """
    if rules.content_id is not None:
        cells = ((original.name, _plain(values[rule.name], original)) for rule, original in rules.hashed)
        values[rules.content_id.name] = _hash(cells)


def add_content_ids(columns: dict[str, TypedColumn], rules: RecordRules, rows: int) -> None:
    """Add the ids of many records in place, the same as `add_content_id` adds to each.

    columns: the other columns by name, each of shape (rows,).
    """
    if rules.content_id is None:
        return
    names = [original.name for _, original in rules.hashed]
    plain = (_plain_column(columns[rule.name].values, original) for rule, original in rules.hashed)
    cells = zip(*plain, strict=True)
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
        return str(int(value)) if value.is_integer() and -_END <= value < _END else repr(value)
    if isinstance(value, Decimal):
        text = format(value, "f")
        return (text.rstrip("0").rstrip(".") if "." in text else text) if value else "0"
    return str(value)


def _plain(value: Any, original: OriginalColumn) -> Any:
    """Return the value as `_plain_column` does: a time as microseconds, a date as days since 1970, a float as the
    double with its shortest text.
    """
    if isinstance(value, datetime):
        return to_microseconds(value)
    if isinstance(value, date):
        return value.toordinal() - _FIRST_DAY
    return _short_float(value) if original.type == "float" and value is not None else value


def _short_float(value: float) -> float:
    """Return the double with the shortest text that is the same 32-bit float: 0.1 for 0.10000000149011612. A value
    beyond floats, which a widened column may have, stays as it is.
    """
    try:
        return float(str(np.float32(struct.unpack("<f", struct.pack("<f", value))[0])))
    except OverflowError:
        return value


def _plain_column(values: pa.Array, original: OriginalColumn) -> list[Any]:
    if types.is_timestamp(values.type):
        values = pc.cast(values, pa.int64())
    elif types.is_date(values.type):
        values = pc.cast(values, pa.int32())
    elif original.type == "float":
        short = pc.cast(pc.cast(pc.cast(values, pa.float32(), safe=False), pa.string()), pa.float64())
        values = pc.if_else(pc.is_finite(short), short, pc.cast(values, pa.float64()))
    return list(values.to_pylist())
