"""Validate the records of an Arrow batch in Spark's Python workers: most records together, the others one by one.

No single record can fail a batch: a record on which `validate` or Arrow fails becomes a dead letter, and the stream
continues.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.messages import MAX_FUTURE_SECONDS
from schemas.vocabulary import DeadLetterReason
from spinney.core.arrow_types import arrow_type
from spinney.core.internal_column_names import quote_identifier
from spinney.core.records.column_conversion import Mask
from spinney.core.records.doubtful_rows import doubtful_mask
from spinney.core.records.json_columns import JsonColumns, read_json_columns
from spinney.core.records.rules import FieldRule, RecordRules
from spinney.core.records.validation import MAX_DETAIL_CHARACTERS, ValidationResult, validate

log = logging.getLogger(__name__)

RESULT_DDL = "value STRUCT<{}>, reason STRING, detail STRING, field STRING"
"""DDL of the result of each record. Format it with the fields of a valid record."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime.max.replace(tzinfo=UTC) - timedelta(seconds=MAX_FUTURE_SECONDS)
_ARROW_ERRORS = (pa.ArrowException, ArithmeticError, TypeError, ValueError)
"""Exceptions that Arrow raises for a value that it cannot hold."""


def value_ddl(fields: Sequence[FieldRule]) -> str:
    """Return the DDL of a struct with these fields."""
    return ", ".join(f"{quote_identifier(rule.name)}: {rule.type}" for rule in fields)


@dataclass(frozen=True)
class RecordValidator:
    """Validates records. It is pickled and sent to Spark's workers.

    editions: rules, oldest first. Each edition has at least the columns of the last one. The types of the last edition
    can hold all values of earlier ones.
    """

    editions: tuple[RecordRules, ...]

    def function(self) -> Callable[[Iterator[tuple[pa.Array, ...]]], Iterator[pa.Array]]:
        """Return the function that Spark calls with batches of (value, record time in microseconds, index of the
        edition).
        """

        # By these types Spark knows what kind of function it is.
        def validate_batches(batches: Iterator[tuple[pa.Array, ...]]) -> Iterator[pa.Array]:
            for values, times, editions in batches:
                yield self.validate(values, times, editions)

        return validate_batches

    def validate(self, values: pa.Array, times: pa.Array, editions: pa.Array) -> pa.StructArray:
        """Return one RESULT_DDL per record. Records of the last edition are read together where possible."""
        try:
            plain, doubtful = self._validate_columns(values, times, editions)
        except Exception as error:  # one value must not stop the query at each attempt: `_validate_record` finds it
            _warn_of_slow_blocks(type(error).__name__, str(error))
            return self._validate_one_by_one(values, times, editions)
        if not doubtful.any():
            return plain
        validated = self._validate_one_by_one(
            *(column.filter(pa.array(doubtful)) for column in (values, times, editions))
        )
        places = np.where(doubtful, len(doubtful) - 1 + np.cumsum(doubtful), np.arange(len(doubtful)))
        return pa.concat_arrays([plain, validated]).take(pa.array(places))

    def _validate_columns(self, values: pa.Array, times: pa.Array, editions: pa.Array) -> tuple[pa.StructArray, Mask]:
        """Return the results of `_valid_structs`, and the mask of records that still have to be
        validated one by one.
        """
        last, micros = self.editions[-1], np.asarray(times)
        older = np.asarray(editions) != len(self.editions) - 1
        records = values.to_pylist()
        read = read_json_columns([None if old else record for record, old in zip(records, older, strict=True)], last)
        latest = micros + MAX_FUTURE_SECONDS * 1_000_000
        doubtful = doubtful_mask(last, lambda rule: read.columns[rule.name], latest, len(older))
        doubtful |= older | read.unread
        return self._valid_structs(read), doubtful

    def _validate_one_by_one(self, values: pa.Array, times: pa.Array, editions: pa.Array) -> pa.StructArray:
        records = zip(values.to_pylist(), times.to_pylist(), editions.to_pylist(), strict=True)
        return self._result_structs([self._validate_record(*record) for record in records])

    def _valid_structs(self, read: JsonColumns) -> pa.StructArray:
        """Return the results of valid records, as `validate` gives them."""
        columns = [read.columns[rule.name].values for rule in self._fields]
        value = pa.StructArray.from_arrays(columns, [rule.name for rule in self._fields])
        texts = [pa.nulls(len(read.unread), pa.string())] * 3
        return pa.StructArray.from_arrays([value, *texts], fields=list(self._type))

    def _validate_record(self, value: bytes | None, micros: int, edition: int) -> ValidationResult:
        try:
            return validate(value, _record_time(micros), self.editions[edition])
        except Exception as error:  # a record must never stop the stream, whatever is wrong with it or with us
            return _rejected_by_error(error)

    @property
    def _fields(self) -> tuple[FieldRule, ...]:
        return self.editions[-1].fields

    @property
    def _type(self) -> pa.DataType:
        value = pa.struct([(rule.name, arrow_type(rule.type)) for rule in self._fields])
        texts = [(name, pa.string()) for name in ("reason", "detail", "field")]
        return pa.struct([("value", value), *texts])

    def _result_structs(self, results: list[ValidationResult]) -> pa.StructArray:
        columns = [self._column(rule, results) for rule in self._fields]
        # A value that Arrow refused has made its record a dead letter, whose other values do not count.
        is_dead = pa.array([result.values is None for result in results])
        value = pa.StructArray.from_arrays(columns, [rule.name for rule in self._fields], mask=is_dead)
        texts = [
            pa.array([None if result.reason is None else result.reason.value for result in results], pa.string()),
            pa.array([_storable_text(result.detail) for result in results], pa.string()),
            pa.array([result.field for result in results], pa.string()),
        ]
        return pa.StructArray.from_arrays([value, *texts], fields=list(self._type))

    def _column(self, rule: FieldRule, results: list[ValidationResult]) -> pa.Array:
        """Return the values of a field, null for records without one.

        A record whose value Arrow refuses is rejected in `results`.
        """
        kind = arrow_type(rule.type)
        try:
            return pa.array(_field_values(rule, results), kind)
        except _ARROW_ERRORS:
            for at, value in enumerate(_field_values(rule, results)):
                try:
                    pa.array([value], kind)
                except _ARROW_ERRORS as error:
                    results[at] = replace(_rejected_by_error(error), field=rule.name)
            return pa.array(_field_values(rule, results), kind)


@cache
def _warn_of_slow_blocks(kind: str, text: str) -> None:
    """Warn once per worker and error. Blocks with this error are validated correctly, but ten times as slowly."""
    log.warning(
        "records: expected a block that can be read together; got %s: %s. Its records are validated one by one, which "
        "is slower. Please report this message",
        kind,
        text[:MAX_DETAIL_CHARACTERS],
    )


def _field_values(rule: FieldRule, results: list[ValidationResult]) -> list[Any]:
    return [None if result.values is None else result.values[rule.name] for result in results]


def _rejected_by_error(error: Exception) -> ValidationResult:
    detail = f"expected a record that can be validated; got {type(error).__name__}: {error}"
    return ValidationResult(None, DeadLetterReason.WRONG_TYPE, detail=detail[:MAX_DETAIL_CHARACTERS])


def _storable_text(detail: str | None) -> str | None:
    """Return the text without anything that UTF-8 cannot encode."""
    return None if detail is None else detail.encode(errors="replace").decode()


def _record_time(micros: int) -> datetime:
    """Return a record's own timestamp, limited to the range in which Python can add an hour."""
    try:
        return min(_EPOCH + timedelta(microseconds=micros), _LATEST)
    except OverflowError:
        return _EPOCH if micros < 0 else _LATEST
