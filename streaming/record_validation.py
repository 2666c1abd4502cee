"""Validate the records of an Arrow batch, in Spark's Python workers: plain ones together, others one by one.

No single record can fail a batch: one that `validate` or Arrow stumbles over is a dead letter, and the stream goes on.
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
from spinney.core.column_names import quote_identifier
from spinney.core.records.column_checks import doubtful_mask
from spinney.core.records.columns import Mask
from spinney.core.records.json_columns import JsonColumns, read_json_columns
from spinney.core.records.rules import FieldRule, RecordRules
from spinney.core.records.validation import MAX_DETAIL_CHARACTERS, ValidationResult, validate

log = logging.getLogger(__name__)

RESULT_DDL = "value STRUCT<{}>, reason STRING, detail STRING, field STRING, unknown_fields INT"
"""What is returned of each record, the fields of a valid one being put in."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime.max.replace(tzinfo=UTC) - timedelta(seconds=MAX_FUTURE_SECONDS)
_ARROW_ERRORS = (pa.ArrowException, ArithmeticError, TypeError, ValueError)
"""What Arrow raises for a value that it cannot hold."""


def value_ddl(fields: Sequence[FieldRule]) -> str:
    return ", ".join(f"{quote_identifier(rule.name)}: {rule.type}" for rule in fields)


@dataclass(frozen=True)
class RecordValidator:
    """What validating needs to know; pickled into the workers.

    editions: oldest first. Each has at least the columns of the last, whose types hold all that theirs do.
    """

    editions: tuple[RecordRules, ...]

    def function(self) -> Callable[[Iterator[tuple[pa.Array, ...]]], Iterator[pa.Array]]:
        """What Spark calls with batches of (value, record time in microseconds, place of the edition)."""

        # By these types Spark knows what kind of function it is.
        def validate_batches(batches: Iterator[tuple[pa.Array, ...]]) -> Iterator[pa.Array]:
            for values, times, editions in batches:
                yield self.validate(values, times, editions)

        return validate_batches

    def validate(self, values: pa.Array, times: pa.Array, editions: pa.Array) -> pa.StructArray:
        """One RESULT_DDL for each record; plain records of the last edition are read together."""
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
        """The answers of `_plain`, and the mask of the records for which they do not count, shape (rows,)."""
        last, micros = self.editions[-1], np.asarray(times)
        older = np.asarray(editions) != len(self.editions) - 1
        records = values.to_pylist()
        found = read_json_columns([None if old else record for record, old in zip(records, older, strict=True)], last)
        latest = micros + MAX_FUTURE_SECONDS * 1_000_000
        doubtful = older | found.unread | doubtful_mask(last, lambda rule: found.columns[rule.name], latest, len(older))
        return self._valid_structs(found), doubtful

    def _validate_one_by_one(self, values: pa.Array, times: pa.Array, editions: pa.Array) -> pa.StructArray:
        records = zip(values.to_pylist(), times.to_pylist(), editions.to_pylist(), strict=True)
        return self._result_structs([self._validate_record(*each) for each in records])

    def _valid_structs(self, found: JsonColumns) -> pa.StructArray:
        """As `validate` answers valid records."""
        columns = [found.columns[rule.name].values for rule in self._fields]
        value = pa.StructArray.from_arrays(columns, [rule.name for rule in self._fields])
        texts = [pa.nulls(len(found.unread), pa.string())] * 3
        return pa.StructArray.from_arrays([value, *texts, pa.array(found.unknown_fields)], fields=list(self._type))

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
        return pa.struct([("value", value), *texts, ("unknown_fields", pa.int32())])

    def _result_structs(self, found: list[ValidationResult]) -> pa.StructArray:
        columns = [self._column(rule, found) for rule in self._fields]
        # A value that Arrow refused has made its record a dead letter, whose other values do not count.
        is_dead = pa.array([each.values is None for each in found])
        value = pa.StructArray.from_arrays(columns, [rule.name for rule in self._fields], mask=is_dead)
        texts = [
            pa.array([None if each.reason is None else each.reason.value for each in found], pa.string()),
            pa.array([_storable_text(each.detail) for each in found], pa.string()),
            pa.array([each.field for each in found], pa.string()),
        ]
        unknown = pa.array([each.unknown_fields for each in found], pa.int32())
        return pa.StructArray.from_arrays([value, *texts, unknown], fields=list(self._type))

    def _column(self, rule: FieldRule, found: list[ValidationResult]) -> pa.Array:
        """The values of a field, null where there is none. A record whose value Arrow refuses is dead in `found`."""
        kind = arrow_type(rule.type)
        try:
            return pa.array(_field_values(rule, found), kind)
        except _ARROW_ERRORS:
            for at, value in enumerate(_field_values(rule, found)):
                try:
                    pa.array([value], kind)
                except _ARROW_ERRORS as error:
                    found[at] = replace(_rejected_by_error(error), field=rule.name)
            return pa.array(_field_values(rule, found), kind)


@cache
def _warn_of_slow_blocks(kind: str, text: str) -> None:
    """Once for each error of a worker: a block with it is validated correctly, but ten times as slowly."""
    log.warning(
        "records: expected a block that can be read together; got %s: %s. Its records are validated one by one, which "
        "is slower. Please report this message",
        kind,
        text[:MAX_DETAIL_CHARACTERS],
    )


def _field_values(rule: FieldRule, found: list[ValidationResult]) -> list[Any]:
    return [None if each.values is None else each.values[rule.name] for each in found]


def _rejected_by_error(error: Exception) -> ValidationResult:
    detail = f"expected a record that can be validated; got {type(error).__name__}: {error}"
    return ValidationResult(None, DeadLetterReason.WRONG_TYPE, detail=detail[:MAX_DETAIL_CHARACTERS])


def _storable_text(detail: str | None) -> str | None:
    """The text without anything that UTF-8 cannot write."""
    return None if detail is None else detail.encode(errors="replace").decode()


def _record_time(micros: int) -> datetime:
    """A record's own timestamp; the nearest that Python can add an hour to."""
    try:
        return min(_EPOCH + timedelta(microseconds=micros), _LATEST)
    except OverflowError:
        return _EPOCH if micros < 0 else _LATEST
