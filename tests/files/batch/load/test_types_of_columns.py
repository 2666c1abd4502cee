"""Each type that a file can have, under each type that a fleet can declare: what `load` takes from the columns without
validating the row is what `validate` makes of the row's message.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from batch.load.typed_batch import TypedBatch
from spinney.core.arrow_types import arrow_type
from spinney.core.records.input_message_encoding import encode_message
from spinney.core.records.rules import FieldRule, RecordRules
from spinney.core.records.validation import RejectedError, read_message, value_of
from spinney.sources import RowBatch, python_values
from spinney.sources.columnar.plain_columns import plain_batch

WHOLE = (
    0, 1, -1, 2, 127, 128, -129, 2013, 19_844, 32768, 2**31, 2**53 + 1,
    1_714_564_800, 1_714_564_800_000, 2**63 - 1, 2**63,
    -(2**63), 2**64 - 1,
)  # fmt: skip
FLOATS = (
    0.0, -0.0, 1.0, 0.1, 1.5, 2013.0, 1e15, 1e16, 2.0**53 + 2, 2.0**63, 1e300, 5e-324, 1_714_564_800.5, math.inf,
    -math.inf, math.nan, None,
)  # fmt: skip
TEXTS = (
    *("", "0", "1", "-0", "+5", ".5", "5.", "007", "07.0", "1e2", "1E400", "1e-400", "1_0", "٣", "0x1F", "NaN", "-inf"),
    *("1.0", "3.00", "1.105", "123456789", "9223372036854775808", "1,5", "5-", "1e", " 1", "\t1", "NA", "on", "TRUE"),
    *(" true ", "y", "2013", "20240501", "2024-05", "2024/05/01", "2024-05-01T00:00Z", "2024-05-01t10:00z"),
    *("2024-05-01 10:00:00.123456789+02:00", "2024-05-01T24:00", "2024-05-01T23:59:60Z", "2024-05-01T10:00-00:00"),
    *("0000-01-01", "0001-01-01", "9999-12-31T23:59:59.9999999Z", "10000-01-01", "2023-02-29", "2024-W18-3"),
    *("2024-05-01T10:00+25:00", "1969-12-31T23:59:59.9999999", "1714564800", "1714564800.5", "1714564800000000001"),
    *("19844", "19844.0", "19844.5", "2932897", "a\0b", "a\x7f", "x" * 600, "é", "👩" * 300, "\ufeff", None),
)
TICKS = (0, 1, -1, -1001, 946_684_800, 253_402_300_799, 253_402_300_800, -62_135_596_800, -62_135_596_801, 2**62, None)
DECIMALS = (*map(Decimal, ("0", "1", "7", "1.10", "-2.25", "12345678.90", "2013")), None)


def _whole(kind: pa.DataType) -> pa.Array:
    ends = np.iinfo(kind.to_pandas_dtype())
    return pa.array([*(number for number in WHOLE if ends.min <= number <= ends.max), None], kind)


def _times(unit: str, zone: str | None) -> pa.Array:
    return pa.array(TICKS, pa.int64()).cast(pa.timestamp(unit, zone))


COLUMNS: dict[str, pa.Array] = {
    **{str(kind): _whole(kind) for kind in (pa.int8(), pa.int32(), pa.int64(), pa.uint8(), pa.uint32(), pa.uint64())},
    "double": pa.array(FLOATS),
    "float": pa.array([None if x is None else np.float64(x) for x in FLOATS if x != 1e300], pa.float32()),
    "halffloat": pa.array(np.array([0, 1, 0.5, np.inf, np.nan, -0.0], np.float16)),
    "bool": pa.array([True, False, None]),
    "string": pa.array(TEXTS),
    "large_string": pa.array(TEXTS, pa.large_string()),
    "binary": pa.array([b"1", b"\xff", b"a\xed\xa0\xbd", None]),
    "fixed binary": pa.array([b"12", b"\xffa", None], pa.binary(2)),
    "dictionary of texts": pa.array(TEXTS).dictionary_encode(),
    "dictionary of doubles": pa.array(FLOATS).dictionary_encode(),
    **{f"times in {unit}, {zone}": _times(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "Z")},
    "date": pa.array([0, -719_162, 2_932_896, 2_932_897, -719_163, None], pa.int32()).cast(pa.date32()),
    "date64": pa.array([0, 86_400_000, None], pa.int64()).cast(pa.date64()),
    "time": pa.array([0, 3_661_000_000_001, None], pa.int64()).cast(pa.time64("ns")),
    "duration": pa.array([1, 2**62, None], pa.int64()).cast(pa.duration("s")),
    "decimal": pa.array(DECIMALS, pa.decimal128(12, 2)),
    "decimal without a fraction": pa.array([Decimal(7), Decimal(2**63), Decimal(10**30)], pa.decimal128(38, 0)),
    "decimal of 64 bits": pa.array([Decimal(7), Decimal(-8), Decimal(2**31), None], pa.decimal128(38, 0)),
    "decimal of hundreds": pa.array([Decimal(100), None], pa.decimal128(10, -2)),
    "wide decimal": pa.array([Decimal("1.5"), Decimal(10**40)], pa.decimal256(60, 5)),
    "list": pa.array([[1], [], None]),
    "object": pa.array([{"a": 1}, None]),
    "null": pa.nulls(2),
}
DECLARED = (
    *("string", "boolean", "tinyint", "int", "bigint", "float", "double", "decimal(10,2)", "decimal(38,0)", "date"),
    "timestamp",
)  # fmt: skip
UNITS = (None, "s", "ms", "us", "ns", "d", "year")


def _rules() -> Iterator[RecordRules]:
    for kind, unit, coerce, identity in product(DECLARED, UNITS, (True, False), (True, False)):
        if (unit is None or kind == "timestamp") and (not identity or kind in ("bigint", "date")):
            rule = FieldRule("c", "c", kind, unit=unit, coerce=coerce, identity=identity)
            yield RecordRules((rule,), "c", frozenset({"", "NA"}), frozenset({"c"}))


def _of_message(message: bytes, rules: RecordRules) -> Any:
    try:
        return value_of(read_message(message), rules.fields[0], rules)
    except RejectedError as error:
        return error.reason


def _exactly(value: Any) -> tuple[type, str]:
    """Tells 1 from True and 1.0, and 0.0 from -0.0."""
    return type(value), str(value.astimezone(UTC) if isinstance(value, datetime) else value)


def _differences(batch: RowBatch, rules: RecordRules) -> Iterator[str]:
    """Yield the values of which the column is sure and the message says something else."""
    (rule,) = rules.fields
    found = TypedBatch(batch, rules).get(rule)
    assert found.values.type == arrow_type(rule.type)
    is_doubtful = np.zeros(len(batch), bool) if found.doubtful is None else found.doubtful
    rows = python_values.to_rows(batch.columns)
    for value, row, doubtful in zip(python_values.to_values(found.values), rows, is_doubtful, strict=True):
        expected = _of_message(encode_message(row, rules, texts=batch.texts), rules)
        if not doubtful and _exactly(value) != _exactly(expected):
            yield f"{row['c']!r} as {rule}: {value!r}, by its message {expected!r}"


@pytest.mark.parametrize("name", [*COLUMNS, "cells of a CSV"])
def test_what_a_column_is_sure_of_is_what_the_message_of_its_row_says(name: str) -> None:
    is_csv = name not in COLUMNS
    column = pa.array([text or "" for text in TEXTS]) if is_csv else COLUMNS[name]
    batch = plain_batch(pa.record_batch({"c": column}))
    rows = RowBatch("a", range(1, len(column) + 1), batch, frozenset({"c"} if is_csv else ()))
    assert [found for rules in _rules() for found in _differences(rows, rules)] == []


def test_the_columns_that_most_files_have_are_read_without_their_messages() -> None:
    """Otherwise the test above could not fail."""
    usual = {
        "int64": "bigint",
        "decimal of 64 bits": "bigint",
        "double": "double",
        "bool": "boolean",
        "times in us, Z": "timestamp",
        "date": "date",
    }
    for name, kind in usual.items():
        rule = FieldRule("c", "c", kind)
        rules = RecordRules((rule,), "c", frozenset(), frozenset({"c"}))
        column = COLUMNS[name].slice(0, 2)
        found = TypedBatch(RowBatch("a", range(1, 3), pa.record_batch({"c": column})), rules).get(rule)
        assert (found.doubtful, found.values.null_count) == (None, 0)
