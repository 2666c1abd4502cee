"""Validate one record, from the record alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from schemas.messages import MAX_FUTURE_SECONDS, MAX_ID_CHARACTERS, MAX_RECORD_BYTES
from schemas.vocabulary import DeadLetterReason
from spinney.core.records.content_ids import add_content_id
from spinney.core.records.control_characters import has_control_character
from spinney.core.records.field_paths import ABSENT, find_field
from spinney.core.records.json_parsing import NumberText, UnreadableError, describe_value, has_surrogate, read_object
from spinney.core.records.rules import FieldRule, RecordRules
from spinney.core.records.time_parsing import EPOCH
from spinney.core.records.value_conversion import NotFiniteError, WrongTypeError, convert_value, nearest_float32

MAX_DETAIL_CHARACTERS: Final = 500
_MAX_FUTURE: Final = timedelta(seconds=MAX_FUTURE_SECONDS)
_FRAME_BYTES: Final = 5
"""Bytes before the value in the wire format of Confluent's schema registry: a zero, and the id of the schema."""

_UTF_16 = "as UTF-16 does: write UTF-8"
_OTHER_FORMATS: Final = {
    b"\xff\xfe": _UTF_16,
    b"\xfe\xff": _UTF_16,
    b"{\0": _UTF_16,
    b"\0{": _UTF_16,
    b"\0": "as serializers of a schema registry write it, with a zero and an id: send plain JSON",
    b"\x1f\x8b": "as gzip does: send plain JSON; the Kafka client compresses it (compression.type)",
    b"\x28\xb5\x2f\xfd": "as zstd does: send plain JSON; the Kafka client compresses it (compression.type)",
    b"Obj\x01": "as a file of Avro does: send plain JSON",
}
"""First bytes of a value -> the format that begins so, and what to do; the first entry that fits counts."""


@dataclass(frozen=True)
class ValidationResult:
    """The values of a valid record, or the reason why a record is rejected.

    values: column -> value as `convert_value` returns it, None where there is none; None for a rejected record. field:
    the column that the reason is about; None if it is about the whole record.
    """

    values: Mapping[str, Any] | None
    reason: DeadLetterReason | None = None
    field: str | None = None
    detail: str | None = None


class RejectedError(Exception):
    """A record, or one of its fields, is not valid."""

    def __init__(self, reason: DeadLetterReason, detail: str, field: str | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.field = field


def validate(value: bytes | None, recorded_at: datetime, rules: RecordRules) -> ValidationResult:
    """Validate a record's value: the bytes from Kafka, or those that `encode_message` made of a file's row.

    recorded_at: the record's own timestamp, aware; the event may lie at most an hour after it. The first field that
    fails, in the contract's order, gives the reason.
    """
    try:
        message = read_message(value)
        values = {rule.name: value_of(message, rule, rules) for rule in rules.read}
        add_content_id(values, rules)
        _check_time(values[rules.time], recorded_at, rules)
    except RejectedError as error:
        return ValidationResult(None, error.reason, error.field, error.detail[:MAX_DETAIL_CHARACTERS])
    return ValidationResult(values)


def read_message(value: bytes | None) -> dict[str, Any]:
    """Parse the JSON object in a record's value. Raises RejectedError."""
    if value is None:
        raise RejectedError(DeadLetterReason.NULL_VALUE, "no value")
    if len(value) > MAX_RECORD_BYTES:
        raise RejectedError(DeadLetterReason.TOO_LARGE, f"expected at most {MAX_RECORD_BYTES} bytes; got {len(value)}")
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        detail = f"expected UTF-8; got the byte 0x{value[error.start]:02x} at byte {error.start}{_format_hint(value)}"
        raise RejectedError(DeadLetterReason.NOT_UTF8, detail) from error
    try:
        return read_object(text)
    except UnreadableError as error:
        raise RejectedError(error.reason, f"{error.detail}{_format_hint(value)}") from error


def _format_hint(value: bytes) -> str:
    """Return the format that a value without JSON seems to have, by its first bytes; empty if none is known."""
    for beginning, hint in _OTHER_FORMATS.items():
        if value.startswith(beginning) and len(value) > _FRAME_BYTES:
            return f". It begins {hint}"
    return ""


def value_of(message: Mapping[str, Any], rule: FieldRule, rules: RecordRules) -> Any:
    """Return the column's value in a message, None if there is none. Raises RejectedError."""
    found = ABSENT if rule.undeclared else find_field(message, rule.source)
    raw: Any = None if found is ABSENT else found
    is_text = isinstance(raw, str) and not isinstance(raw, NumberText)
    if is_text and raw in rules.missing and rule.type != "string":
        raw = None
    if raw is None:
        if rule.required:
            got = "nothing" if found is ABSENT else describe_value(found)
            raise RejectedError(rule.null_reason, f"{rule.display_name}: expected {rule.type}; got {got}", rule.name)
        return None
    if is_text and has_surrogate(raw):
        got = f"an unpaired surrogate in {describe_value(raw)}, which UTF-8 cannot write"
        raise RejectedError(DeadLetterReason.NOT_UTF8, f"{rule.display_name}: expected text; got {got}", rule.name)
    try:
        value = convert_value(raw, rule)
    except NotFiniteError as error:
        detail = f"{rule.display_name}: expected a finite {rule.type}; got {describe_value(raw)}"
        raise RejectedError(DeadLetterReason.NOT_FINITE, detail, rule.name) from error
    except WrongTypeError as error:
        explanation = f": {error.explanation}" if error.explanation else ""
        detail = f"{rule.display_name}: expected {rule.type}; got {describe_value(raw)}{explanation}"
        raise RejectedError(DeadLetterReason.WRONG_TYPE, detail, rule.name) from error
    if rule.identity and isinstance(value, str):
        _check_identity(value, rule)
    if rule.low is not None and rule.high is not None and not is_within(value, rule.type, (rule.low, rule.high)):
        low, high = map(_number_text, (rule.low, rule.high))
        detail = f"{rule.display_name}: expected {low} to {high}; got {value}"
        raise RejectedError(DeadLetterReason.OUT_OF_RANGE, detail, rule.name)
    return value


def is_within(value: Any, kind: str, ends: tuple[float, float]) -> bool:
    """Return whether a number is in a range, whose ends belong to it. kind: the type of the number's column."""
    low, high = _ends_of_type(kind, ends)
    return bool(low <= value <= high)


def _number_text(number: float) -> str:
    short = f"{number:g}"
    return short if float(short) == number else repr(number)


@lru_cache(maxsize=256)
def _ends_of_type(kind: str, ends: tuple[float, float]) -> tuple[Any, Any]:
    """Return the ends of a range as a column of this type holds them.

    The double 0.1 is a little more than the decimal 0.1, and less than the 32-bit float.
    """
    if kind.startswith("decimal"):
        return Decimal(repr(ends[0])), Decimal(repr(ends[1]))
    if kind == "float":
        return nearest_float32(ends[0]), nearest_float32(ends[1])
    return ends


def _check_identity(text: str, rule: FieldRule) -> None:
    if text == "":
        raise RejectedError(
            DeadLetterReason.EMPTY_ID, f"{rule.display_name}: expected some text; got an empty one", rule.name
        )
    if len(text) > MAX_ID_CHARACTERS:
        detail = f"{rule.display_name}: expected at most {MAX_ID_CHARACTERS} characters; got {len(text)}"
        raise RejectedError(DeadLetterReason.ID_TOO_LONG, detail, rule.name)
    # Otherwise one key would have two spellings.
    if has_control_character(text):
        raise RejectedError(
            DeadLetterReason.CONTROL_CHARACTER,
            f"{rule.display_name}: expected text without control characters; got {describe_value(text)}",
            rule.name,
        )


def _check_time(at: datetime, recorded_at: datetime, rules: RecordRules) -> None:
    if not EPOCH <= at <= recorded_at + _MAX_FUTURE:
        span = f"between 1970 and {MAX_FUTURE_SECONDS} s after the record's own timestamp"
        detail = f"{rules.time}: expected a time {span} ({recorded_at.isoformat()}); got {at.isoformat()}"
        raise RejectedError(DeadLetterReason.TIME_OUT_OF_RANGE, detail, rules.time)
