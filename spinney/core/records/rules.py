"""What a fleet's configuration says about its records, compiled once per kind of message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas import messages
from schemas.contract import Column, Contract
from schemas.vocabulary import DeadLetterReason
from spinney.core.config import Config
from spinney.core.config.values import time_unit
from spinney.core.records.message_contracts import message_contract


@dataclass(frozen=True)
class Basis:
    """The part of a configuration that may be edited and changes which records are valid, or what they say.

    ranges: column -> (lowest, highest). sources: column -> its field in a message, where that has another name.
    units: column -> "s", "ms" or "us", where times are numbers since 1970. missing: texts that mean no value.

    The others are of before a migration. undeclared: columns that were not declared then, so that a field of their name
    was not read. types: column -> Spark SQL type that it had. dropped: column -> type, of those that are declared no
    more and were validated then.
    """

    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    coerce: bool = True
    missing: tuple[str, ...] = ("",)
    undeclared: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)


def basis_of(config: Config) -> Basis:
    """Return what validating records depends on in this configuration, in one order whatever the file's."""
    fleet = config.fleet
    units = {name: unit for name, kind in sorted(fleet.columns.items()) if (unit := time_unit(kind)) is not None}
    ranges = {name: (float(low), float(high)) for name, (low, high) in sorted(fleet.ranges.items())}
    sources = {name: source for name, source in sorted(fleet.fields.items()) if source != name}
    return Basis(ranges, sources, units, fleet.coerce, tuple(sorted(set(fleet.missing))))


@dataclass(frozen=True)
class FieldRule:
    """What holds for one column of a message.

    name: the column. source: the field's name in the message; one that contains dots also reaches into nested objects.
    type: a Spark SQL type. unit: of a timestamp that is a number since 1970; None: ISO 8601 text.
    coerce: whether another form of the value is taken, see `values`. identity: an id or a column of the group, whose
    text ends up in keys. low, high: of its range, None without one. undeclared: whether it is null whatever a message
    has under its name.
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

    @property
    def shown(self) -> str:
        """The column as error messages name it."""
        return self.name if self.source == self.name else f"{self.name} (field {self.source})"


@dataclass(frozen=True)
class Rules:
    """What holds for one kind of message.

    fields: in the contract's order. time: the column with the record's time. known: names of top-level fields that are
    not counted as unknown.
    """

    fields: tuple[FieldRule, ...]
    time: str
    missing: frozenset[str]
    known: frozenset[str]

    def field_of(self, name: str) -> FieldRule:
        """Raises KeyError when the message has no such column."""
        for rule in self.fields:
            if rule.name == name:
                return rule
        raise KeyError(name)


def rules_of(config: Config, message: Contract, basis: Basis | None = None) -> Rules:
    """Return the rules for events or outcomes.

    message: `messages.EVENT` or `messages.OUTCOME`. basis: what held when the record arrived; None: the
    configuration's own.
    """
    held = basis if basis is not None else basis_of(config)
    columns = list(message_contract(config, message).columns)
    if message.name == messages.EVENT.name:
        columns += [Column(name, kind, "declared no more") for name, kind in held.dropped.items()]
    fields = tuple(_field(config, column, held) for column in columns)
    time = "observed_at" if message.name == messages.OUTCOME.name else config.fleet.event_time
    known = frozenset(name for rule in fields for name in (rule.source, rule.source.partition(".")[0]))
    return Rules(fields, time, frozenset(held.missing), known)


def _field(config: Config, column: Column, basis: Basis) -> FieldRule:
    is_key = column.name in config.fleet.group
    low, high = basis.ranges.get(column.name, (None, None))
    return FieldRule(
        column.name,
        basis.sources.get(column.name, column.name),
        basis.types.get(column.name, column.type),
        unit=basis.units.get(column.name),
        coerce=basis.coerce,
        required=not column.nullable,
        identity=is_key or column.name == config.fleet.event_id,
        null_reason=DeadLetterReason.NULL_KEY if is_key else DeadLetterReason.MISSING_FIELD,
        low=low,
        high=high,
        undeclared=column.name in basis.undeclared,
    )
