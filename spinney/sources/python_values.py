"""Convert Arrow columns to Python values without loss and without errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from spinney.core.records.input_message_encoding import UnrepresentableValue
from spinney.core.records.time_parsing import DAY_SECONDS, END_SECOND, FIRST_SECOND, PER_SECOND


def to_rows(batch: pa.RecordBatch) -> Iterator[Mapping[str, Any]]:
    """Yield each row as name → value.

    Times have microseconds, and are in UTC if the column has a zone. A time outside Python's range becomes an
    `UnrepresentableValue` with its number.
    """
    names = batch.schema.names
    columns = [to_values(column) for column in batch.columns]
    if not names:
        yield from ({} for _ in range(batch.num_rows))
        return
    for row in zip(*columns, strict=True):
        yield dict(zip(names, row, strict=True))


def to_values(column: pa.Array) -> list[Any]:
    """Return the column's values as Python objects."""
    arrow_type = column.type
    if types.is_dictionary(arrow_type):
        return to_values(column.dictionary_decode())
    if types.is_timestamp(arrow_type) or types.is_date(arrow_type):
        return _times_to_values(column)
    if types.is_struct(arrow_type) and len({field.name for field in arrow_type}) == arrow_type.num_fields > 0:
        return _objects_to_values(column)
    if is_object_map(arrow_type):
        return _maps_to_values(column)
    try:
        result: list[Any] = column.to_pylist()
    except (pa.ArrowException, ValueError, OverflowError, UnicodeError):
        return [_to_value(cell) for cell in column]
    return result


def is_object_map(kind: pa.DataType) -> bool:
    """Return whether values of this type are maps whose keys are texts, which are read as objects."""
    return bool(types.is_map(kind) and types.is_string(kind.key_type))


def _maps_to_values(column: pa.MapArray) -> list[Any]:
    """Convert maps to dictionaries. Of several values of a key the last one counts, as Parquet's specification says."""
    ends = column.offsets.to_pylist()
    first, length = ends[0], ends[-1] - ends[0]
    keys, items = (to_values(part.slice(first, length)) for part in (column.keys, column.items))
    pairs = list(zip(keys, items, strict=True))
    return [
        dict(pairs[begin - first : end - first]) if is_there else None
        for begin, end, is_there in zip(ends[:-1], ends[1:], column.is_valid().to_pylist(), strict=True)
    ]


def _objects_to_values(column: pa.StructArray) -> list[Any]:
    """Convert field by field, so that a value that Python cannot represent does not affect the others of its object."""
    names = [field.name for field in column.type]
    parts = zip(*(to_values(part) for part in column.flatten()), strict=True)
    present = column.is_valid().to_pylist()
    return [
        dict(zip(names, part, strict=True)) if is_there else None for part, is_there in zip(parts, present, strict=True)
    ]


def _to_value(cell: pa.Scalar) -> Any:
    """Convert one value. Texts that are not UTF-8 keep their bytes as surrogates; other values that Python cannot
    represent become the name of their type.
    """
    try:
        return cell.as_py()
    except UnicodeError:
        return bytes(cell.as_buffer()).decode(errors="surrogateescape")
    except (pa.ArrowException, ValueError, OverflowError):
        return UnrepresentableValue(cell.type)


def without_times_outside_calendar(column: pa.Array) -> pa.Array:
    """Return times or dates with null in place of those outside years 1 to 9999, which Python does not represent."""
    seconds = _seconds_since_1970(column)
    outside = (seconds < FIRST_SECOND) | (seconds >= END_SECOND)
    return pc.if_else(pa.array(outside), pa.scalar(None, column.type), column) if outside.any() else column


def _seconds_since_1970(column: pa.Array) -> npt.NDArray[np.int64]:
    """Return the seconds of times or dates, rounded down, shape (rows,); 0 where there is none."""
    if types.is_date(column.type):
        days = column.cast(pa.date32()).cast(pa.int32())
        return np.asarray(days.fill_null(0), dtype=np.int64) * DAY_SECONDS
    ticks = np.asarray(column.cast(pa.int64()).fill_null(0))
    seconds: npt.NDArray[np.int64] = ticks // PER_SECOND[column.type.unit]
    return seconds


def _times_to_values(column: pa.Array) -> list[Any]:
    if types.is_date(column.type):
        simple = pa.date32()
    elif column.type.unit == "ns":
        return _times_to_values(_in_microseconds(column))
    else:
        # In UTC: the first and last hours that Python can say lie outside of its years in other zones.
        simple = pa.timestamp(column.type.unit, None if column.type.tz is None else "UTC")
    safe = without_times_outside_calendar(column)
    values: list[Any] = safe.cast(simple, safe=False).to_pylist()
    if safe is column:
        return values
    return [
        UnrepresentableValue(f"{second} seconds since 1970") if value is None and present else value
        for value, second, present in zip(
            values, _seconds_since_1970(column).tolist(), column.is_valid().to_pylist(), strict=True
        )
    ]


def _in_microseconds(column: pa.Array) -> pa.Array:
    """Return times in nanoseconds rounded down to microseconds, as texts of times are.

    Arrow's cast rounds toward 1970.
    """
    ticks = np.asarray(column.cast(pa.int64()).fill_null(0)) // 1000
    return pa.array(ticks, mask=np.asarray(column.is_null())).cast(pa.timestamp("us", column.type.tz))
