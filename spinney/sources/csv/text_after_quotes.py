"""Find quoted cells of a CSV file with text after their closing quote, in its bytes.

Arrow reads such text as part of the cell without reporting it. In a cell of several lines it means that the quote
opened another cell, and that the rows in between became part of this one. If a backslash precedes the quote, as Spark
writes it, the quote belongs to the cell, so Arrow's text is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

READ_BYTES = 1 << 23
_MAX_BUFFER_BYTES = 4 * READ_BYTES
"""Size of the buffer that limits a cell. Reading a file with a longer cell fails anyway."""


class ByteStream(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes | None:
        """Read at most `size` bytes."""


def cells_with_text_behind(stream: ByteStream, delimiter: str) -> frozenset[str]:
    """Return the values, as Arrow reads them, of quoted cells with text after their closing quote.

    Only cells of several lines, and cells with a backslash before that quote, are returned. stream: UTF-8, from the
    beginning of the file.
    """
    return frozenset(_iter_cells(stream, delimiter.encode()))


def _iter_cells(stream: ByteStream, delimiter: bytes) -> Iterator[str]:
    before = re.escape(delimiter) + rb"\r\n"
    # Everything before a quoted cell with text behind its quote: other text, quotes inside of cells, quoted cells.
    skipped = re.compile(
        rb'(?:[^"]++|(?<![' + before + rb'])"|(?<=[' + before + rb'])"(?:[^"]++|"")*+"(?=[' + before + rb"]))*+"
    )
    cell = re.compile(rb'"((?:[^"]++|"")*+)"([^' + before + rb"]*+)")
    held = b"\n"  # the byte before what is looked at: a cell begins behind a delimiter or a line break
    while True:
        part = stream.read(READ_BYTES) or b""
        held += part
        # A quote at the end may be the first of two, and the text behind one may go on.
        end = len(held) if not part else len(held.rstrip(b'"'))
        at = 1
        while at < end:
            passed = skipped.match(held, at, end)
            at = passed.end() if passed is not None else at
            found = cell.match(held, at, end)
            if found is None or (part and found.end() == end):
                break
            is_of_lines = b"\n" in found[1] or b"\r" in found[1]
            is_escaped = found[1].endswith(b"\\")
            if (is_of_lines or is_escaped) and found[2].strip():  # blanks are no sign of another row
                yield (found[1].replace(b'""', b'"') + found[2]).decode(errors="replace")
            at = found.end()
        if not part or len(held) - at > _MAX_BUFFER_BYTES:
            return
        held = held[at - 1 :]
