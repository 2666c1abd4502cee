"""Validate one record, from the record alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from schemas.messages import MAX_FUTURE_SECONDS, MAX_ID_CHARACTERS, MAX_RECORD_BYTES
from schemas.vocabulary import DeadLetterReason
from spinney.core.records.content_ids import add_content_id
from spinney.core.records.control_characters import has_control_character
from spinney.core.records.json_parsing import NumberText, UnreadableError, describe_value, has_surrogate, read_object
from spinney.core.records.rules import FieldRule, RecordRules
from spinney.core.records.time_parsing import EPOCH
from spinney.core.records.value_conversion import NotFiniteError, WrongTypeError, convert_value

MAX_DETAIL_CHARACTERS: Final = 500
_MAX_FUTURE: Final = timedelta(seconds=MAX_FUTURE_SECONDS)
_FRAME_BYTES: Final = 5
"""Bytes before the value in the wire format of Confluent's schema registry: a zero, and the id of the schema."""


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
        detail = f"expected UTF-8; got the byte 0x{value[error.start]:02x} at byte {error.start}{_framing_hint(value)}"
        raise RejectedError(DeadLetterReason.NOT_UTF8, detail) from error
    try:
        return read_object(text)
    except UnreadableError as error:
        raise RejectedError(error.reason, f"{error.detail}{_framing_hint(value)}") from error


def _framing_hint(value: bytes) -> str:
    """Return why a value that is no JSON begins with a zero byte; empty for any other value."""
    if len(value) <= _FRAME_BYTES or value[0] != 0:
        return ""
    return ". It begins as serializers of a schema registry write it, with a zero and an id: send plain JSON"


def value_of(message: Mapping[str, Any], rule: FieldRule, rules: RecordRules) -> Any:
    """Return the column's value in a message, None if there is none. Raises RejectedError."""
    raw = None if rule.undeclared else raw_value(message, rule.source)
    is_text = isinstance(raw, str) and not isinstance(raw, NumberText)
    if is_text and raw in rules.missing and rule.type != "string":
        raw = None
    if raw is None:
        if rule.required:
            got = "null" if rule.source in message else "nothing"
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
    if rule.low is not None and rule.high is not None and not rule.low <= value <= rule.high:
        detail = f"{rule.display_name}: expected {rule.low:g} to {rule.high:g}; got {value}"
        raise RejectedError(DeadLetterReason.OUT_OF_RANGE, detail, rule.name)
    return value


def raw_value(message: Mapping[str, Any], source: str) -> Any:
    """Return the field of this name as it was parsed; None if there is none.

    A top-level field with the whole dotted name takes precedence over a nested one.
    """
    if source in message or "." not in source:
        return message.get(source)
    found: Any = message
    for name in source.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


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
