"""Rows of Arrow columns as Python's values, with nothing lost and nothing raised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from spinney.core.records.times import DAY_SECONDS, END_SECOND, FIRST_SECOND, PER_SECOND


def rows(batch: pa.RecordBatch) -> Iterator[Mapping[str, Any]]:
    """Each row: name → value. Times have microseconds, and UTC where the column has a zone; one that Python cannot say
    is its number as text.
    """
    names = batch.schema.names
    columns = [values(column) for column in batch.columns]
    if not names:
        yield from ({} for _ in range(batch.num_rows))
        return
    for row in zip(*columns, strict=True):
        yield dict(zip(names, row, strict=True))


def values(column: pa.Array) -> list[Any]:
    kind = column.type
    if types.is_dictionary(kind):
        return values(column.dictionary_decode())
    if types.is_timestamp(kind) or types.is_date(kind):
        return _times(column)
    if types.is_struct(kind) and len({field.name for field in kind}) == kind.num_fields > 0:
        return _objects(column)
    try:
        found: list[Any] = column.to_pylist()
    except (pa.ArrowException, ValueError, OverflowError, UnicodeError):
        return [_value(each) for each in column]
    return found


def _objects(column: pa.StructArray) -> list[Any]:
    """Field by field, so that a value that Python cannot say does not cost the others of its object."""
    names = [field.name for field in column.type]
    parts = zip(*(values(part) for part in column.flatten()), strict=True)
    there = column.is_valid().to_pylist()
    return [
        dict(zip(names, part, strict=True)) if is_there else None for part, is_there in zip(parts, there, strict=True)
    ]


def _value(cell: pa.Scalar) -> Any:
    """One value; a text that is not UTF-8 with half surrogates for its bytes, words where Python has no such value."""
    try:
        return cell.as_py()
    except UnicodeError:
        return bytes(cell.as_buffer()).decode(errors="surrogateescape")
    except (pa.ArrowException, ValueError, OverflowError):
        return str(cell.type)


def _times(column: pa.Array) -> list[Any]:
    kind = column.type
    if types.is_date(kind):
        days = column.cast(pa.date32()).cast(pa.int32())
        seconds = np.asarray(days.fill_null(0), dtype=np.int64) * DAY_SECONDS
        simple = pa.date32()
    else:
        ticks = np.asarray(column.cast(pa.int64()).fill_null(0))
        seconds = ticks // PER_SECOND[kind.unit]
        # In UTC: the first and last hours that Python can say lie outside of its years in other zones.
        simple = pa.timestamp("us" if kind.unit == "ns" else kind.unit, None if kind.tz is None else "UTC")
    outside = (seconds < FIRST_SECOND) | (seconds >= END_SECOND)
    if not outside.any():
        found: list[Any] = column.cast(simple, safe=False).to_pylist()
        return found
    safe = pc.if_else(pa.array(outside), pa.scalar(None, kind), column).cast(simple, safe=False).to_pylist()
    return [
        f"{second} seconds since 1970" if odd and there else value
        for value, second, odd, there in zip(
            safe, seconds.tolist(), outside.tolist(), column.is_valid().to_pylist(), strict=True
        )
    ]
