"""Find the certainly valid rows column by column. The others are doubtful, and are validated one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from batch.load.group_numbers import INVALID, GroupNumbers
from batch.load.typed_batch import TypedBatch
from schemas import messages, tables
from schemas.contract import Contract
from schemas.messages import MAX_FUTURE_SECONDS, MAX_RECORD_BYTES
from spinney.core.arrow_types import arrow_type
from spinney.core.config import Fleet, RecordSchema
from spinney.core.records.column_conversion import Mask, TypedColumn, union_masks
from spinney.core.records.content_ids import add_content_ids
from spinney.core.records.doubtful_rows import doubtful_mask
from spinney.core.records.json_columns import read_json_columns
from spinney.core.records.rules import FieldRule, OriginalColumn, RecordRules, build_rules

GROUP, PLACE = "load.group", "load.place"
"""Additional columns of checked rows. GROUP: number of the group. PLACE: number of the row in the source, from 0."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ESCAPED = 6
"""Largest number of bytes of JSON per byte of text: a control character is written as \\u and four digits."""

_VALUE_BYTES = 64
"""Upper bound, in bytes of JSON, for a number, time or boolean with its punctuation."""


@dataclass(frozen=True)
class MessageColumns:
    """The columns of one kind of message, and of its table.

    stored_as: column of the message → column of the table, without the group's columns.
    """

    base: Contract
    rules: RecordRules
    stored_as: dict[str, str]

    def schema(self, *extra: pa.Field) -> pa.Schema:
        """Return the schema of valid rows. extra: further columns."""
        types_ = {rule.name: arrow_type(rule.type) for rule in self.rules.fields}
        own = [pa.field(stored, types_[name]) for name, stored in self.stored_as.items()]
        return pa.schema([pa.field(GROUP, pa.int64()), pa.field(PLACE, pa.int64()), *own, *extra])

    @property
    def stored_time(self) -> str:
        """The table's column with the time."""
        return self.stored_as[self.rules.time]


def event_columns(schema: RecordSchema, originals: Mapping[str, OriginalColumn] | None = None) -> MessageColumns:
    """Return the columns of events. originals: as in `build_rules`."""
    fleet = schema.fleet
    stored = {fleet.event_id: "event_id", fleet.event_time: "event_time"}
    stored |= {name: name for name in schema.event_columns if name not in fleet.group}
    return MessageColumns(tables.EVENTS, build_rules(schema, messages.EVENT, originals=originals), stored)


def outcome_columns(schema: RecordSchema) -> MessageColumns:
    """Return the columns of outcomes."""
    fleet = schema.fleet
    stored = {fleet.event_id: "event_id", fleet.target: "label", "observed_at": "observed_at"}
    return MessageColumns(tables.OUTCOMES, build_rules(schema, messages.OUTCOME), stored)


def label_rules(schema: RecordSchema) -> tuple[FieldRule, ...]:
    """Return the rules of late labels that rows of events may contain; none if labels are part of the events."""
    late = () if schema.has_label_in_event else outcome_columns(schema).rules.fields
    return tuple(rule for rule in late if rule.name in (schema.fleet.target, "observed_at"))


@dataclass(frozen=True)
class ValidatedColumns:
    """The result of a check by column.

    valid: the rows that are certainly valid. doubtful: mask of rows that have to be validated one by one, shape
    (rows,).
    """

    valid: pa.Table
    doubtful: Mask


class ColumnValidator:
    """Validates batches of one kind of message. moment: the time of this load, used as each record's timestamp."""

    def __init__(self, fleet: Fleet, columns: MessageColumns, groups: GroupNumbers, moment: datetime) -> None:
        self._fleet = fleet
        self.columns = columns
        self.groups = groups
        latest = moment + timedelta(seconds=MAX_FUTURE_SECONDS) - _EPOCH
        self._latest = latest // timedelta(microseconds=1)

    def validate(
        self, batch: TypedBatch, place: pa.Array, extra: dict[str, pa.Array] | None = None, among: Mask | None = None
    ) -> ValidatedColumns:
        """Validate a batch.

        place: each row's number in the source. extra: further columns to keep with the valid rows. among: mask of rows
        that have a message of this kind; None: all rows.
        """
        found = {rule.name: batch.get(rule) for rule in self.columns.rules.read}
        add_content_ids(found, self.columns.rules, batch.rows)
        return self._checked(found, place, extra or {}, _too_large_mask(batch), among)

    def validate_lines(
        self, lines: Sequence[bytes], place: pa.Array, extra: dict[str, pa.Array] | None = None
    ) -> ValidatedColumns:
        """Validate JSON lines, each of which has a message of this kind."""
        found = read_json_columns(lines, self.columns.rules)
        return self._checked(found.columns, place, extra or {}, found.unread)

    def _checked(
        self,
        found: Mapping[str, TypedColumn],
        place: pa.Array,
        extra: Mapping[str, pa.Array],
        unsure: Mask | None,
        among: Mask | None = None,
    ) -> ValidatedColumns:
        """Return the result. unsure: mask of rows that are doubtful whatever their columns contain.

        among: as for `validate`.
        """
        numbers = self.groups.numbers([found[name].values for name in self._fleet.group])
        broken = doubtful_mask(self.columns.rules, lambda rule: found[rule.name], self._latest, len(place))
        doubtful = union_masks([broken, unsure, numbers == INVALID], len(place))
        own = {stored: found[name].values for name, stored in self.columns.stored_as.items()}
        whole = pa.table({GROUP: pa.array(numbers), PLACE: place, **own, **extra})
        sure = ~doubtful if among is None else ~doubtful & among
        return ValidatedColumns(
            whole if sure.all() else whole.filter(pa.array(sure)), doubtful if among is None else doubtful & among
        )


def _too_large_mask(batch: TypedBatch) -> Mask | None:
    """Return the mask of rows that may exceed the size of a record as JSON; None if there are none."""
    fixed = sum(_ESCAPED * len(name.encode()) + _VALUE_BYTES for name in batch.names())
    raw = [leaf for column in batch.raw() for leaf in _leaves(column)]
    if any(types.is_nested(column.type) for column in raw):  # lists, whose items are not counted by row
        longest = fixed + _ESCAPED * sum(column.nbytes for column in raw)
        return np.ones(batch.rows, dtype=np.bool_) if longest > MAX_RECORD_BYTES else None
    fixed += _VALUE_BYTES * len(raw)
    wide = [_decoded(column) for column in raw if _is_wide(column.type)]
    sizes = [pc.binary_length(column) for column in wide]
    if fixed + _ESCAPED * sum(pc.max(size).as_py() or 0 for size in sizes) <= MAX_RECORD_BYTES:
        return None
    whole = np.full(batch.rows, fixed, dtype=np.int64)
    for size in sizes:
        whole += _ESCAPED * np.asarray(size.fill_null(0), dtype=np.int64)
    found: Mask = whole > MAX_RECORD_BYTES
    return found


def _leaves(column: pa.Array) -> list[pa.Array]:
    if not types.is_struct(column.type):
        return [column]
    return [leaf for inside in column.flatten() for leaf in _leaves(inside)]


def _decoded(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if types.is_dictionary(column.type) else column


def _is_wide(kind: pa.DataType) -> bool:
    if types.is_dictionary(kind):
        return _is_wide(kind.value_type)
    tests = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return any(test(kind) for test in tests)
