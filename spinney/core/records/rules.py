"""The validation rules for a fleet's records, compiled from its configuration for each kind of message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from schemas import messages
from schemas.contract import Column, Contract
from schemas.vocabulary import DeadLetterReason
from spinney.core.config import Fleet, RecordSchema
from spinney.core.config.value_types import EVERY_COLUMN, time_unit
from spinney.core.records.field_paths import possible_roots
from spinney.core.records.fleet_message_contracts import message_contract


@dataclass(frozen=True)
class ValidationSettings:
    """The editable part of a configuration that decides which records are valid and what their values are.

    ranges: column -> (lowest, highest). sources: column -> its field in a message, if that has another name. units:
    column -> "d", "s", "ms", "us" or "ns" for times that are numbers since 1970, "year" for years. missing: texts that
    mean no value.

    The other fields describe the columns before a migration. undeclared: columns that were not declared then, so that a
    field of their name was not read. types: column -> its Spark SQL type then. dropped: column -> type of columns that
    are no longer declared but were validated then.
    """

    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    coerce: bool = True
    missing: tuple[str, ...] = ("",)
    undeclared: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)


def validation_settings(fleet: Fleet) -> ValidationSettings:
    """Return the validation settings of a configuration, in an order that does not depend on the file's."""
    units = {name: unit for name, kind in sorted(fleet.columns.items()) if (unit := time_unit(kind)) is not None}
    ranges = {name: (float(low), float(high)) for name, (low, high) in sorted(fleet.ranges.items())}
    sources = {name: source for name, source in sorted(fleet.fields.items()) if source != name}
    return ValidationSettings(ranges, sources, units, fleet.coerce, tuple(sorted(set(fleet.missing))))


@dataclass(frozen=True)
class OriginalColumn:
    """A column as the fleet was made with it, before migrations. type: a Spark SQL type."""

    name: str
    type: str


@dataclass(frozen=True)
class FieldRule:
    """The rule for one column of a message.

    name: the column. source: the field's name in the message; a name with dots also reaches into nested objects. type:
    a Spark SQL type. unit: of a timestamp that is a number since 1970, or a year; None for ISO 8601 text. coerce:
    whether other forms of the value are accepted, see `value_conversion`. identity: whether it is an id or a key
    column, whose text becomes part of keys. low, high: its range; None without one. undeclared: whether it is always
    null, even if a message has a field of its name. original: the column as it was when the fleet was made; None if it
    was added later, so that it is not part of an id that is a hash.
    """

    name: str
    source: str
    type: str
    unit: str | None = None
    coerce: bool = True
    required: bool = False
    identity: bool = False
    null_reason: DeadLetterReason = DeadLetterReason.MISSING_FIELD
    low: float | None = None
    high: float | None = None
    undeclared: bool = False
    original: OriginalColumn | None = None

    @property
    def is_content_id(self) -> bool:
        """Whether the id is computed, as a hash of the event's other columns, instead of read from a field."""
        return self.source == EVERY_COLUMN != self.name and self.identity

    @property
    def display_name(self) -> str:
        """The column as error messages name it."""
        return self.name if self.source == self.name else f"{self.name} (field {self.source})"


@dataclass(frozen=True)
class RecordRules:
    """The rules for one kind of message.

    fields: in the contract's order. time: the column with the record's time. known: top-level fields; removing all
    others from a message does not change the result.
    """

    fields: tuple[FieldRule, ...]
    time: str
    missing: frozenset[str]
    known: frozenset[str]

    @property
    def read(self) -> tuple[FieldRule, ...]:
        """The columns that are read from a field."""
        return tuple(rule for rule in self.fields if not rule.is_content_id)

    @property
    def content_id(self) -> FieldRule | None:
        """The rule of the id, if it is a hash of the other columns; None if it is read from a field."""
        return next((rule for rule in self.fields if rule.is_content_id), None)

    @cached_property
    def hashed(self) -> tuple[tuple[FieldRule, OriginalColumn], ...]:
        """The columns of which `content_id` is a hash, in the order of their original names."""
        found = [(rule, rule.original) for rule in self.read if rule.original is not None]
        return tuple(sorted(found, key=lambda pair: pair[1].name))

    def rule_of(self, name: str) -> FieldRule:
        """Return the rule of a column. Raises KeyError if the message has no such column."""
        for rule in self.fields:
            if rule.name == name:
                return rule
        raise KeyError(name)


def build_rules(
    schema: RecordSchema,
    message: Contract,
    settings: ValidationSettings | None = None,
    originals: Mapping[str, OriginalColumn] | None = None,
) -> RecordRules:
    """Return the rules for events or outcomes.

    message: `messages.EVENT` or `messages.OUTCOME`. settings: those in effect when the record arrived; None for the
    configuration's own. originals: current name -> column that the fleet was made with; None without a migration.
    """
    settings = settings if settings is not None else validation_settings(schema.fleet)
    columns = list(message_contract(schema, message).columns)
    if message.name == messages.EVENT.name:
        columns += [Column(name, kind, "declared no more") for name, kind in settings.dropped.items()]
    fields = tuple(
        replace(_build_field_rule(schema.fleet, column, settings), original=_original(schema.fleet, column, originals))
        for column in columns
    )
    time = "observed_at" if message.name == messages.OUTCOME.name else schema.fleet.event_time
    known = frozenset(name for rule in fields if not rule.is_content_id for name in possible_roots(rule.source))
    return RecordRules(fields, time, frozenset(settings.missing), known)


def _build_field_rule(fleet: Fleet, column: Column, settings: ValidationSettings) -> FieldRule:
    is_key = column.name in fleet.group
    low, high = settings.ranges.get(column.name, (None, None))
    return FieldRule(
        column.name,
        settings.sources.get(column.name, column.name),
        settings.types.get(column.name, column.type),
        unit=settings.units.get(column.name),
        coerce=settings.coerce,
        required=not column.nullable,
        identity=is_key or column.name == fleet.event_id,
        null_reason=DeadLetterReason.NULL_KEY if is_key else DeadLetterReason.MISSING_FIELD,
        low=low,
        high=high,
        undeclared=column.name in settings.undeclared,
    )


def _original(fleet: Fleet, column: Column, originals: Mapping[str, OriginalColumn] | None) -> OriginalColumn | None:
    if originals is None or column.name == fleet.event_time:
        return OriginalColumn(column.name, column.type)
    return originals.get(column.name)
