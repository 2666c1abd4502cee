"""The bytes of a CSV file for Arrow, with a mark after the last row."""

from __future__ import annotations

import codecs
import io
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa

from spinney.sources.csv.dialect import Dialect
from spinney.sources.csv.escaped_quotes import Unescaper

_READ_BYTES = 1 << 16
# A carriage return at the end may be the first of two characters.
_LINE_BREAK = re.compile(rb"\r\n|\r(?=.)|\n", re.DOTALL)


def end_mark(columns: int) -> str:
    """Return a row that occurs in no file, with another number of cells than `columns`.

    Arrow reports it as a row that it cannot split. If a quote is still open at the end of the file, Arrow reads the
    mark as part of that cell and does not report it.
    """
    return f"end-{uuid4().hex}" + (",x" if columns == 1 else "")


class MarkedStream(io.RawIOBase):
    """A file as UTF-8 from its header on, followed by a line break and `mark`. Raises OSError."""

    def __init__(self, file: Path, csv_dialect: Dialect, mark: str) -> None:
        """Raises OSError."""
        super().__init__()
        opened = pa.OSFile(str(file), "rb")
        is_utf8 = csv_dialect.encoding in ("utf-8", "utf-8-sig")
        self._file = opened if is_utf8 else pa.transcoding_input_stream(opened, csv_dialect.encoding, "utf-8")
        self._tail = f"\n{mark}\n".encode()
        self._unescaper = Unescaper(csv_dialect.delimiter) if csv_dialect.is_escaped else None
        self._head = self._unescaped(self._read_head(csv_dialect.lines_above))

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill all of `buffer` unless the stream ends: Arrow expects the header within the first block."""
        filled = 0
        while filled < len(buffer) and (part := self._next(len(buffer) - filled)):
            buffer[filled : filled + len(part)] = part
            filled += len(part)
        return filled

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
        super().close()

    def _read_head(self, lines_above: int) -> bytes:
        """Return the first bytes from the header on: without the lines above it, and without blank lines."""
        head: bytes = self._file.read(_READ_BYTES).removeprefix(codecs.BOM_UTF8)
        for _ in range(lines_above):
            while (end := _LINE_BREAK.search(head)) is None and (part := self._file.read(_READ_BYTES)):
                head += part
            head = head[end.end() :] if end is not None else b""
        head = head.lstrip(b"\r\n")
        while not head and (part := self._file.read(_READ_BYTES)):
            head = part.lstrip(b"\r\n")
        return head

    def _next(self, size: int) -> bytes:
        if not self._head:
            self._head = self._following(size)
        part, self._head = self._head[:size], self._head[size:]
        return part

    def _following(self, size: int) -> bytes:
        """Return the next bytes of the file, or else the mark, or nothing at the end."""
        while part := self._file.read(size):
            if text := self._unescaped(part):
                return text
        rest = self._unescaper.end() if self._unescaper is not None else b""
        tail, self._tail = self._tail, b""
        return rest + tail

    def _unescaped(self, part: bytes) -> bytes:
        return part if self._unescaper is None else self._unescaper.feed(part)
