"""Which records are valid: one expression of Spark SQL, evaluated in the JVM, from the record alone.

The text is parsed to a VARIANT, which keeps the type that each field has in the JSON; nothing is cast before it is
checked, so ``"12"`` is not a number and ``12`` is not a string. The first check that fails names the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame

from schemas import messages
from schemas.contract import Column, Contract
from schemas.messages import MAX_FUTURE_SECONDS, MAX_ID_CHARACTERS, MAX_RECORD_BYTES
from schemas.vocabulary import DeadLetterReason
from spinney.core.config import Config
from spinney.core.records.message_contracts import message_contract
from spinney.stores import plain_records
from spinney.stores.charter import Edition

RECORD_COLUMNS = ("key", "value", "topic", "kafka_partition", "kafka_offset", "record_time")
"""What a source gives: as Kafka has it, record_time being the record's own timestamp."""

AS_MESSAGE = {
    "ignoreNullFields": "false",
    # By itself Spark writes milliseconds: a time would be another one than the tables have.
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
}
"""How Spark writes a row as the JSON of a message."""

Editions = Sequence[Edition]

_INTEGERS = frozenset({"tinyint", "smallint", "int", "bigint"})
_NUMBERS = frozenset({"float", "double"})
_ISO_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?$"
_ISO_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_DETAIL_CHARACTERS = 500


@dataclass(frozen=True)
class Bound:
    """A range, and as SQL which records it holds for: an edited range holds from an offset on."""

    low: float
    high: float
    holds: str = "true"

    def broken_by(self, value: str) -> str:
        """SQL: the value is outside, and the range holds."""
        return f"(({value} < {self.low!r}D OR {value} > {self.high!r}D) AND {self.holds})"


@dataclass(frozen=True)
class Field:
    """One field of a message as it is checked. identity: an id or a key column, whose text ends up in keys."""

    name: str
    type: str
    required: bool = False
    identity: bool = False
    null_reason: DeadLetterReason = DeadLetterReason.MISSING_FIELD
    bounds: tuple[Bound, ...] = ()

    # A field is taken out of the record once, in three steps that each give a variable with a struct: its JSON, its
    # JSON's type and text, then its value. The checks only look at those; writing the steps out in every check made
    # validation three times as slow.

    @property
    def json(self) -> str:
        return f"_json.`{self.name}`"

    @property
    def json_type(self) -> str:
        return f"_seen.`type {self.name}`"

    @property
    def text(self) -> str:
        return f"_seen.`text {self.name}`"

    @property
    def value(self) -> str:
        """The field as its declared type; null where it is absent or does not fit."""
        return f"_exact.`{self.name}`"

    @property
    def steps(self) -> tuple[list[str], list[str], list[str]]:
        """Name and value in the struct of each step.

        In the first, the record's object stands first in the array it was wrapped into.
        """
        json = [f"'{self.name}', try_variant_get(v, \"$[0]['{self.name}']\", 'variant')"]
        seen = [
            f"'type {self.name}', schema_of_variant({self.json})",
            f"'text {self.name}', try_variant_get({self.json}, '$', 'string')",
        ]
        if self.type == "string":
            cast = self.text
        elif self.type in ("timestamp", "date"):
            cast = f"try_cast({self.text} AS {self.type})"
        else:
            cast = f"try_variant_get({self.json}, '$', '{self.type}')"
            cast = f"{cast} + 0D" if self.type == "double" else cast  # of minus zero, as in a plain record
        return json, seen, [f"'{self.name}', {cast}"]

    @property
    def time_pattern(self) -> str | None:
        """How a time is written, as a regular expression in SQL."""
        return {"timestamp": _ISO_TIME, "date": _ISO_DATE}.get(self.type)

    @property
    def ranges(self) -> list[str]:
        """SQL, of a plain record: its value is outside a range that holds for it."""
        return [bound.broken_by(f"_typed.`{self.name}`") for bound in self.bounds]

    @property
    def absent(self) -> str:
        return f"coalesce({self.json_type}, 'VOID') = 'VOID'"

    @property
    def fits(self) -> str:
        """True when a present field has its declared type in the JSON itself."""
        if self.type == "string":
            return f"{self.json_type} = 'STRING'"
        if self.type == "boolean":
            return f"{self.json_type} = 'BOOLEAN'"
        if self.type in _INTEGERS:
            return f"({self.json_type} = 'BIGINT' AND {self.value} IS NOT NULL)"
        if self.type in ("timestamp", "date"):
            pattern = _ISO_TIME if self.type == "timestamp" else _ISO_DATE
            return f"({self.json_type} = 'STRING' AND {self.text} RLIKE '{pattern}' AND {self.value} IS NOT NULL)"
        number = f"({self.json_type} IN ('BIGINT', 'DOUBLE', 'FLOAT') OR {self.json_type} LIKE 'DECIMAL%')"
        return f"({number} AND {self.value} IS NOT NULL)"


@dataclass(frozen=True)
class Check:
    """A condition (true: the record is bad), its reason, and what to say of it as a SQL expression."""

    fails: str
    reason: DeadLetterReason
    detail: str


def fields_of(config: Config, message: Contract, editions: Editions = ()) -> tuple[Field, ...]:
    """The fields of a message as its contract has them. message: messages.EVENT or OUTCOME."""
    return tuple(_field(config, column, editions) for column in message_contract(config, message).columns)


def _field(config: Config, column: Column, editions: Editions) -> Field:
    key = column.name in config.fleet.group
    return Field(
        column.name,
        column.type,
        required=not column.nullable,
        identity=key or column.name == config.fleet.event_id,
        null_reason=DeadLetterReason.NULL_KEY if key else DeadLetterReason.MISSING_FIELD,
        bounds=_bounds(config, column.name, editions),
    )


def _bounds(config: Config, name: str, editions: Editions) -> tuple[Bound, ...]:
    if not editions:
        return (Bound(*config.fleet.ranges[name]),) if name in config.fleet.ranges else ()
    bounds = []
    for at, edition in enumerate(editions):
        if name in edition.ranges:
            after = _reached(edition)
            ended = f" AND NOT {_reached(editions[at + 1])}" if at + 1 < len(editions) else ""
            bounds.append(Bound(*edition.ranges[name], holds=f"({after}{ended})"))
    return tuple(bounds)


def _reached(edition: Edition) -> str:
    """SQL: the record stands at or behind the offset from which this edition holds."""
    cases = " ".join(
        f"WHEN topic = '{topic}' AND kafka_partition = {partition} THEN {offset}L"
        for topic, partitions in edition.since.items()
        for partition, offset in partitions.items()
    )
    return f"kafka_offset >= CASE {cases} ELSE 0L END" if cases else "true"


def checks(fields: Iterable[Field], time: Field) -> list[Check]:
    """Every check of a message, in the order in which they speak."""
    found = [
        Check("value IS NULL", DeadLetterReason.NULL_VALUE, "'no value'"),
        Check(
            f"octet_length(value) > {MAX_RECORD_BYTES}",
            DeadLetterReason.TOO_LARGE,
            f"concat('at most {MAX_RECORD_BYTES} bytes expected, got ', octet_length(value))",
        ),
        Check("NOT is_valid_utf8(text)", DeadLetterReason.NOT_UTF8, "'the bytes are not UTF-8'"),
        Check(
            "v IS NULL AND size(array_distinct(fields)) < size(fields)",
            DeadLetterReason.DUPLICATE_FIELD,
            "'a field stands twice'",
        ),
        Check(
            "NOT (try_variant_get(v, '$[1]', 'bigint') <=> xxhash64(text))",
            DeadLetterReason.NOT_JSON,
            # A VARIANT holds no object with a name twice, however deep; only those at the top are looked for by name.
            "concat('JSON without a name twice in one object expected, got ', left(text, 80))",
        ),
        Check(
            "NOT schema_of_variant(try_variant_get(v, '$[0]', 'variant')) LIKE 'OBJECT%'",
            DeadLetterReason.NOT_AN_OBJECT,
            "concat('a JSON object expected, got ', left(text, 80))",
        ),
    ]
    for field in fields:
        found += _checks_of(field)
    earliest, latest = "TIMESTAMP '1970-01-01 00:00:00Z'", f"record_time + INTERVAL {MAX_FUTURE_SECONDS} SECONDS"
    span = f"between 1970 and {MAX_FUTURE_SECONDS} s after the record''s own timestamp"
    found.append(
        Check(
            f"{time.value} < {earliest} OR {time.value} > {latest}",
            DeadLetterReason.TIME_OUT_OF_RANGE,
            f"concat('{time.name}: {span} (', record_time, ') expected, got ', {time.text})",
        )
    )
    return found


def _checks_of(field: Field) -> list[Check]:
    got = f"concat('{field.name}: {field.type} expected, got ', {field.json_type}, ' ', left({field.text}, 80))"
    found = []
    if field.required:
        missing = f"concat('{field.name}: {field.type} expected, got ', coalesce({field.json_type}, 'nothing'))"
        found.append(Check(field.absent, field.null_reason, missing))
    found.append(Check(f"NOT {field.absent} AND NOT {field.fits}", DeadLetterReason.WRONG_TYPE, got))
    if field.type in _NUMBERS:
        # A literal like 1e999 is legal JSON and parses to infinity.
        infinite = f"isnan({field.value}) OR abs({field.value}) = DOUBLE('Infinity')"
        found.append(Check(infinite, DeadLetterReason.NOT_FINITE, got))
    if field.identity and field.type == "string":
        found += [
            Check(f"{field.text} = ''", DeadLetterReason.EMPTY_ID, f"'{field.name}: empty'"),
            Check(
                f"char_length({field.text}) > {MAX_ID_CHARACTERS}",
                DeadLetterReason.ID_TOO_LONG,
                f"concat('{field.name}: at most {MAX_ID_CHARACTERS} characters expected, got ', "
                f"char_length({field.text}))",
            ),
            # Engines escape control characters differently in JSON: one key would have two spellings.
            Check(
                rf"{field.text} RLIKE '[\\x00-\\x1f\\x7f]'",
                DeadLetterReason.CONTROL_CHARACTER,
                f"'{field.name}: a control character'",
            ),
        ]
    for bound in field.bounds:
        expected = f"concat('{field.name}: {bound.low:g} to {bound.high:g} expected, got ', {field.text})"
        found.append(Check(bound.broken_by(field.value), DeadLetterReason.OUT_OF_RANGE, expected))
    return found


def _first_failed(checks: Sequence[Check]) -> str:
    """SQL: the place of the first check that fails; null when none does."""
    return f"CASE {' '.join(f'WHEN {check.fails} THEN {at}' for at, check in enumerate(checks))} END"


def _reason(checks: Sequence[Check]) -> str:
    reasons = ", ".join(repr(check.reason.value) for check in checks)
    return f"CASE WHEN failed IS NOT NULL THEN element_at(array({reasons}), failed + 1) END"


def _detail(checks: Sequence[Check]) -> str:
    return f"CASE failed {' '.join(f'WHEN {at} THEN {check.detail}' for at, check in enumerate(checks))} END"


def group_key(config: Config, of: str = "") -> str:
    """The canonical key as SQL, equal to `spinney.core.keys.encode`. of: a table alias with its dot."""
    return f"to_json(array({', '.join(f'CAST({of}`{name}` AS STRING)' for name in config.fleet.group)}))"


def shard(config: Config, key: str = "group_key") -> str:
    return f"CAST(pmod(xxhash64({key}), {config.fleet.shards}L) AS INT)"


def classified(records: DataFrame, config: Config, *, outcomes: bool, editions: Editions = ()) -> DataFrame:
    """Records of one topic, typed and judged.

    records: RECORD_COLUMNS. editions: of the ranges, by offset; without them the configuration's hold.

    Returns them with reason and detail (null: valid), unknown_fields, shard, group_key, event_id and, of an event,
    event_time and the declared columns, of an outcome, label and observed_at.
    """
    fleet = config.fleet
    fields = fields_of(config, messages.OUTCOME if outcomes else messages.EVENT, editions)
    by_name = {field.name: field for field in fields}
    time = by_name["observed_at" if outcomes else fleet.event_time]
    if outcomes:
        named = {"event_id": fleet.event_id, "label": fleet.target, "observed_at": time.name}
        named |= {name: name for name in fleet.group}
    else:
        named = {"event_id": fleet.event_id, "event_time": time.name, **{name: name for name in config.event_columns}}
    judged = _judged(_plain(records, fields, time), fields, checks(fields, time))
    typed = judged.selectExpr(
        *RECORD_COLUMNS,
        "_verdict.reason AS reason",
        "_verdict.detail AS detail",
        "_verdict.unknown_fields AS unknown_fields",
        *(f"_value.`{field}` AS `{name}`" for name, field in named.items()),
    )
    return typed.selectExpr("*", f"{group_key(config)} AS group_key").selectExpr("*", f"{shard(config)} AS shard")


def _plain(records: DataFrame, fields: Sequence[Field], time: Field) -> DataFrame:
    """RECORD_COLUMNS and `_typed`: the fields of a record that a single pass finds valid, else null."""
    if not plain_records.are_possible(fields):
        return records.selectExpr(*RECORD_COLUMNS, f"{plain_records.nothing(fields)} AS _typed")
    return (
        records.selectExpr(*RECORD_COLUMNS, f"{plain_records.parsed(fields)} AS _read")
        .selectExpr("*", f"{plain_records.values(fields, '_read')} AS _typed")
        .selectExpr(*RECORD_COLUMNS, f"{plain_records.valid(fields, time.name, '_read', '_typed')} AS _typed")
    )


def _judged(rows: DataFrame, fields: Sequence[Field], every: Sequence[Check]) -> DataFrame:
    """RECORD_COLUMNS, `_value` (the fields) and `_verdict` (reason, detail, unknown_fields)."""
    full = f"CASE WHEN _typed IS NULL THEN {_full(fields, every)} END"
    return rows.selectExpr("*", f"{plain_records.once(full)} AS _full").selectExpr(
        *RECORD_COLUMNS,
        f"{plain_records.once('coalesce(_typed, _full.value)')} AS _value",
        f"{plain_records.once(_VERDICT)} AS _verdict",
    )


_VERDICT = (
    "named_struct('reason', _full.reason, 'detail', _full.detail, 'unknown_fields', coalesce(_full.unknown_fields, 0))"
)


def _full(fields: Sequence[Field], every: Sequence[Check]) -> str:
    """SQL: what the full checks make of a record: a struct of value (the fields), reason, detail, unknown_fields.

    Each step is the value of a variable and evaluated once. Spark interprets `transform` and what its function holds
    (`CodegenFallback`): as generated code these steps are so long that every task of a small batch took more time to
    write them down than to judge its records, though nearly all of those are plain.
    """
    known = ", ".join(f"'{field.name}'" for field in fields)
    found = (
        f"named_struct('value', _exact, 'reason', {_reason(every)}, 'detail', left({_detail(every)}, "
        f"{_DETAIL_CHARACTERS}), 'unknown_fields', size(array_except(coalesce(fields, array()), array({known}))))"
    )
    structs = [
        f"named_struct({', '.join(part for field in fields for part in field.steps[step])})" for step in range(3)
    ]
    steps = [
        ("text", plain_records.TEXT),
        # The parser stops after the first value, so the text is wrapped into an array whose second element must be what
        # we put there: a text that brings its own end of an array cannot know its own hash.
        ("v", "try_parse_json(concat('[', text, ',', xxhash64(text), ']'))"),
        ("fields", "json_object_keys(text)"),
        *zip(("_json", "_seen", "_exact"), structs, strict=True),
        ("failed", _first_failed(every)),
    ]
    for name, value in reversed(steps):
        found = f"element_at(transform(array({value}), {name} -> {found}), 1)"
    return found
