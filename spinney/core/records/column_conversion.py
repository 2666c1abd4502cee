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
from spinney.core.records.control_characters import DELETE, FIRST_PRINTABLE
from spinney.core.records.rules import FieldRule
from spinney.core.records.time_parsing import (
    DAY,
    DAY_SECONDS,
    END_SECOND,
    EPOCH,
    FIRST_DATE,
    FIRST_DAY,
    FIRST_SECOND,
    LAST_DATE,
    LAST_DAY,
    PER_SECOND,
    YEAR,
)

Mask = npt.NDArray[np.bool_]

INTEGERS: Mapping[str, type[np.signedinteger[Any]]] = {
    "tinyint": np.int8,
    "smallint": np.int16,
    "int": np.int32,
    "bigint": np.int64,
}
_YEARS, _MICROS = "datetime64[Y]", "datetime64[us]"
_DAY_MICROS = DAY_SECONDS * 1_000_000
_EXACT = float(1 << 53)
"""Above this, not every integer has an exact double."""

_INTEGER_END = 1 << 63
"""The first integer that 64 bits with a sign do not hold."""


@dataclass(frozen=True)
class TypedColumn:
    """A column converted to its declared type.

    values: null where absent, shape (rows,). doubtful: mask of values that were not converted, shape (rows,); None if
    all were.
    """

    values: pa.Array
    doubtful: Mask | None = None


def decode_column(column: pa.Array) -> pa.Array:
    """Return the column with dictionaries decoded, large strings and bytes as strings, and NaN as null.

    pandas writes either NaN or null for a missing value.
    """
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if types.is_large_string(column.type):
        column = column.cast(pa.string())
    # Some writers do not say that their bytes are texts. Whether they are UTF-8 is checked as for other texts.
    if types.is_binary(column.type) or types.is_large_binary(column.type):
        column = column.cast(pa.string(), safe=False)
    if types.is_float16(column.type):
        column = column.cast(pa.float32())
    if types.is_floating(column.type):
        missing = np.isnan(column.to_numpy(zero_copy_only=False))
        if missing.sum() > column.null_count:
            column = pc.if_else(pa.array(missing), pa.scalar(None, column.type), column)
    return column


def convert_column(column: pa.Array, rule: FieldRule) -> TypedColumn:
    """Convert a column to the type of its rule. Columns of text are converted by `convert_text_column` unless they are
    declared as strings.

    column: as `decode_column` returns it.
    """
    kind, column_type = rule.type, column.type
    wanted = arrow_type(kind)
    if column.null_count == len(column):
        return TypedColumn(pa.nulls(len(column), wanted))
    if kind == "string":
        return _convert_to_string(column, rule)
    if kind == "boolean":
        return _convert_to_boolean(column, rule)
    if kind in INTEGERS:
        return _convert_to_integers(column, kind)
    if kind in ("float", "double") and (
        types.is_integer(column_type)
        or types.is_floating(column_type)
        or (types.is_decimal128(column_type) and column_type.scale >= 0)
    ):
        return _convert_to_floating(column, kind)
    if types.is_decimal128(wanted) and (types.is_integer(column_type) or types.is_decimal128(column_type)):
        return _convert_to_decimal(column, wanted)
    if kind in ("timestamp", "date") and (types.is_date32(column_type) or types.is_timestamp(column_type)):
        return _convert_times(column, rule)
    if kind == "timestamp" and rule.unit is not None and types.is_integer(column_type):
        return timestamps_from_epoch(column, rule.unit)
    return all_doubtful(column, wanted)


def all_doubtful(column: pa.Array, wanted: pa.DataType) -> TypedColumn:
    """Return a column of nulls in which every present value is doubtful."""
    return TypedColumn(pa.nulls(len(column), wanted), present_mask(column))


def outside_range_mask(values: pa.Array, low: float, high: float) -> Mask:
    """Return the mask of values that are not certainly within a range. values: numbers as `convert_column` returns
    them.
    """
    numbers = np.asarray(values.cast(pa.float64(), safe=False).fill_null(np.nan))
    rounded = types.is_decimal(values.type) or max(abs(low), abs(high)) >= _EXACT
    margin = 1e-9 if rounded else 0.0
    is_outside: Mask = (numbers < low + margin * abs(low)) | (numbers > high - margin * abs(high))
    return is_outside


def is_utf8(column: pa.Array) -> bool:
    """Return whether all texts are valid UTF-8. Arrow reads texts from Parquet without checking them."""
    if not len(column) or _text_bytes(column).max(initial=0) < 0x80:
        return True
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def has_control_bytes(column: pa.Array) -> bool:
    """Return whether any text contains a control character (always a single byte in UTF-8)."""
    data = _text_bytes(column)
    return bool(((data < FIRST_PRINTABLE) | (data == DELETE)).any())


def union_masks(masks: Sequence[Mask | None], rows: int) -> Mask:
    """Return the mask of rows that are marked in any of the masks, shape (rows,)."""
    result = np.zeros(rows, dtype=np.bool_)
    for mask in masks:
        if mask is not None:
            result |= mask
    return result


def present_mask(column: pa.Array) -> Mask:
    """Return the mask of values that are not null, shape (rows,)."""
    return np.asarray(column.is_valid())


def timestamps_from_micros(micros: npt.NDArray[np.int64], present: Mask, doubtful: Mask) -> TypedColumn:
    """Return timestamps. micros: since 1970, shape (rows,); ignored where `doubtful`."""
    values = pa.array(np.where(doubtful, 0, micros), mask=~present).cast(arrow_type("timestamp"))
    return TypedColumn(values, mask_or_none(doubtful & present))


def timestamps_from_epoch(column: pa.Array, unit: str) -> TypedColumn:
    """Return timestamps from integers that count units since 1970, or are years. unit: as in `instant_of_number`."""
    present = present_mask(column)
    numbers = np.asarray(column.fill_null(0))
    if unit == YEAR:
        doubtful = (numbers < FIRST_DATE.year) | (numbers > LAST_DATE.year)
        years = np.where(doubtful, 0, numbers).astype(np.int64) - EPOCH.year
        return timestamps_from_micros(years.astype(_YEARS).astype(_MICROS).astype(np.int64), present, doubtful)
    if unit == DAY:
        doubtful = (numbers < FIRST_DAY) | (numbers > LAST_DAY)
        days = np.where(doubtful, 0, numbers).astype(np.int64)
        return timestamps_from_micros(days * _DAY_MICROS, present, doubtful)
    ticks = PER_SECOND[unit]
    first, end = FIRST_SECOND * ticks, min(END_SECOND * ticks, _INTEGER_END)  # unsigned integers reach beyond it
    doubtful = (numbers < first) | (numbers >= end)
    sure = np.where(doubtful, 0, numbers).astype(np.int64)
    micros = sure * (1_000_000 // ticks) if ticks <= PER_SECOND["us"] else sure // (ticks // PER_SECOND["us"])
    return timestamps_from_micros(micros, present, doubtful)


def _convert_times(column: pa.Array, rule: FieldRule) -> TypedColumn:
    """Convert times and dates. With the unit year or day, only the beginning of one in UTC is valid."""
    if rule.type == "date":
        return _convert_to_date(column)
    micros, present, doubtful = _microseconds(column)
    if rule.unit == YEAR:
        doubtful = doubtful | (micros != micros.astype(_MICROS).astype(_YEARS).astype(_MICROS).astype(np.int64))
    if rule.unit == DAY:
        doubtful = doubtful | (micros % _DAY_MICROS != 0)
    return timestamps_from_micros(micros, present, doubtful)


def mask_or_none(mask: Mask) -> Mask | None:
    """Return the mask, or None if it marks no row."""
    return mask if mask.any() else None


def floats_from_doubles(numbers: pa.Array) -> TypedColumn:
    """Convert doubles to 32-bit floats. A value that overflows is doubtful."""
    doubles = np.asarray(numbers.fill_null(0.0))
    with np.errstate(over="ignore"):
        floats = doubles.astype(np.float32) + np.float32(0)
    return TypedColumn(pa.array(floats, mask=~present_mask(numbers)), mask_or_none(np.isinf(floats)))


def integers_of_type(numbers: npt.NDArray[np.int64], present: Mask, kind: str, sure: Mask) -> TypedColumn:
    """Convert 64-bit integers to another integer type. sure: mask of the numbers that are exact."""
    info = np.iinfo(INTEGERS[kind])
    doubtful = ~sure | (numbers < info.min) | (numbers > info.max)
    values = pa.array(np.where(doubtful, 0, numbers), mask=~present).cast(arrow_type(kind))
    return TypedColumn(values, mask_or_none(doubtful & present))


def _convert_to_boolean(column: pa.Array, rule: FieldRule) -> TypedColumn:
    """Convert to booleans. If the rule coerces, the numbers 0 and 1 are converted too."""
    if types.is_boolean(column.type):
        return TypedColumn(column)
    if not rule.coerce or not (types.is_integer(column.type) or types.is_floating(column.type)):
        return all_doubtful(column, pa.bool_())
    numbers = np.asarray(column.fill_null(0))
    doubtful = (numbers != 0) & (numbers != 1)
    return TypedColumn(pa.array(numbers == 1, mask=~present_mask(column)), mask_or_none(doubtful))


def _convert_to_string(column: pa.Array, rule: FieldRule) -> TypedColumn:
    if types.is_string(column.type) and is_utf8(column):
        return TypedColumn(column)
    if rule.coerce and (types.is_integer(column.type) or _is_whole_decimal(column.type)):
        return TypedColumn(column.cast(pa.string()))
    return all_doubtful(column, pa.string())


def _text_bytes(column: pa.Array) -> npt.NDArray[np.uint8]:
    _, offsets, data = column.buffers()
    if data is None:
        return np.empty(0, np.uint8)
    ends = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    return np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]


def _convert_to_integers(column: pa.Array, kind: str) -> TypedColumn:
    if types.is_integer(column.type):
        return _convert_integers(column, kind)
    if types.is_floating(column.type):
        return _convert_whole_floats(column, kind)
    if _is_whole_decimal(column.type):
        return _convert_whole_decimals(column, kind)
    return all_doubtful(column, arrow_type(kind))


def _convert_integers(column: pa.Array, kind: str) -> TypedColumn:
    info = np.iinfo(INTEGERS[kind])
    numbers = np.asarray(column.fill_null(0) if column.null_count else column)
    own = np.iinfo(numbers.dtype)
    fits = own.min >= info.min and own.max <= info.max
    doubtful = None if fits else mask_or_none(((numbers < info.min) | (numbers > info.max)) & present_mask(column))
    return TypedColumn(column.cast(arrow_type(kind), safe=False), doubtful)


def _convert_whole_floats(column: pa.Array, kind: str) -> TypedColumn:
    """Convert floats to integers: pandas stores integer columns with nulls as floats."""
    numbers = np.asarray(column.fill_null(0.0)).astype(np.float64)
    sure = (np.abs(numbers) < _EXACT) & (numbers == np.trunc(numbers))
    return integers_of_type(np.where(sure, numbers, 0).astype(np.int64), present_mask(column), kind, sure)


def _is_whole_decimal(kind: pa.DataType) -> bool:
    """Return whether values of a type are decimals without a fraction, as databases write integers."""
    return bool(types.is_decimal128(kind) and kind.scale == 0)


def _convert_whole_decimals(column: pa.Array, kind: str) -> TypedColumn:
    try:
        return _convert_integers(column.cast(pa.int64()), kind)
    except pa.ArrowInvalid:  # one of them does not fit
        return all_doubtful(column, arrow_type(kind))


def _convert_to_floating(column: pa.Array, kind: str) -> TypedColumn:
    if types.is_decimal128(column.type):
        column = column.cast(pa.string())  # by their text, rounded once, as from JSON
    numbers = column.cast(pa.float64(), safe=False)
    if kind == "float":
        return floats_from_doubles(numbers)
    doubles = np.asarray(numbers.fill_null(0.0)) + 0.0  # minus zero is zero
    return TypedColumn(pa.array(doubles, mask=~present_mask(numbers)), mask_or_none(np.isinf(doubles)))


def _convert_to_decimal(column: pa.Array, wanted: pa.DataType) -> TypedColumn:
    if column.type == wanted:
        return TypedColumn(column)
    try:
        return TypedColumn(column.cast(wanted))
    except pa.ArrowInvalid:
        return all_doubtful(column, wanted)


def _microseconds(column: pa.Array) -> tuple[npt.NDArray[np.int64], Mask, Mask]:
    """Return microseconds since 1970, the mask of present values, and the mask of doubtful ones.

    Nanoseconds are cut off, to the earlier microsecond. A time without a zone is in UTC.
    """
    present = present_mask(column)
    if types.is_date32(column.type):
        days = np.asarray(column.cast(pa.int32()).fill_null(0)).astype(np.int64)
        doubtful = (days < FIRST_DAY) | (days > LAST_DAY)
        return np.where(doubtful, 0, days) * _DAY_MICROS, present, doubtful
    ticks = PER_SECOND[column.type.unit]
    numbers = np.asarray(column.cast(pa.int64()).fill_null(0))
    if ticks == PER_SECOND["ns"]:
        return numbers // 1000, present, np.zeros(len(numbers), np.bool_)
    doubtful = (numbers < FIRST_SECOND * ticks) | (numbers >= END_SECOND * ticks)
    return np.where(doubtful, 0, numbers) * (1_000_000 // ticks), present, doubtful


def _convert_to_date(column: pa.Array) -> TypedColumn:
    """Convert to dates. A timestamp counts as a date only at midnight UTC."""
    micros, present, doubtful = _microseconds(column)
    days, rest = np.divmod(micros, _DAY_MICROS)
    doubtful = doubtful | (rest != 0)
    values = pa.array(np.where(doubtful, 0, days).astype(np.int32), mask=~present).cast(pa.date32())
    return TypedColumn(values, mask_or_none(doubtful & present))
