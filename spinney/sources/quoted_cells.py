"""Find quoted cells of a CSV file that are not closed as they should be, in its bytes.

Arrow reads text behind a closing quote as part of the cell, and does not say so. In a cell of several lines it means
that the quote opened another cell, and that the rows between became part of this one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

READ_BYTES = 1 << 23
_MOST_HELD = 4 * READ_BYTES
"""No cell is so long: whoever reads the rows refuses the file."""


class Stream(Protocol):
    def read(self, size: int, /) -> bytes | None: ...


def cells_with_text_behind(stream: Stream, delimiter: str) -> frozenset[str]:
    """The values of the cells of several lines that go on behind their closing quote, as Arrow reads them.

    stream: of UTF-8, from the beginning of the file.
    """
    return frozenset(_found(stream, delimiter.encode()))


def _found(stream: Stream, delimiter: bytes) -> Iterator[str]:
    before = re.escape(delimiter) + rb"\r\n"
    # All up to a quoted cell that goes on: other text, quotes inside of cells, quoted cells that end where they close.
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
            if is_of_lines and found[2].strip():  # blanks are no sign of another row
                yield (found[1].replace(b'""', b'"') + found[2]).decode(errors="replace")
            at = found.end()
        if not part or len(held) - at > _MOST_HELD:
            return
        held = held[at - 1 :]
