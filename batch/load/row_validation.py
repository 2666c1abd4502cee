"""Validate rows one by one: doubtful ones, and all JSON lines if a line may also hold a late label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from batch.load.group_numbers import GroupNumbers
from batch.load.typed_batch import TypedBatch
from batch.load.vectorized_validation import GROUP, PLACE, MessageColumns
from schemas.messages import OUTCOME
from spinney.core.config import RecordSchema
from spinney.core.records.field_paths import ABSENT, find_field
from spinney.core.records.rules import RecordRules, build_rules
from spinney.core.records.validation import RejectedError, ValidationResult, read_message, validate, value_of
from spinney.sources import RowBatch

OBSERVED_AT = "observed_at"


class ValidRows:
    """Collects the values of valid rows of one kind of message, for its spool."""

    def __init__(self, columns: MessageColumns, groups: GroupNumbers, group: tuple[str, ...]) -> None:
        self._columns, self._groups, self._group = columns, groups, group
        self._names = list(dict.fromkeys((*group, *columns.stored_as)))
        self._places: list[int] = []
        self._rows: list[Mapping[str, Any]] = []

    def __len__(self) -> int:
        return len(self._places)

    def add(self, place: int, values: Mapping[str, Any]) -> None:
        """Add the values of a row. place: the row's number in the source, from 0."""
        self._places.append(place)
        self._rows.append(values)

    def table(self, extra: dict[str, pa.Array] | None = None) -> pa.Table:
        """Return the rows in the form of `ValidatedColumns.valid`. extra: additional columns."""
        schema = self._columns.schema()
        kinds = {name: schema.field(stored).type for name, stored in self._columns.stored_as.items()}
        kinds |= dict(zip(self._group, self._groups.types, strict=True))
        found = {name: pa.array([row[name] for row in self._rows], kinds[name]) for name in self._names}
        numbers = self._groups.numbers_of_valid([found[name] for name in self._group])
        own = {stored: found[name] for name, stored in self._columns.stored_as.items()}
        return pa.table({GROUP: pa.array(numbers), PLACE: pa.array(self._places, pa.int64()), **own, **(extra or {})})


class LateLabels:
    """The outcomes in rows of events, for a fleet with late labels.

    Such an outcome is observed at the row's `observed_at`. If the file has no such column, it is observed `label_delay`
    after the event, but not later than now.
    """

    def __init__(self, schema: RecordSchema, events: RecordRules) -> None:
        self._events = events
        self._delay: timedelta = schema.fleet.label_delay
        self._given = build_rules(schema, OUTCOME)
        label = self._given.rule_of(schema.fleet.target)
        observed = replace(self._given.rule_of(OBSERVED_AT), source=OBSERVED_AT, unit=None)
        fields = tuple(observed if rule.name == OBSERVED_AT else rule for rule in self._given.fields)
        self._derived = replace(self._given, fields=fields)
        self._label = replace(label, required=False)
        self.message_rules = replace(
            events,
            fields=(*events.fields, *(rule for rule in self._given.fields if rule.name in (label.name, OBSERVED_AT))),
        )

    def is_observed(self, batch: RowBatch) -> bool | None:
        """Return whether the batch has a column `observed_at`. None for JSON lines, each of which has to be checked."""
        if batch.columns is None:
            return None
        return TypedBatch(batch, self._given).column_of(self._given.rule_of(OBSERVED_AT)) is not None

    def _has_observed_at(self, message: Mapping[str, Any]) -> bool:
        """Return whether a message has the field, even if it is null."""
        return find_field(message, self._given.rule_of(OBSERVED_AT).source) is not ABSENT

    def validate(
        self, message: bytes, moment: datetime, *, is_observed: bool | None
    ) -> tuple[bytes, ValidationResult] | None:
        """Return the message of the outcome and its result; None if the row has no label, or `observed_at` is null.

        is_observed: as `is_observed` returns it for the row's batch.
        """
        try:
            fields = read_message(message)
        except RejectedError:
            return None
        try:
            if value_of(fields, self._label, self._given) is None:
                return None
        except RejectedError:
            pass  # there is a label, of the wrong type
        if self._has_observed_at(fields) if is_observed is None else is_observed:
            return message, validate(message, moment, self._given)
        try:
            at = value_of(fields, self._events.rule_of(self._events.time), self._events)
            observed = min(at + self._delay, moment).isoformat()
        except (RejectedError, OverflowError):
            return None
        derived = message.rstrip()[:-1] + f',"{OBSERVED_AT}":"{observed}"}}'.encode()
        return derived, validate(derived, moment, self._derived)
