"""Find the header of a CSV file below comments, which begin with #.

A header may begin with # too, as in `#store,date,sold`, and so may rows below it. A file that can be read in several
ways is refused, since a row must not be lost as a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from spinney.core.errors import ContractError
from spinney.sources.csv.cell_forms import is_number_or_time
from spinney.sources.csv.delimiters import detect_delimiter, iterate_lines, split_rows

_EXCEL_DELIMITER = re.compile(r'"?sep=(.)"?')
_Row = Sequence[str]


@dataclass(frozen=True)
class Beginning:
    """The beginning of a file.

    text: the sample from its header on. lines_above: number of lines above the header. delimiter: the delimiter that
    one of these lines names; None if none does. comments: number of lines taken for comments.
    """

    text: str
    lines_above: int
    delimiter: str | None = None
    comments: int = 0


def find_header(sample: str, skip_lines: int | None, delimiter: str | None) -> Beginning:
    """Find the header. skip_lines, delimiter: None if not given.

    With skip_lines, the first non-blank line below the skipped ones is the header, or the line `sep=;` with which Excel
    names the delimiter. Raises ContractError, without the file's name, if several lines can be the header.
    """
    lines = list(iterate_lines(sample))
    start = skip_lines or 0
    above = next((at for at, line in enumerate(lines[start:], start) if line.strip("\r\n")), start)
    named = _EXCEL_DELIMITER.fullmatch(lines[above].rstrip("\r\n")) if above < len(lines) else None
    if named is not None:
        return Beginning("".join(lines[above + 1 :]), above + 1, named[1])
    header = _find_below_comments(lines[above:], above, delimiter) if skip_lines is None else 0
    skipped = above + header if header else start
    comments = sum(line.startswith("#") for line in lines[above : above + header])
    return Beginning("".join(lines[skipped:]), skipped, None, comments)


def _find_below_comments(lines: Sequence[str], above: int, delimiter: str | None) -> int:
    """Return the place of the header; 0 if no line is above it. above: number of lines above `lines`."""
    marked = [at for at, line in enumerate(lines) if line.startswith("#")]
    end = next((at for at, line in enumerate(lines) if line.strip("\r\n") and not line.startswith("#")), None)
    if end is None and len(marked) > 1:  # all lines begin with #: the last one counts as a row
        end = marked[-1]
    if not end:
        return 0
    marked = [at for at in marked if at < end]
    below = "".join(lines[end:])
    rows = split_rows(below, delimiter or detect_delimiter(below))
    cells = _split_lines(lines, marked, delimiter or detect_delimiter(below))
    matching = [at for at in marked if _is_header_of(cells[at], rows[0])]
    others = [at for at in (*matching[1:], end) if _looks_like_header(cells.get(at, rows[0]), rows)]
    if not matching and lines[end].startswith("#"):
        return 0
    header = matching[0] if matching else end
    if matching and (others or matching != marked[-len(matching) :]):
        raise _ambiguous(lines, above, [header, *(others or matching[1:] or [end])])
    own = _split_lines(lines, marked, delimiter or detect_delimiter("".join(lines[at] for at in marked)))
    width = len(rows[0])
    rows_below = sum(len(row) == width for row in rows) if width > 1 else 0
    for table in _tables(own):
        if table[0] < header and len(table) >= rows_below:
            raise _ambiguous(lines, above, [table[0], header])
    return header


def _split_lines(lines: Sequence[str], wanted: Sequence[int], delimiter: str) -> dict[int, _Row]:
    """Return place → cells of each wanted line.

    Each line is split by itself, since a comment may have an unclosed quote.
    """
    return {at: split_rows(lines[at], delimiter)[0] for at in wanted}


def _is_header_of(row: _Row, below: _Row) -> bool:
    """Return whether a line has several cells, and as many as the row below it, which may end in one more delimiter."""
    return len(row) > 1 and (len(row) == len(below) or (len(row) == len(below) - 1 and below[-1] == ""))


def _looks_like_header(row: _Row, rows: Sequence[_Row]) -> bool:
    """Return whether a row has a name in each cell, in a file whose rows have numbers or times."""
    return _has_names_only(row) and any(is_number_or_time(cell) for other in rows for cell in other)


def _has_names_only(row: _Row) -> bool:
    return not any(cell.strip() == "" or is_number_or_time(cell) for cell in row)


def _tables(cells: dict[int, _Row]) -> Iterator[list[int]]:
    """Yield the places of consecutive lines that may be a header with its rows.

    The first has names, the others have numbers or times, in as many cells.
    """
    for width, run in groupby(cells, key=lambda at: len(cells[at])):
        first, *rest = run
        if width > 1 and _has_names_only(cells[first]) and any(is_number_or_time(c) for at in rest for c in cells[at]):
            yield [first, *rest]


def _ambiguous(lines: Sequence[str], above: int, places: Sequence[int]) -> ContractError:
    found = " or ".join(f"line {above + at + 1}, {lines[at].strip()[:60]!a}" for at in places[:2])
    return ContractError(
        f"expected one line that can be the header; it may be {found}. Lines that begin with # may be comments or "
        "rows. Pass the number of lines above the header: --skip-lines 0 if it is the first one"
    )
