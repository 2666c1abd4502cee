"""Parse JSON strictly: numbers keep their text, and nothing outside the JSON grammar is accepted."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from schemas.vocabulary import DeadLetterReason

MAX_DEPTH: Final = 500
"""Nesting of objects and arrays. Python's own limit would depend on the depth of the caller's stack."""

_TEXT: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class NumberText(str):
    """A JSON number, as it was written."""

    __slots__ = ()


class UnreadableError(ValueError):
    """A text is not a JSON object. reason, detail: as stored in a dead letter."""

    def __init__(self, reason: DeadLetterReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class RepeatedNameError(ValueError):
    """A name occurs twice in one object."""


class _NotJsonError(Exception):
    """A constant that Python accepts and JSON does not have, such as NaN."""


def read_object(text: str) -> dict[str, Any]:
    """Parse a JSON object. Raises UnreadableError with the cause."""
    value = read_value(text)
    if not isinstance(value, dict):
        raise UnreadableError(DeadLetterReason.NOT_AN_OBJECT, f"expected a JSON object; got {describe_value(value)}")
    return value


def read_value(text: str, *, has_nan: bool = False) -> Any:
    """Parse any JSON value. has_nan: whether NaN is read as null. Raises UnreadableError with the cause."""
    if not text.strip(" \t\n\r"):
        raise UnreadableError(DeadLetterReason.NOT_JSON, "expected JSON; got an empty value")
    if text[0] == "\ufeff":
        cause = "expected JSON; got a byte order mark (EF BB BF) before it: write UTF-8 without one"
        raise UnreadableError(DeadLetterReason.NOT_JSON, cause)
    if _is_too_deep(text):
        detail = f"expected JSON; got more than {MAX_DEPTH} objects and arrays in one another"
        raise UnreadableError(DeadLetterReason.NOT_JSON, detail)
    try:
        return (_NAN_DECODER if has_nan else _DECODER).decode(text)
    except RepeatedNameError as error:
        detail = f"expected each name once in an object; got {quote_text(str(error))} twice"
        raise UnreadableError(DeadLetterReason.DUPLICATE_FIELD, detail) from error
    except _NotJsonError as error:
        raise UnreadableError(
            DeadLetterReason.NOT_JSON, f"expected JSON; got {error}, which it does not have"
        ) from error
    except json.JSONDecodeError as error:
        detail = f"expected JSON; got {quote_text(text)}: {error.msg.removesuffix(' at')} at character {error.pos}"
        raise UnreadableError(DeadLetterReason.NOT_JSON, detail) from error


def describe_value(value: Any) -> str:
    """Describe a JSON value in about a hundred characters at most."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, NumberText):
        return f"the number {value[:80]}"
    if isinstance(value, str):
        return f"the text {quote_text(value)}"
    return "an array" if isinstance(value, list) else "an object"


def quote_text(text: str) -> str:
    """Return a text in quotes, cut to 80 characters, without anything that UTF-8 or a terminal cannot show."""
    return json.dumps(_SURROGATE.sub(lambda match: f"\\u{ord(match[0]):x}", text[:80]), ensure_ascii=False)


def has_surrogate(text: str) -> bool:
    """Return whether a text contains an unpaired surrogate, which UTF-8 cannot encode."""
    return not text.isascii() and _SURROGATE.search(text) is not None


def unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of its names and values, as an `object_pairs_hook`. Raises RepeatedNameError."""
    result = dict(pairs)
    if len(result) < len(pairs):
        names: set[str] = set()
        for name, _ in pairs:
            if name in names:
                raise RepeatedNameError(name)
            names.add(name)
    return result


def _is_too_deep(text: str) -> bool:
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return False
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", _TEXT.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def _refuse_constant(word: str) -> Any:
    raise _NotJsonError(word)


def _null_for_nan(word: str) -> None:
    if word != "NaN":
        raise _NotJsonError(word)


_DECODER, _NAN_DECODER = (
    json.JSONDecoder(
        object_pairs_hook=unique_object, parse_int=NumberText, parse_float=NumberText, parse_constant=parse_constant
    )
    for parse_constant in (_refuse_constant, _null_for_nan)
)
