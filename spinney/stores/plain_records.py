"""Plain records: valid ones that a single pass of Spark's typed JSON parser reads exactly as `judge` does.

`from_json` runs in the JVM and is several times as fast as Python, but it casts numbers to text, takes the last of two
fields of one name and ignores text after the object. So its result is used only where counts of the record's own
characters prove that none of this happened. All other records, each bad one among them, go to
`spinney.core.records.judge`. Whether a record is plain therefore changes its cost, never its verdict or values.

The proof. The text is one flat object: no brace or bracket but the first and the last, no backslash. Let F be the
declared fields that are not null after parsing, S those of them that are JSON texts, k the keys and v the text values
that the object really has. Each colon ends a key or stands inside a text; so colons(record) - colons(values of S) is at
least k, and k is at least F. Where it equals F, there is no key but one for each of the F fields: none twice, none
unknown, none null. (Where some are null, the names of the object are listed and compared instead.) Each text has two
quotes: quotes(record) = 2 (k + v). Where that is 2 (k + S), no number or truth value was cast to text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from schemas.messages import MAX_FUTURE_SECONDS, MAX_ID_CHARACTERS, MAX_RECORD_BYTES
from spinney.core.config.rules import storable
from spinney.core.records.rules import FieldRule, Rules

TEXT = f"CASE WHEN octet_length(value) <= {MAX_RECORD_BYTES} THEN CAST(value AS STRING) END"
"""SQL: a record's text. A tombstone or an oversized value is not parsed at all."""

_INTEGERS = ("tinyint", "smallint", "int", "bigint")
_TEXTS = ("string", "timestamp", "date")
_READ_AS = {**dict.fromkeys(_INTEGERS, "bigint"), **dict.fromkeys(_TEXTS, "string")} | {
    "double": "double",
    "boolean": "boolean",
}
"""How each type is parsed. A float would be rounded twice, and a decimal's scale not checked: not plain."""

_MICROS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_FIRST, _LAST = "0001-01-01", "9999-12-31"
_FIRST_S, _END_S = -62_135_596_800, 253_402_300_800
"""Of Python's calendar: its first second since 1970, and the one after its last."""

_EXACT = 1 << 53
"""Beyond this, not each integer is a double, as which SQL would compare it with a range."""

_DAY = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME_TEXTS = {
    "timestamp": f"^{_DAY}[T ][0-9]{{2}}:[0-9]{{2}}(:[0-9]{{2}}(\\\\.[0-9]{{1,9}})?)?(Z|[+-][0-9]{{2}}:?[0-9]{{2}})?$",
    "date": f"^{_DAY}$",
}
"""How a plain record writes times, as regular expressions in SQL: the usual ones of those that are read."""

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


def once(expression: str) -> str:
    """SQL of the same value that the optimiser neither repeats nor moves.

    A filter on a column is pushed below the projection that computes it, and the column's expression stands in both
    places; one that is nondeterministic by its type stays where it is.
    """
    return f"CASE WHEN spark_partition_id() >= 0 THEN {expression} END"


def are_possible(rules: Rules) -> bool:
    """Whether records of these rules can be plain: each field is of a type, and of a name, that this pass reads."""
    if any(rule.undeclared for rule in rules.fields):
        return False
    sources = [rule.source for rule in rules.fields]
    # Spark does not tell names apart by their case alone.
    distinct = len({source.lower() for source in sources}) == len(sources)
    names = [name for rule in rules.fields for name in (rule.name, rule.source)]
    return distinct and all(map(storable, names)) and all(rule.type in _READ_AS for rule in rules.fields)


def parsed(rules: Rules, where: str) -> str:
    """SQL: the fields of the record by one pass of `from_json`. where: SQL, of records that may be plain."""
    ddl = ", ".join(f"`{rule.source}` {_read_as(rule)}" for rule in rules.fields)
    options = ", ".join(f"'{name}', '{value}'" for name, value in _OPTIONS.items())
    return once(f"CASE WHEN {where} THEN from_json({TEXT}, '{ddl}, `{_UNPARSED}` string', map({options})) END")


def values(fields: Sequence[FieldRule], column: str) -> str:
    """SQL: a struct of the fields in their types where the record is one flat object that was read exactly, else null.

    column: what `parsed` gave.
    """
    typed = ", ".join(f"'{rule.name}', {_typed(rule, f'{column}.`{rule.source}`')}" for rule in fields)
    return once(f"CASE WHEN {_is_exact(fields, column)} THEN named_struct({typed}) END")


def valid(rules: Rules, read: str, column: str) -> str:
    """SQL: the struct where every field of it is valid, else null. read, column: what `parsed` and `values` gave."""
    time = f"{column}.`{rules.time}`"
    conditions = [
        f"{column} IS NOT NULL",
        f"{time} >= TIMESTAMP '1970-01-01 00:00:00Z'",
        f"{time} <= record_time + INTERVAL {MAX_FUTURE_SECONDS} SECONDS",
    ]
    for rule in rules.fields:
        conditions += _conditions(rule, rules, f"{read}.`{rule.source}`", f"{column}.`{rule.name}`")
    return once(f"CASE WHEN {' AND '.join(conditions)} THEN {column} END")


def _read_as(rule: FieldRule) -> str:
    return _READ_AS[rule.type] if rule.unit is None else "bigint"


def _typed(rule: FieldRule, read: str) -> str:
    if rule.unit is not None:
        per_second = 1_000_000 // _MICROS[rule.unit]
        known = f"{read} >= {_FIRST_S * per_second}L AND {read} < {_END_S * per_second}L"
        return f"CASE WHEN {known} THEN timestamp_micros({read} * {_MICROS[rule.unit]}L) END"
    if rule.type in ("timestamp", "date", *_INTEGERS):
        return f"try_cast({read} AS {rule.type})"
    # Minus zero is zero.
    return f"({read} + 0D)" if rule.type == "double" else read


def _is_exact(fields: Sequence[FieldRule], column: str) -> str:
    texts = [f"{column}.`{rule.source}`" for rule in fields if _read_as(rule) == "string"]
    every = [f"{column}.`{rule.source}`" for rule in fields]
    inside, names = f"concat_ws('', {', '.join(texts)})", f"json_object_keys({TEXT})"
    keys = f"{_count(TEXT, ':')} - {_count(inside, ':')}"
    quotes = _count(TEXT, '"')
    known = ", ".join(f"'{rule.source}'" for rule in fields)
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


def _conditions(rule: FieldRule, rules: Rules, read: str, value: str) -> list[str]:
    """What holds of a valid field, as SQL that is never null. read, value: before and after it got its type."""
    found = [f"{value} IS NOT NULL"] if rule.required else []
    if rule.unit is not None or (rule.type in _INTEGERS and rule.type != "bigint"):
        found.append(f"({read} IS NULL OR {value} IS NOT NULL)")
    elif pattern := _TIME_TEXTS.get(rule.type):
        is_one = f"{read} RLIKE '{pattern}' AND {value} IS NOT NULL AND {_in_calendar(rule, value)}"
        found.append(f"({read} IS NULL OR ({is_one}{_not_missing(rules, read)}))")
    elif rule.type == "double":
        found.append(f"({value} IS NULL OR abs({value}) < DOUBLE('Infinity'))")
    if rule.identity and rule.type == "string":
        found.append(f"{value} != '' AND char_length({value}) <= {MAX_ID_CHARACTERS}")
    if rule.low is not None and rule.high is not None:
        inside = f"{value} >= {rule.low!r}D AND {value} <= {rule.high!r}D"
        if rule.type == "bigint":
            inside += f" AND {value} BETWEEN -{_EXACT}L AND {_EXACT}L"
        found.append(f"({value} IS NULL OR ({inside}))")
    return found


def _in_calendar(rule: FieldRule, value: str) -> str:
    """SQL: Python has this time, in UTC."""
    if rule.type == "date":
        return f"{value} >= DATE '{_FIRST}'"
    return f"{value} BETWEEN TIMESTAMP '{_FIRST} 00:00:00Z' AND TIMESTAMP '{_LAST} 23:59:59.999999Z'"


def _not_missing(rules: Rules, read: str) -> str:
    """SQL: a further condition, that the text is none of those that mean no value. Most look like no time."""
    texts = [f"'{text}'" for text in sorted(rules.missing) if re.fullmatch("[0-9TZ:.+ -]+", text)]
    return f" AND {read} NOT IN ({', '.join(texts)})" if texts else ""
