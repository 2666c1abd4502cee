"""Records that are wrong on purpose: one small function for each reason of the closed list.

Each takes a good event and a name, and returns (key, value) as bytes. The name is somewhere in the bytes, so that no
two of them are equal and each can be found again by its digest.
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

Bytes = tuple[bytes | None, bytes | None]


@dataclass(frozen=True)
class Good:
    """A good event to spoil. record: its fields as JSON has them."""

    key: bytes
    record: Mapping[str, Any]
    config: Config

    @property
    def id_field(self) -> str:
        return self.config.fleet.event_id

    def with_fields(self, name: str, **fields: Any) -> bytes:
        return encode({**self.record, self.id_field: name, **fields})

    def number(self) -> str:
        """An event column that holds numbers."""
        for column, kind in self.config.event_columns.items():
            if column not in self.config.fleet.group and is_number(kind):
                return column
        raise _cannot("a column of numbers in [fleet.columns]")


def encode(record: Mapping[str, Any]) -> bytes:
    """The JSON message of a record, UTF-8."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def digest(key: bytes | None, value: bytes | None) -> str:
    """What a record is recognised by in the table of dead letters: its bytes."""
    found = hashlib.sha256()
    for part in (key, value):
        found.update(b"-" if part is None else b"%d:" % len(part) + part)
    return found.hexdigest()


def spoil(good: Good, reason: DeadLetterReason, name: str) -> Bytes:
    """Return a record that is rejected for `reason`. Raises ConfigError: this fleet can have no such record."""
    return SPOILERS[reason](good, name)


def _null_value(_: Good, name: str) -> Bytes:
    return name.encode(), None


def _too_large(good: Good, name: str) -> Bytes:
    return good.key, good.with_fields(name, padding="x" * MAX_RECORD_BYTES)


def _not_utf8(good: Good, name: str) -> Bytes:
    return good.key, b"\xff\xfe" + name.encode()


def _not_json(good: Good, name: str) -> Bytes:
    return good.key, good.with_fields(name)[:-1]


def _duplicate_field(good: Good, name: str) -> Bytes:
    return good.key, good.with_fields(name)[:-1] + b"," + encode({good.id_field: name})[1:]


def _not_an_object(good: Good, name: str) -> Bytes:
    return good.key, encode({"in": [name]})[len(b'{"in":') : -1]


def _missing_field(good: Good, name: str) -> Bytes:
    record = {field: value for field, value in good.record.items() if field != good.config.fleet.event_time}
    return good.key, encode({**record, good.id_field: name})


def _null_key(good: Good, name: str) -> Bytes:
    return good.key, good.with_fields(name, **{good.config.fleet.group[0]: None})


def _wrong_type(good: Good, name: str) -> Bytes:
    return good.key, good.with_fields(name, **{good.number(): "many"})


def _not_finite(good: Good, name: str) -> Bytes:
    # 1e999 is legal JSON and parses to infinity; no writer of JSON would make it, so it is put in as text.
    spoiled = good.with_fields(name, **{_double(good): "@"})
    return good.key, spoiled.replace(b'"@"', b"1e999")


def _empty_id(good: Good, name: str) -> Bytes:
    return good.key, good.with_fields(name, **{good.id_field: "", "sent_as": name})


def _id_too_long(good: Good, name: str) -> Bytes:
    return good.key, good.with_fields(name + "x" * MAX_ID_CHARACTERS)


def _control_character(good: Good, name: str) -> Bytes:
    return good.key, good.with_fields(name + "\u0007")


def _out_of_range(good: Good, name: str) -> Bytes:
    for column, (_, high) in good.config.fleet.ranges.items():
        if column in good.config.event_columns:
            return good.key, good.with_fields(name, **{column: int(high) + 1})
    raise _cannot("a range of an event's column in [fleet.ranges]")


def _time_out_of_range(good: Good, name: str) -> Bytes:
    return good.key, good.with_fields(name, **{good.config.fleet.event_time: "2099-01-01T00:00:00Z"})


def _double(good: Good) -> str:
    for column, kind in good.config.event_columns.items():
        if kind in ("double", "float"):
            return column
    raise _cannot("a column of type double in [fleet.columns]")


def _cannot(expected: str) -> ConfigError:
    remedy = "Remove that kind from faults.dead_letters."
    return ConfigError([Finding("demo.toml", None, "faults.dead_letters", expected, "none", remedy)])


SPOILERS: Mapping[DeadLetterReason, Callable[[Good, str], Bytes]] = {
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
