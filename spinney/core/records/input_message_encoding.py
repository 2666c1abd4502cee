"""Encode a row of a file as the JSON message that `produce` sends. Rows of files are validated as that message."""

from __future__ import annotations

import json
import math
from collections.abc import Container, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final

from spinney.core.records.rules import FieldRule, RecordRules
from spinney.core.records.time_parsing import number_of_instant
from spinney.core.records.value_conversion import BOOLEAN_TEXTS, INTEGER_BITS, NUMBER

_NOT_JSON: Final = object()
"""Marks an undeclared value that JSON cannot represent."""


class UnrepresentableValue(str):
    """A value that Python cannot represent, in words: `253402300800 seconds since 1970`. No column of texts takes it
    for one.
    """

    __slots__ = ()


def encode_message(row: Mapping[str, Any], rules: RecordRules, *, texts: Container[str] = frozenset()) -> bytes:
    """Return the JSON message of a row, with every field that JSON can represent.

    row: field -> Python value as Arrow returns it. texts: the fields that are text only because the file has no types
    (a CSV, or the partitions of a path). For these, a text in `missing` is null whatever the column's type, and a
    number or boolean is written as such if the declared type is one. A declared value that JSON cannot represent is
    encoded so that `validate` rejects it by name.
    """
    declared = _rule_by_source(rules)
    # As in `validate`: a field with the whole dotted name takes precedence over the nested one.
    nested = {source: rule for source, rule in declared.items() if source not in row}
    parts = []
    for name, value in row.items():
        rule = declared.get(name)
        encoded = _encode_text(value, rule, rules) if name in texts else _encode_value(value, rule, name, nested)
        if encoded is not _NOT_JSON:
            parts.append(f"{json.dumps(str(name), ensure_ascii=False)}:{encoded}")
    text = "{" + ",".join(parts) + "}"
    try:
        return text.encode()
    except UnicodeEncodeError:  # an unpaired surrogate: only an escape can represent it
        return text.encode(errors="backslashreplace")


def _rule_by_source(rules: RecordRules) -> dict[str, FieldRule]:
    """Return the rule by which each field is written. An id that is the event's time is written as the time."""
    return {rule.source: rule for rule in sorted(rules.read, key=lambda rule: rule.name == rules.time)}


def _encode_text(text: str | None, rule: FieldRule | None, rules: RecordRules) -> str:
    if text is None or text in rules.missing:
        return "null"
    if rule is None or rule.type in ("string", "date") or (rule.type == "timestamp" and rule.unit is None):
        return json.dumps(text, ensure_ascii=False)
    if rule.type == "boolean" and text in BOOLEAN_TEXTS:
        return "true" if BOOLEAN_TEXTS[text] else "false"
    if (
        rule.type != "boolean"
        and NUMBER.fullmatch(text.strip(" "))
        and (number := _json_number(text.strip(" "))) is not None
    ):
        return number
    return json.dumps(text, ensure_ascii=False)


def _json_number(text: str) -> str | None:
    """Return the text as a JSON number; None if it is not one in JSON's grammar (leading zeros, a plus sign)."""
    try:
        json.loads(text)
    except ValueError:
        return None
    return text


def _encode_value(value: Any, rule: FieldRule | None, path: str, nested: Mapping[str, FieldRule]) -> Any:
    """Return JSON text; `_NOT_JSON` for an undeclared value that JSON cannot represent.

    path: the names that lead to the value, with dots between them. nested: the rules of values inside objects, by their
    path.
    """
    if value is None:
        return "null"
    if isinstance(value, (bool, int)):
        return json.dumps(value)
    if isinstance(value, str) or (isinstance(value, bytes) and rule is not None):
        return _encode_typed_text(value, rule)
    if isinstance(value, float):
        return _encode_float(value, rule)
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() else "null"
    if isinstance(value, (datetime, date)):
        return _encode_time(value, rule)
    if isinstance(value, time):
        return json.dumps(value.isoformat())
    if isinstance(value, dict):
        return _encode_object(value, path, nested)
    if isinstance(value, (list, tuple)):
        items = [_encode_value(part, None, "", {}) for part in value]
        return "[" + ",".join("null" if item is _NOT_JSON else item for item in items) + "]"
    return _NOT_JSON if rule is None else json.dumps({type(value).__name__: "not JSON"})


def _encode_typed_text(value: str | bytes, rule: FieldRule | None) -> str:
    """Return a text as JSON, and bytes decoded: some writers do not declare that their bytes are a text."""
    if isinstance(value, UnrepresentableValue) and rule is not None and rule.type == "string":
        return json.dumps({"no text": value})
    text = value if isinstance(value, str) else value.decode(errors="surrogateescape")
    return json.dumps(text, ensure_ascii=False)


def _encode_object(value: Mapping[Any, Any], path: str, nested: Mapping[str, FieldRule]) -> str:
    parts = []
    for key, part in value.items():
        name = str(key)
        inner = f"{path}.{name}"
        encoded = _encode_value(part, nested.get(inner), inner, nested)
        if encoded is not _NOT_JSON:
            parts.append(f"{json.dumps(name, ensure_ascii=False)}:{encoded}")
    return "{" + ",".join(parts) + "}"


def _encode_float(value: float, rule: FieldRule | None) -> str:
    if math.isnan(value):
        return "null"
    if math.isinf(value):
        return "1e999" if value > 0 else "-1e999"  # valid JSON, but not finite
    if value.is_integer() and rule is not None and rule.type in INTEGER_BITS:
        return str(int(value))  # pandas stores integer columns with nulls as floats
    return repr(value)


def _encode_time(value: datetime | date, rule: FieldRule | None) -> str:
    if rule is not None and rule.unit is not None:
        at = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day, tzinfo=UTC)
        number = number_of_instant(at.replace(tzinfo=UTC) if at.tzinfo is None else at, rule.unit)
        if number is not None:
            return number  # else the text below, which is rejected: it is no year
    if not isinstance(value, datetime):
        return json.dumps(value.isoformat())
    utc = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return json.dumps(utc.isoformat().replace("+00:00", "Z"))
