"""Convert columns to their declared types where the result certainly equals that of validating each row.

All other values are *doubtful*: their rows are validated one by one by `validate`, the only definition of validity. A
check here may call too many values doubtful, which costs time, but never too few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from spinney.core.arrow_types import arrow_type
from spinney.core.records.control_characters import DELETE, FIRST_OTHER
from spinney.core.records.rules import FieldRule
from spinney.core.records.times import DAY_SECONDS, END_SECOND, FIRST_DAY, FIRST_SECOND, LAST_DAY, PER_SECOND

Mask = npt.NDArray[np.bool_]

INTEGERS: Mapping[str, type[np.signedinteger[Any]]] = {
    "tinyint": np.int8,
    "smallint": np.int16,
    "int": np.int32,
    "bigint": np.int64,
}
_EXACT = float(1 << 53)
"""Beyond it not every integer is a double."""


@dataclass(frozen=True)
class Typed:
    """values: of the declared type, null where absent, shape (rows,). doubtful: mask, shape (rows,); None: no row."""

    values: pa.Array
    doubtful: Mask | None = None


def plain(column: pa.Array) -> pa.Array:
    """The column with dictionaries decoded, large strings as strings, and NaN as null (pandas writes either)."""
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if types.is_large_string(column.type):
        column = column.cast(pa.string())
    if types.is_float16(column.type):
        column = column.cast(pa.float32())
    if types.is_floating(column.type):
        missing = np.isnan(column.to_numpy(zero_copy_only=False))
        if missing.sum() > column.null_count:
            column = pc.if_else(pa.array(missing), pa.scalar(None, column.type), column)
    return column


def typed(column: pa.Array, rule: FieldRule) -> Typed:
    """A `plain` column that is not text, or is declared so, as its rule has it."""
    kind, here = rule.type, column.type
    wanted = arrow_type(kind)
    if column.null_count == len(column):
        return Typed(pa.nulls(len(column), wanted))
    if kind == "string":
        return _string(column, rule)
    if kind == "boolean" and types.is_boolean(here):
        return Typed(column)
    if kind in INTEGERS and types.is_integer(here):
        return _integer(column, kind)
    if kind in INTEGERS and types.is_floating(here):
        return _whole(column, kind)
    if kind in ("float", "double") and (
        types.is_integer(here) or types.is_floating(here) or (types.is_decimal128(here) and here.scale >= 0)
    ):
        return _floating(column, kind)
    if types.is_decimal128(wanted) and (types.is_integer(here) or types.is_decimal128(here)):
        return _decimal(column, wanted)
    if kind in ("timestamp", "date") and (types.is_date32(here) or types.is_timestamp(here)):
        return _date(column) if kind == "date" else of_micros(*_micros(column))
    if kind == "timestamp" and rule.unit is not None and types.is_integer(here):
        return of_number(column, rule.unit)
    return nothing_sure(column, wanted)


def nothing_sure(column: pa.Array, wanted: pa.DataType) -> Typed:
    """Every value is doubtful."""
    return Typed(pa.nulls(len(column), wanted), there(column))


def outside(values: pa.Array, low: float, high: float) -> Mask:
    """Which values are not surely within a range. values: numbers as `typed` gives them."""
    numbers = np.asarray(values.cast(pa.float64(), safe=False).fill_null(np.nan))
    rounded = types.is_decimal(values.type) or max(abs(low), abs(high)) >= _EXACT
    margin = 1e-9 if rounded else 0.0
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
    return bool(((data < FIRST_OTHER) | (data == DELETE)).any())


def union(masks: Sequence[Mask | None], rows: int) -> Mask:
    whole = np.zeros(rows, dtype=np.bool_)
    for mask in masks:
        if mask is not None:
            whole |= mask
    return whole


def there(column: pa.Array) -> Mask:
    return np.asarray(column.is_valid())


def of_micros(micros: npt.NDArray[np.int64], present: Mask, doubtful: Mask) -> Typed:
    """Times. micros: since 1970, shape (rows,); those of doubtful ones do not matter."""
    values = pa.array(np.where(doubtful, 0, micros), mask=~present).cast(arrow_type("timestamp"))
    return Typed(values, some(doubtful & present))


def of_number(column: pa.Array, unit: str) -> Typed:
    """Times out of integers since 1970."""
    ticks = PER_SECOND[unit]
    present = there(column)
    numbers = np.asarray(column.fill_null(0))
    first, last = FIRST_SECOND * ticks, END_SECOND * ticks
    doubtful = (numbers < first) | (numbers >= last)
    return of_micros(np.where(doubtful, 0, numbers).astype(np.int64) * (1_000_000 // ticks), present, doubtful)


def some(mask: Mask) -> Mask | None:
    return mask if mask.any() else None


def single(numbers: pa.Array) -> Typed:
    """Doubles as floats; one that overflows is doubtful."""
    doubles = np.asarray(numbers.fill_null(0.0))
    with np.errstate(over="ignore"):
        floats = doubles.astype(np.float32) + np.float32(0)
    return Typed(pa.array(floats, mask=~there(numbers)), some(np.isinf(floats)))


def integer_in_range(numbers: npt.NDArray[np.int64], present: Mask, kind: str, sure: Mask) -> Typed:
    """Integers of 64 bits as a type of integers. sure: those whose number is exact."""
    info = np.iinfo(INTEGERS[kind])
    doubtful = ~sure | (numbers < info.min) | (numbers > info.max)
    values = pa.array(np.where(doubtful, 0, numbers), mask=~present).cast(arrow_type(kind))
    return Typed(values, some(doubtful & present))


def _string(column: pa.Array, rule: FieldRule) -> Typed:
    if types.is_string(column.type) and is_utf8(column):
        return Typed(column)
    if types.is_integer(column.type) and rule.coerce:
        return Typed(column.cast(pa.string()))
    return nothing_sure(column, pa.string())


def _bytes(column: pa.Array) -> npt.NDArray[np.uint8]:
    _, offsets, data = column.buffers()
    if data is None:
        return np.empty(0, np.uint8)
    ends = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    return np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]


def _integer(column: pa.Array, kind: str) -> Typed:
    info = np.iinfo(INTEGERS[kind])
    numbers = np.asarray(column.fill_null(0) if column.null_count else column)
    own = np.iinfo(numbers.dtype)
    fits = own.min >= info.min and own.max <= info.max
    doubtful = None if fits else some(((numbers < info.min) | (numbers > info.max)) & there(column))
    return Typed(column.cast(arrow_type(kind), safe=False), doubtful)


def _whole(column: pa.Array, kind: str) -> Typed:
    """Integers with gaps are floats to pandas."""
    numbers = np.asarray(column.fill_null(0.0)).astype(np.float64)
    sure = (np.abs(numbers) < _EXACT) & (numbers == np.trunc(numbers))
    return integer_in_range(np.where(sure, numbers, 0).astype(np.int64), there(column), kind, sure)


def _floating(column: pa.Array, kind: str) -> Typed:
    if types.is_decimal128(column.type):
        column = column.cast(pa.string())  # their text, rounded once, as from JSON
    numbers = column.cast(pa.float64(), safe=False)
    if kind == "float":
        return single(numbers)
    doubles = np.asarray(numbers.fill_null(0.0)) + 0.0  # minus zero is zero
    return Typed(pa.array(doubles, mask=~there(numbers)), some(np.isinf(doubles)))


def _decimal(column: pa.Array, wanted: pa.DataType) -> Typed:
    if column.type == wanted:
        return Typed(column)
    try:
        return Typed(column.cast(wanted))
    except pa.ArrowInvalid:
        return nothing_sure(column, wanted)


def _micros(column: pa.Array) -> tuple[npt.NDArray[np.int64], Mask, Mask]:
    """Microseconds, which are there, which are doubtful. Nanoseconds are cut off; without a zone it is UTC."""
    present = there(column)
    if types.is_date32(column.type):
        days = np.asarray(column.cast(pa.int32()).fill_null(0)).astype(np.int64)
        doubtful = (days < FIRST_DAY) | (days > LAST_DAY)
        return np.where(doubtful, 0, days) * DAY_SECONDS * 1_000_000, present, doubtful
    ticks = PER_SECOND[column.type.unit]
    numbers = np.asarray(column.cast(pa.int64()).fill_null(0))
    if ticks == PER_SECOND["ns"]:
        return (numbers + np.where(numbers < 0, 999, 0)) // 1000, present, np.zeros(len(numbers), np.bool_)
    doubtful = (numbers < FIRST_SECOND * ticks) | (numbers >= END_SECOND * ticks)
    return np.where(doubtful, 0, numbers) * (1_000_000 // ticks), present, doubtful


def _date(column: pa.Array) -> Typed:
    """A time is a date at midnight in UTC."""
    micros, present, doubtful = _micros(column)
    days, rest = np.divmod(micros, DAY_SECONDS * 1_000_000)
    doubtful = doubtful | (rest != 0)
    values = pa.array(np.where(doubtful, 0, days).astype(np.int32), mask=~present).cast(pa.date32())
    return Typed(values, some(doubtful & present))
