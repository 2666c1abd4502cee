"""Plain records: valid ones that a single pass of Spark's typed JSON parser reads exactly as the full checks do.

`from_json` is several times as fast as a VARIANT and a check of each field's JSON type, but it casts numbers to text,
takes the last of two fields of one name and ignores text after the object. So its result is used only where counts of
the record's own characters prove that none of this happened. All other records, each bad one among them, take the full
checks of `spinney.stores.validity`. Whether a record is plain therefore changes its cost, never its verdict or values.

The proof. The text is one flat object: no brace or bracket but the first and the last, no backslash. Let F be the
declared fields that are not null after parsing, S those of them that are JSON texts, k the keys and v the text values
that the object really has. Each colon ends a key or stands inside a text; so colons(record) - colons(values of S) is at
least k, and k is at least F. Where it equals F, there is no key but one for each of the F fields: none twice, none
unknown, none null. (Where some are null, the names of the object are listed and compared instead.) Each text has two
quotes: quotes(record) = 2 (k + v). Where that is 2 (k + S), no number or truth value was cast to text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from schemas.messages import MAX_FUTURE_SECONDS, MAX_ID_CHARACTERS, MAX_RECORD_BYTES

TEXT = f"CASE WHEN octet_length(value) <= {MAX_RECORD_BYTES} THEN CAST(value AS STRING) END"
"""SQL: a record's text. A tombstone or an oversized value is not parsed at all."""

_INTEGERS = ("tinyint", "smallint", "int", "bigint")
_TEXTS = ("string", "timestamp", "date")
_READ_AS = {**dict.fromkeys(_INTEGERS, "bigint"), **dict.fromkeys(_TEXTS, "string")} | {
    "double": "double",
    "boolean": "boolean",
}
"""How each type is parsed. A float would be rounded twice, and a decimal's scale not checked: not plain."""

_UNPARSED = "unparsed record"
"""A fleet's columns have no space in their names."""

_OPTIONS = {
    "mode": "PERMISSIVE",
    "columnNameOfCorruptRecord": _UNPARSED,
    "allowNonNumericNumbers": "false",
    "allowSingleQuotes": "false",
}

# One object without another inside: no brace or bracket but the outer ones, no escape, no delete character.
_FLAT = r"\\A\\{[^{}\\[\\]\\\\\\x7f]*+\\}\\z"


class PlainField(Protocol):
    """A field of a message, as `spinney.stores.validity.Field` describes it."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def required(self) -> bool: ...
    @property
    def identity(self) -> bool: ...
    @property
    def time_pattern(self) -> str | None: ...
    @property
    def ranges(self) -> Sequence[str]: ...


def once(expression: str) -> str:
    """SQL of the same value that the optimiser neither repeats nor moves.

    A filter on a column is pushed below the projection that computes it, and the column's expression stands in both
    places; one that is nondeterministic by its type stays where it is.
    """
    return f"CASE WHEN spark_partition_id() >= 0 THEN {expression} END"


def are_possible(fields: Sequence[PlainField]) -> bool:
    """Whether records with these fields can be plain: not where one has a type that this pass does not read."""
    return all(field.type in _READ_AS for field in fields)


def nothing(fields: Sequence[PlainField]) -> str:
    """SQL: what `valid` gives where no record is plain."""
    return f"CAST(NULL AS STRUCT<{', '.join(f'`{field.name}`: {field.type}' for field in fields)}>)"


def parsed(fields: Sequence[PlainField]) -> str:
    """SQL: the fields of the record by one pass of `from_json`."""
    ddl = ", ".join(f"`{field.name}` {_READ_AS[field.type]}" for field in fields)
    options = ", ".join(f"'{name}', '{value}'" for name, value in _OPTIONS.items())
    return once(f"from_json({TEXT}, '{ddl}, `{_UNPARSED}` string', map({options}))")


def values(fields: Sequence[PlainField], column: str) -> str:
    """SQL: a struct of the fields in their types where the record is one flat object that was read exactly, else null.

    column: what `parsed` gave.
    """
    typed = ", ".join(f"'{field.name}', {_typed(field, f'{column}.`{field.name}`')}" for field in fields)
    return once(f"CASE WHEN {_is_exact(fields, column)} THEN named_struct({typed}) END")


def valid(fields: Sequence[PlainField], time: str, read: str, column: str) -> str:
    """SQL: the struct where every field of it is valid, else null.

    time: the field with the record's time. read, column: what `parsed` and `values` gave.
    """
    conditions = [
        f"{column} IS NOT NULL",
        f"{column}.`{time}` >= TIMESTAMP '1970-01-01 00:00:00Z'",
        f"{column}.`{time}` <= record_time + INTERVAL {MAX_FUTURE_SECONDS} SECONDS",
    ]
    for field in fields:
        conditions += _conditions(field, f"{read}.`{field.name}`", f"{column}.`{field.name}`")
    return once(f"CASE WHEN {' AND '.join(conditions)} THEN {column} END")


def _typed(field: PlainField, read: str) -> str:
    if field.type in ("timestamp", "date", *_INTEGERS):
        return f"try_cast({read} AS {field.type})"
    # JSON's minus zero is zero in a VARIANT.
    return f"({read} + 0D)" if field.type == "double" else read


def _is_exact(fields: Sequence[PlainField], column: str) -> str:
    texts = [f"{column}.`{field.name}`" for field in fields if _READ_AS[field.type] == "string"]
    every = [f"{column}.`{field.name}`" for field in fields]
    inside, names = f"concat_ws('', {', '.join(texts)})", f"json_object_keys({TEXT})"
    keys = f"{_count(TEXT, ':')} - {_count(inside, ':')}"
    quotes = _count(TEXT, '"')
    known = ", ".join(f"'{field.name}'" for field in fields)
    one_each = f"({keys} = {_present(every)} AND {quotes} = 2 * ({_present(every)} + {_present(texts)}))"
    # Only with null fields among them does a record's text have to be read a second time.
    listed = (
        f"({keys} = size({names}) AND {quotes} = 2 * (size({names}) + {_present(texts)}) "
        f"AND size(array_distinct({names})) = size({names}) AND size(array_except({names}, array({known}))) = 0)"
    )
    return (
        f"{column}.`{_UNPARSED}` IS NULL AND {TEXT} RLIKE '{_FLAT}' AND is_valid_utf8({TEXT}) "
        f"AND ({one_each} OR {listed})"
    )


def _count(text: str, character: str) -> str:
    return f"(octet_length({text}) - octet_length(replace({text}, '{character}', '')))"


def _present(columns: Sequence[str]) -> str:
    return f"({' + '.join(f'CAST({column} IS NOT NULL AS INT)' for column in columns)})"


def _conditions(field: PlainField, read: str, value: str) -> list[str]:
    """What holds of a valid field, as SQL that is never null. read, value: before and after it got its type."""
    found = [f"{value} IS NOT NULL"] if field.required else []
    if field.time_pattern:
        found.append(f"({read} IS NULL OR ({read} RLIKE '{field.time_pattern}' AND {value} IS NOT NULL))")
    elif field.type in _INTEGERS and field.type != "bigint":
        found.append(f"({read} IS NULL OR {value} IS NOT NULL)")
    elif field.type == "double":
        found.append(f"({value} IS NULL OR abs({value}) < DOUBLE('Infinity'))")
    if field.identity and field.type == "string":
        found.append(f"{value} != '' AND char_length({value}) <= {MAX_ID_CHARACTERS}")
    found += [f"coalesce(NOT {outside}, true)" for outside in field.ranges]
    return found
