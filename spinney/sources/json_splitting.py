"""Split JSON files whose objects are not one per line: an array, indented objects, or objects one after another."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import TextIO

from spinney.core.errors import ContractError
from spinney.core.records.json_parsing import quote_text

MAX_CHARACTERS = 8 << 20
"""Longest value that is read; the limit of a CSV row is the same."""

_READ_CHARACTERS = 1 << 20
_LONGEST_TOKEN = len(r"-Infinity")
"""Length of the longest token, other than a text, that the decoder reports at its start when it is cut off."""

_SPACE = " \t\r\n\x1e"
"""Characters that may separate values: JSON's white space, and RFC 7464's record separator before each."""

_AFTER_NUMBERS = tuple(f"{_SPACE},]")
_BETWEEN = re.compile(rf"[{_SPACE},]*")
# Only the ends of a value are needed: `validate` decides whether its record is valid.
_DECODER = json.JSONDecoder(strict=False, parse_int=len, parse_float=len, parse_constant=len)


def has_values_across_lines(start: str) -> bool:
    """Return whether a file is not JSON lines, but an array or objects that do not fill exactly one line each.

    start: the beginning of the file. If the first line is not JSON, the file counts as JSON lines with an error in it.
    """
    text = start.lstrip(_SPACE + "\ufeff")
    if text.startswith("["):
        return True
    try:
        end = _DECODER.raw_decode(text)[1]
    except (ValueError, RecursionError):
        return False
    rest = text[end:].partition("\n")[0].strip(_SPACE)
    is_separated = rest == "," or rest.lstrip("," + _SPACE).startswith("{")
    return "\n" in text[:end] or is_separated or start.lstrip("\ufeff").startswith("\x1e")


def split_values(text: TextIO, name: str) -> Iterator[str]:
    """Yield each value of a file as written, in bounded memory.

    text: the file, with its line breaks unchanged. The values are the elements of one array, or follow one another,
    with or without commas. name: for messages. Raises ContractError for a value that is not JSON (its end is unknown,
    so reading stops), a value longer than MAX_CHARACTERS, or a file that is cut off.
    """
    window = _Window(text)
    window.skip_between()
    in_array = window.text.startswith("[", window.at)
    window.at += in_array
    number = 0
    while not window.skip_between():
        if in_array and window.text[window.at] == "]":
            window.at += 1
            if not window.skip_between():
                raise _error(name, number, "one array in the file; there is text after it")
            return
        number += 1
        yield window.take_value(lambda problem: _error(name, number, problem))  # noqa: B023 - called at once
    if in_array:
        raise _error(name, number, "the array to be closed; the file ends before, so it is cut off")


def _error(name: str, number: int, problem: str) -> ContractError:
    return ContractError(f"{name}: record {number:,}: expected {problem}. Write the file again, best as JSON lines")


def _may_go_on(error: json.JSONDecodeError) -> bool:
    """Return whether the error may only mean that a value was cut off at the end of the window."""
    return error.msg.startswith("Unterminated string") or error.pos > len(error.doc) - _LONGEST_TOKEN


class _Window:
    """The part of a file that is in memory. text: this part. at: position in it up to which it was read."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.text = ""
        self.at = 0

    def skip_between(self) -> bool:
        """Go to the next value. Return whether the file ends before it."""
        while True:
            found = _BETWEEN.match(self.text, self.at)
            self.at = found.end() if found is not None else self.at
            if self.at < len(self.text):
                return False
            if not self._read_more():
                return True

    def take_value(self, error: Callable[[str], ContractError]) -> str:
        """Return the next value. error: makes the exception of a problem."""
        while True:
            try:
                end = _DECODER.raw_decode(self.text, self.at)[1]
            except RecursionError as cause:
                raise error("less nesting") from cause
            except json.JSONDecodeError as cause:
                if len(self.text) - self.at > MAX_CHARACTERS:
                    raise error(f"at most {MAX_CHARACTERS >> 20} MiB of JSON; got more") from cause
                if not _may_go_on(cause) or not self._read_more():
                    raise error(f"JSON; got {quote_text(self.text[cause.pos :])}: {cause.msg}") from cause
                continue
            # A number may continue behind the end of the window: after 0 or 0. there may be another digit.
            is_whole = self.text[end - 1] in '}]"' or self.text[end : end + 1] in _AFTER_NUMBERS
            if is_whole or not self._read_more():
                value, self.at = self.text[self.at : end], end
                return value

    def _read_more(self) -> bool:
        """Read more of the file, and drop the text before `at`. Returns whether there was more."""
        more = self._file.read(_READ_CHARACTERS)
        self.text, self.at = self.text[self.at :] + more, 0
        return bool(more)
