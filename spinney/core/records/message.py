"""A row of a file as the JSON message that `produce` sends: every file is validated as that message."""

from __future__ import annotations

import json
import math
from collections.abc import Container, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final

from spinney.core.records.rules import FieldRule, Rules
from spinney.core.records.times import number_of_instant
from spinney.core.records.values import INTEGER_BITS, NUMBER, TRUTHS

_Path = tuple[str, ...]

_NO_JSON: Final = object()
"""Of an undeclared value that JSON cannot say."""


def message_of(row: Mapping[str, Any], rules: Rules, *, texts: Container[str] = frozenset()) -> bytes:
    """Return the message of a row, every field of it that JSON can say.

    row: field -> value as Arrow gives it to Python. texts: the fields that are text only because the file has no types
    (a CSV, the partitions of a path). Of these, a text in `missing` is null whatever the column's type, and a number or
    a truth is written as such where the type says so.
    A declared value that JSON cannot say is written as something that `validate` rejects with its name.
    """
    declared = {rule.source: rule for rule in rules.fields}
    # As `validate` reads it: a field of the row that has the whole dotted name hides the nested one.
    nested = {tuple(source.split(".")): rule for source, rule in declared.items() if source not in row}
    parts = []
    for name, value in row.items():
        rule = declared.get(name)
        said = _of_text(value, rule, rules) if name in texts else _json(value, rule, (name,), nested)
        if said is not _NO_JSON:
            parts.append(f"{json.dumps(str(name), ensure_ascii=False)}:{said}")
    text = "{" + ",".join(parts) + "}"
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: only an escape can say it
        return text.encode(errors="backslashreplace")


def _of_text(text: str | None, rule: FieldRule | None, rules: Rules) -> str:
    if text is None or text in rules.missing:
        return "null"
    if rule is None or rule.type in ("string", "date") or (rule.type == "timestamp" and rule.unit is None):
        return json.dumps(text, ensure_ascii=False)
    if rule.type == "boolean" and text in TRUTHS:
        return "true" if TRUTHS[text] else "false"
    if (
        rule.type != "boolean"
        and NUMBER.fullmatch(text.strip(" "))
        and (number := _number(text.strip(" "))) is not None
    ):
        return number
    return json.dumps(text, ensure_ascii=False)


def _number(text: str) -> str | None:
    """The text as a number of JSON's grammar; None where leading zeros or a sign would have to go."""
    try:
        json.loads(text)
    except ValueError:
        return None
    return text


def _json(value: Any, rule: FieldRule | None, path: _Path, nested: Mapping[_Path, FieldRule]) -> Any:
    """JSON text; `_NO_JSON` for an undeclared value that has none.

    path: the names that lead to the value. nested: the rules of values inside objects, by their path.
    """
    if value is None:
        return "null"
    if isinstance(value, (bool, int)):
        return json.dumps(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float):
        return _of_float(value, rule)
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() else "null"
    if isinstance(value, (datetime, date)):
        return _of_time(value, rule)
    if isinstance(value, time):
        return json.dumps(value.isoformat())
    if isinstance(value, dict):
        return _of_object(value, path, nested)
    if isinstance(value, (list, tuple)):
        items = [_json(part, None, (), {}) for part in value]
        return "[" + ",".join("null" if item is _NO_JSON else item for item in items) + "]"
    return _NO_JSON if rule is None else json.dumps({type(value).__name__: "not JSON"})


def _of_object(value: Mapping[Any, Any], path: _Path, nested: Mapping[_Path, FieldRule]) -> str:
    parts = []
    for key, part in value.items():
        name = str(key)
        inner = (*path, name)
        said = _json(part, nested.get(inner), inner, nested)
        if said is not _NO_JSON:
            parts.append(f"{json.dumps(name, ensure_ascii=False)}:{said}")
    return "{" + ",".join(parts) + "}"


def _of_float(value: float, rule: FieldRule | None) -> str:
    if math.isnan(value):
        return "null"
    if math.isinf(value):
        return "1e999" if value > 0 else "-1e999"  # legal JSON, and not finite
    if value.is_integer() and rule is not None and rule.type in INTEGER_BITS:
        return str(int(value))  # pandas turns integers with gaps into floats
    return repr(value)


def _of_time(value: datetime | date, rule: FieldRule | None) -> str:
    if rule is not None and rule.unit is not None:
        at = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day, tzinfo=UTC)
        return number_of_instant(at.replace(tzinfo=UTC) if at.tzinfo is None else at, rule.unit)
    if not isinstance(value, datetime):
        return json.dumps(value.isoformat())
    utc = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return json.dumps(utc.isoformat().replace("+00:00", "Z"))
