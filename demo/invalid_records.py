"""Invalid records, sent on purpose: one function for each dead-letter reason.

Each takes a valid event and a name, and returns (key, value) as bytes. The name is part of the bytes, so that no two
records are equal and each can be found by its digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.messages import MAX_ID_CHARACTERS, MAX_RECORD_BYTES
from schemas.vocabulary import DeadLetterReason
from spinney.core.config import Config
from spinney.core.config.value_types import is_number
from spinney.core.errors import ConfigError, Finding

KeyAndValue = tuple[bytes | None, bytes | None]


@dataclass(frozen=True)
class ValidEvent:
    """A valid event, from which an invalid one is made. record: its fields with their JSON values."""

    key: bytes
    record: Mapping[str, Any]
    config: Config

    @property
    def id_field(self) -> str:
        """Name of the field with the event's id."""
        return self.config.fleet.event_id

    def with_fields(self, name: str, **fields: Any) -> bytes:
        """Return the message with `name` as its id and these fields replaced."""
        return encode({**self.record, self.id_field: name, **fields})

    def number_column(self) -> str:
        """Return a numeric column of the event. Raises ConfigError: there is none."""
        for column, kind in self.config.record_schema.event_columns.items():
            if column not in self.config.fleet.group and is_number(kind):
                return column
        raise _cannot("a column of numbers in [fleet.columns]")


def encode(record: Mapping[str, Any]) -> bytes:
    """Return a record as a JSON message in UTF-8."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def record_digest(key: bytes | None, value: bytes | None) -> str:
    """Return the SHA-256 of a record's bytes, by which it is found in the table of dead letters, hex."""
    hashed = hashlib.sha256()
    for part in (key, value):
        hashed.update(b"-" if part is None else b"%d:" % len(part) + part)
    return hashed.hexdigest()


def make_invalid(valid: ValidEvent, reason: DeadLetterReason, name: str) -> KeyAndValue:
    """Return a record that is rejected for `reason`. Raises ConfigError: this fleet can have no such record."""
    return INVALID_RECORDS[reason](valid, name)


def _null_value(_: ValidEvent, name: str) -> KeyAndValue:
    return name.encode(), None


def _too_large(valid: ValidEvent, name: str) -> KeyAndValue:
    return valid.key, valid.with_fields(name, padding="x" * MAX_RECORD_BYTES)


def _not_utf8(valid: ValidEvent, name: str) -> KeyAndValue:
    return valid.key, b"\xff\xfe" + name.encode()


def _not_json(valid: ValidEvent, name: str) -> KeyAndValue:
    return valid.key, valid.with_fields(name)[:-1]


def _duplicate_field(valid: ValidEvent, name: str) -> KeyAndValue:
    return valid.key, valid.with_fields(name)[:-1] + b"," + encode({valid.id_field: name})[1:]


def _not_an_object(valid: ValidEvent, name: str) -> KeyAndValue:
    return valid.key, encode({"in": [name]})[len(b'{"in":') : -1]


def _missing_field(valid: ValidEvent, name: str) -> KeyAndValue:
    record = {field: value for field, value in valid.record.items() if field != valid.config.fleet.event_time}
    return valid.key, encode({**record, valid.id_field: name})


def _null_key(valid: ValidEvent, name: str) -> KeyAndValue:
    return valid.key, valid.with_fields(name, **{valid.config.fleet.group[0]: None})


def _wrong_type(valid: ValidEvent, name: str) -> KeyAndValue:
    return valid.key, valid.with_fields(name, **{valid.number_column(): "many"})


def _not_finite(valid: ValidEvent, name: str) -> KeyAndValue:
    # 1e999 is legal JSON and parses to infinity; no writer of JSON would make it, so it is put in as text.
    spoiled = valid.with_fields(name, **{_double_column(valid): "@"})
    return valid.key, spoiled.replace(b'"@"', b"1e999")


def _empty_id(valid: ValidEvent, name: str) -> KeyAndValue:
    return valid.key, valid.with_fields(name, **{valid.id_field: "", "sent_as": name})


def _id_too_long(valid: ValidEvent, name: str) -> KeyAndValue:
    return valid.key, valid.with_fields(name + "x" * MAX_ID_CHARACTERS)


def _control_character(valid: ValidEvent, name: str) -> KeyAndValue:
    return valid.key, valid.with_fields(name + "\u0007")


def _out_of_range(valid: ValidEvent, name: str) -> KeyAndValue:
    for column, (_, high) in valid.config.fleet.ranges.items():
        if column in valid.config.record_schema.event_columns:
            return valid.key, valid.with_fields(name, **{column: int(high) + 1})
    raise _cannot("a range of an event's column in [fleet.ranges]")


def _time_out_of_range(valid: ValidEvent, name: str) -> KeyAndValue:
    return valid.key, valid.with_fields(name, **{valid.config.fleet.event_time: "2099-01-01T00:00:00Z"})


def _double_column(valid: ValidEvent) -> str:
    for column, kind in valid.config.record_schema.event_columns.items():
        if kind in ("double", "float"):
            return column
    raise _cannot("a column of type double in [fleet.columns]")


def _cannot(expected: str) -> ConfigError:
    remedy = "Remove that reason from faults.dead_letters."
    return ConfigError([Finding("demo.toml", None, "faults.dead_letters", expected, "none", remedy)])


INVALID_RECORDS: Mapping[DeadLetterReason, Callable[[ValidEvent, str], KeyAndValue]] = {
    DeadLetterReason.NULL_VALUE: _null_value,
    DeadLetterReason.TOO_LARGE: _too_large,
    DeadLetterReason.NOT_UTF8: _not_utf8,
    DeadLetterReason.NOT_JSON: _not_json,
    DeadLetterReason.DUPLICATE_FIELD: _duplicate_field,
    DeadLetterReason.NOT_AN_OBJECT: _not_an_object,
    DeadLetterReason.MISSING_FIELD: _missing_field,
    DeadLetterReason.NULL_KEY: _null_key,
    DeadLetterReason.WRONG_TYPE: _wrong_type,
    DeadLetterReason.NOT_FINITE: _not_finite,
    DeadLetterReason.EMPTY_ID: _empty_id,
    DeadLetterReason.ID_TOO_LONG: _id_too_long,
    DeadLetterReason.CONTROL_CHARACTER: _control_character,
    DeadLetterReason.OUT_OF_RANGE: _out_of_range,
    DeadLetterReason.TIME_OUT_OF_RANGE: _time_out_of_range,
}
