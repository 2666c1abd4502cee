"""Quotes that a backslash escapes in a CSV file, as Spark and MySQL write them, rewritten as doubled quotes."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator

_ESCAPE = re.compile(rb'\\(["\\])')
_CELL = re.compile(rb'"(?:[^"\\]|\\.|"")*+"(?!")', re.DOTALL)
_UNENDED = "unexpected end of data"
"""Part of the module's message about text that ends within quotes."""

_MAX_HELD_BYTES = 1 << 24
"""A quoted cell that is longer than this is passed on unchanged: its row is too long for Arrow, which reports it."""


def is_escaped(lines: Iterable[str], delimiter: str, *, is_cut: bool) -> bool:
    """Return whether the rows are consistent only if a backslash escapes the quote after it.

    Rows are consistent if all below the header have the same number of cells, without text after a closing quote.
    lines: from the header on, each with its line break. is_cut: whether the last line may end within a cell.
    """
    text = list(lines)
    if not any('\\"' in line for line in text):
        return False
    escaped = csv.reader(text, delimiter=delimiter, escapechar="\\", strict=True)
    doubled = csv.reader(text, delimiter=delimiter, strict=True)
    return _are_consistent(escaped, is_cut=is_cut) and not _are_consistent(doubled, is_cut=is_cut)


def _are_consistent(rows: Iterator[list[str]], *, is_cut: bool) -> bool:
    lengths: set[int] = set()
    next(rows, None)
    try:
        for row in rows:
            if row:
                lengths.add(len(row))
    except csv.Error as error:
        if not (is_cut and _UNENDED in str(error)):
            return False
    return len(lengths) == 1


def unescape(text: str, delimiter: str) -> str:
    """Return a text from the header on as `Unescaper` rewrites it."""
    unescaper = Unescaper(delimiter)
    return (unescaper.feed(text.encode()) + unescaper.end()).decode()


class Unescaper:
    r"""Rewrites the quoted cells of a file, part by part: ``\"`` as ``""`` and ``\\`` as one backslash.

    Other backslashes, and those outside of quoted cells, stay as they are. A doubled quote stays a quote within the
    cell.
    """

    def __init__(self, delimiter: str) -> None:
        self._opening = re.compile(rb"(?<![^" + re.escape(delimiter.encode()) + rb'\r\n])"')
        self._before = b""
        self._held = b""

    def feed(self, part: bytes) -> bytes:
        """Take the next part of the file, and return the text that can be rewritten already.

        The rest follows with later parts.
        """
        return self._rewrite(part, ended=False)

    def end(self) -> bytes:
        """Return the rest of the file."""
        return self._rewrite(b"", ended=True)

    def _rewrite(self, part: bytes, *, ended: bool) -> bytes:
        text, place = self._before + self._held + part, len(self._before)
        found: list[bytes] = []
        while (opening := self._opening.search(text, place)) is not None:
            cell = _CELL.match(text, opening.start())
            is_whole = cell is not None and (cell.end() < len(text) or ended)
            if not is_whole and not ended and len(text) - opening.start() <= _MAX_HELD_BYTES:
                break
            if cell is None or not is_whole:
                opening = None
                break
            found += (text[place : opening.start()], _ESCAPE.sub(_doubled, cell[0]))
            place = cell.end()
        held_from = len(text) if opening is None else opening.start()
        found.append(text[place:held_from])
        self._before, self._held = text[max(0, held_from - 1) : held_from], text[held_from:]
        return b"".join(found)


def _doubled(escape: re.Match[bytes]) -> bytes:
    return b'""' if escape[1] == b'"' else b"\\"
