"""A row of a file as the JSON message that `produce` sends: every file is judged as that message."""

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

_NO_JSON: Final = object()
"""Of an undeclared value that JSON cannot say."""


def message_of(row: Mapping[str, Any], rules: Rules, *, texts: Container[str] = frozenset()) -> bytes:
    """Return the message of a row, every field of it that JSON can say.

    row: field -> value as Arrow gives it to Python. texts: the fields that are text only because the file has no types
    (a CSV, the partitions of a path). Of these, a text in `missing` is null whatever the column's type, and a number or
    a truth is written as such where the type says so.
    A declared value that JSON cannot say is written as something that `judge` rejects with its name.
    """
    declared = {rule.source: rule for rule in rules.fields}
    parts = []
    for name, value in row.items():
        rule = declared.get(name)
        said = _of_text(value, rule, rules) if name in texts else _json(value, rule)
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


def _json(value: Any, rule: FieldRule | None) -> Any:
    """JSON text; `_NO_JSON` for an undeclared value that has none."""
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
        inside = {str(name): _json(part, None) for name, part in value.items()}
        said = (
            f"{json.dumps(name, ensure_ascii=False)}:{part}" for name, part in inside.items() if part is not _NO_JSON
        )
        return "{" + ",".join(said) + "}"
    if isinstance(value, (list, tuple)):
        inside_ = [_json(part, None) for part in value]
        return "[" + ",".join("null" if part is _NO_JSON else part for part in inside_) + "]"
    return _NO_JSON if rule is None else json.dumps({type(value).__name__: "not JSON"})


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
