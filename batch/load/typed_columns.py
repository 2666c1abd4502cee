"""Convert columns of a file to their declared types, without a JVM, where the result surely equals that of their JSON.

Other values are *doubtful*: their rows are validated by `spinney.stores.validity`, the only definition of validity. A
rule here may call too many values doubtful, which costs time, but never too few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from spinney.stores.arrow import arrow_type

Mask = npt.NDArray[np.bool_]

FIRST_DATE, LAST_DATE = -135_140, 2_932_896
"""Days since 1970 of 1600-01-01 and 9999-12-31: older dates are of another calendar to some writers, later ones have
five digits."""

FIRST_TIME_DAY = -25_567
"""1900-01-01: older times are of another calendar to some writers."""

_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_INTEGERS = {"tinyint": np.int8, "smallint": np.int16, "int": np.int32, "bigint": np.int64}
_SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)
_GREATEST_FLOAT = float(np.finfo(np.float32).max)
_LARGE_FLOAT = 1e7
"""From here on Java before 19 does not write the shortest text of a float (JDK-4511638)."""

_PLAIN_SCALE = 6
"""Decimals of at most so many places are never written with an exponent."""


@dataclass(frozen=True)
class Typed:
    """values: of the declared type, null where absent, shape (rows,). doubtful: mask, shape (rows,); None: no row."""

    values: pa.Array
    doubtful: Mask | None = None


def is_known(kind: pa.DataType) -> bool:
    """Whether Spark makes the same JSON of such a column after its rows were copied to another Parquet file."""
    if types.is_dictionary(kind):
        return is_known(kind.value_type)
    return (
        (types.is_integer(kind) and kind != pa.uint64())
        or types.is_float32(kind)
        or types.is_float64(kind)
        or any(test(kind) for test in _KNOWN)
    )


_KNOWN = (
    types.is_boolean,
    types.is_string,
    types.is_large_string,
    types.is_binary,
    types.is_date32,
    types.is_timestamp,
    types.is_decimal128,
)


def plain(column: pa.Array) -> pa.Array:
    """The column with dictionaries decoded, large strings as strings, and NaN as null (pandas writes either)."""
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if types.is_large_string(column.type):
        column = column.cast(pa.string())
    if types.is_floating(column.type):
        missing = np.isnan(column.to_numpy(zero_copy_only=False))
        if missing.sum() > column.null_count:
            column = pc.if_else(pa.array(missing), pa.scalar(None, column.type), column)
    return column


def typed(column: pa.Array, kind: str) -> Typed:
    """A `plain` column as the declared Spark type `kind`."""
    wanted, here = arrow_type(kind), column.type
    if column.null_count == len(column):
        return Typed(pa.nulls(len(column), wanted))
    if kind == "string" and types.is_string(here):
        return Typed(column) if is_utf8(column) else Typed(pa.nulls(len(column), wanted), _there(column))
    if kind == "boolean" and types.is_boolean(here):
        return Typed(column)
    if kind in _INTEGERS and types.is_integer(here):
        return _integer(column, kind)
    if kind in ("float", "double") and (types.is_integer(here) or types.is_floating(here)):
        return _floating(column, kind)
    if kind == "double" and types.is_decimal128(here) and 0 <= here.scale <= _PLAIN_SCALE:
        return Typed(column.cast(pa.string()).cast(pa.float64()))  # by their text, rounded once, as from JSON
    if kind == "date" and types.is_date32(here):
        return _date(column)
    if kind == "timestamp" and types.is_timestamp(here):
        return _timestamp(column)
    if types.is_decimal128(here) and here == wanted and 0 <= here.scale <= _PLAIN_SCALE:
        return Typed(column)
    return Typed(pa.nulls(len(column), wanted), _there(column))


def outside(values: pa.Array, low: float, high: float) -> Mask:
    """Which values are not surely within a range. values: numbers as `typed` gives them."""
    numbers = np.asarray(values.cast(pa.float64(), safe=False).fill_null(np.nan))
    margin = 1e-9 if types.is_decimal(values.type) else 0.0  # Arrow does not round a decimal as Java does
    found: Mask = (numbers < low + margin * abs(low)) | (numbers > high - margin * abs(high))
    return found


def is_utf8(column: pa.Array) -> bool:
    """Whether all texts are UTF-8: Arrow reads Parquet's bytes as they are."""
    if not len(column) or _bytes(column).max(initial=0) < 0x80:
        return True
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def has_control_bytes(column: pa.Array) -> bool:
    """Whether some text has a control character, which UTF-8 writes as one byte."""
    data = _bytes(column)
    return bool(((data < 0x20) | (data == 0x7F)).any())


def union(masks: Sequence[Mask | None], rows: int) -> Mask:
    whole = np.zeros(rows, dtype=np.bool_)
    for mask in masks:
        if mask is not None:
            whole |= mask
    return whole


def _there(column: pa.Array) -> Mask:
    return np.asarray(column.is_valid())


def _some(mask: Mask, column: pa.Array) -> Mask | None:
    mask = mask & _there(column) if column.null_count else mask
    return mask if mask.any() else None


def _numbers(column: pa.Array) -> npt.NDArray[np.int64]:
    return np.asarray(column.fill_null(0) if column.null_count else column)


def _bytes(column: pa.Array) -> npt.NDArray[np.uint8]:
    _, offsets, data = column.buffers()
    if data is None:
        return np.empty(0, np.uint8)
    ends = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    return np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]


def _integer(column: pa.Array, kind: str) -> Typed:
    info = np.iinfo(_INTEGERS[kind])
    numbers = _numbers(column)
    own = np.iinfo(numbers.dtype)
    fits = own.min >= info.min and own.max <= info.max
    doubtful = None if fits else _some((numbers < info.min) | (numbers > info.max), column)
    return Typed(column.cast(arrow_type(kind), safe=False), doubtful)


def _floating(column: pa.Array, kind: str) -> Typed:
    wanted = arrow_type(kind)
    if types.is_integer(column.type):
        return Typed(column.cast(wanted, safe=False))
    numbers = np.asarray(column.fill_null(0.0))
    doubtful = np.isinf(numbers)
    if column.type != wanted:
        size = np.abs(numbers)
        doubtful |= (size < _SMALLEST_NORMAL) & (size > 0)  # Java writes at least two digits
        if kind == "float":
            # Halfway between two floats the text may lie on the other side than the number itself.
            bits = numbers.view(np.int64) & 0x1FFF_FFFF
            doubtful |= (size > _GREATEST_FLOAT) | (bits == 0x1000_0000)
        else:
            doubtful |= size >= _LARGE_FLOAT
    if column.type == wanted or kind == "float":
        with np.errstate(over="ignore"):  # what overflows is doubtful
            numbers = numbers.astype(wanted.to_pandas_dtype())
    else:
        # 0.1 as a float is the text 0.1 and so the double 0.1, not the float's own value.
        numbers = np.asarray(pa.array(numbers).cast(pa.string()).cast(pa.float64()))
    # -0.0 is written as -0.0 and read as a decimal, which knows no negative zero.
    values = pa.array(numbers + numbers.dtype.type(0), mask=~_there(column) if column.null_count else None)
    return Typed(values, _some(doubtful, column))


def _date(column: pa.Array) -> Typed:
    days = _numbers(column.cast(pa.int32()))
    doubtful = _some((days < FIRST_DATE) | (days > LAST_DATE), column)
    if doubtful is not None:  # Python has no date beyond the year 9999
        column = pc.if_else(pa.array(doubtful), pa.scalar(None, pa.date32()), column)
    return Typed(column, doubtful)


def _timestamp(column: pa.Array) -> Typed:
    """To microseconds; nanoseconds are cut off. A time without a zone is UTC, as the session's is."""
    ticks = _PER_SECOND[column.type.unit]
    numbers = _numbers(column.cast(pa.int64()))
    day = 86_400 * ticks
    doubtful = numbers < FIRST_TIME_DAY * day
    if ticks < _PER_SECOND["ns"]:  # nanoseconds end in 2262
        doubtful |= numbers >= (LAST_DATE + 1) * day
    numbers = np.where(doubtful, 0, numbers)
    if ticks == _PER_SECOND["ns"]:
        micros = (numbers + np.where(numbers < 0, 999, 0)) // 1000  # towards zero
    else:
        micros = numbers * (_PER_SECOND["us"] // ticks)
    values = pa.array(micros, mask=~_there(column) if column.null_count else None).cast(arrow_type("timestamp"))
    return Typed(values, _some(doubtful, column))
