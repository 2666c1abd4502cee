"""Detect how a CSV file is written: its delimiter, decimal mark, header and quotes."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from spinney.core.errors import ContractError
from spinney.sources.csv.cell_forms import are_numbers_or_times, is_number_or_time
from spinney.sources.csv.delimiters import detect_delimiter, iterate_lines, split_rows
from spinney.sources.csv.escaped_quotes import is_escaped, unescape
from spinney.sources.csv.header_detection import Beginning, find_header
from spinney.sources.options import TextFormat, is_delimiter
from spinney.sources.text_encoding import SAMPLE_BYTES, detect_encoding

MAX_NAMES_SHOWN = 3
_WITH_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+([eE][+-]?[0-9]+)?")
_CERTAIN_COMMA = re.compile(r" *[+-]?[0-9]+,(?:[0-9]{1,2}|[0-9]{4,}) *")
"""A number whose comma cannot separate thousands."""

_WITH_POINT = re.compile(r"[+-]?[0-9]+\.[0-9]+([eE][+-]?[0-9]+)?")
_WITH_BOTH_MARKS = re.compile(r"[+-]?[1-9][0-9]{0,2}([.' \u00a0\u2009\u202f][0-9]{3})+,[0-9]+")
_WITH_THOUSANDS = {
    ".": re.compile(r" *[+-]?[1-9][0-9]{0,2}(?:[,'][0-9]{3})+(?:\.[0-9]+)? *"),
    ",": re.compile(r" *[+-]?[1-9][0-9]{0,2}(?:(?:[.'][0-9]{3})+,[0-9]+|(?:\.[0-9]{3}){2,}) *"),
}
"""Decimal mark -> pattern of numbers with separated thousands. They do not begin with 0."""


@dataclass(frozen=True)
class Dialect:
    """The format of a CSV file.

    header: its column names as written. row_bytes: mean length of a row. lines_above: number of lines above the header.
    thousands: the separator between the thousands of a number; None: no separator. multiline: as in TextFormat.
    is_escaped: whether a backslash escapes a quote within quotes. notes: assumptions that were made where the file is
    ambiguous.
    """

    delimiter: str
    encoding: str
    decimal: str
    header: tuple[str, ...]
    row_bytes: float
    lines_above: int = 0
    thousands: str | None = None
    multiline: bool = False
    is_escaped: bool = False
    notes: tuple[str, ...] = ()


def detect_dialect(file: Path, name: str, given: TextFormat) -> Dialect:
    """Detect what is not given. name: of the file, for messages.

    Raises ContractError: an empty file, or one that is not in the given encoding.
    """
    encoding, notes = detect_encoding(file, name, given.encoding)
    found = _find_beginning(_read_sample(file, name, encoding), name, given)
    short_name = Path(name).name
    if found.comments:
        lines, begin, are = ("line", "begins", "is") if found.comments == 1 else ("lines", "begin", "are")
        notes += (f"{short_name}: {found.comments} {lines} above the header, which {begin} with #, {are} skipped",)
    sample = found.text
    delimiter = given.delimiter or found.delimiter or detect_delimiter(sample)
    is_cut = file.stat().st_size > SAMPLE_BYTES
    escaped = given.escape == "backslash"
    if given.escape is None and is_escaped(iterate_lines(sample), delimiter, is_cut=is_cut):
        escaped = True
        notes = (*notes, f"{short_name}: backslashes escape quotes within quotes; --escape quote says otherwise")
    sample = unescape(sample, delimiter) if escaped else sample
    rows = split_rows(sample, delimiter)
    if _has_trailing_delimiters(rows):
        rows[0].append("")
    may_have_commas = delimiter == ";" and given.thousands != ","
    decimal = given.decimal or ("," if may_have_commas and _has_decimal_commas(rows) else ".")
    notes = (*notes, *(f"{short_name}: {note}" for note in _notes_about_rows(rows, decimal, given)))
    row_bytes = len(sample.encode()) / max(1, sum(1 for _ in iterate_lines(sample)))
    return Dialect(
        *(delimiter, encoding, decimal, tuple(rows[0]), row_bytes, found.lines_above),
        thousands=given.thousands,
        multiline=given.multiline,
        is_escaped=escaped,
        notes=notes,
    )


def _find_beginning(sample: str, name: str, given: TextFormat) -> Beginning:
    """Find the header. Raises ContractError: several lines can be it, or none, or no delimiter is after `sep=`."""
    try:
        found = find_header(sample, given.skip_lines, given.delimiter)
    except ContractError as error:
        raise ContractError(f"{name}: {error}") from error
    if not found.text.strip():
        raise ContractError(f"{name}: expected a first row with the columns' names; the file is empty")
    if given.delimiter is None and found.delimiter is not None and not is_delimiter(found.delimiter):
        raise ContractError(f"{name}: expected a delimiter of ASCII after sep=; got {found.delimiter!r}")
    return found


def _notes_about_rows(rows: Sequence[Sequence[str]], decimal: str, given: TextFormat) -> Iterator[str]:
    """Yield a note for each assumption about the cells of the first rows.

    rows: the header first. decimal: the decimal mark.
    """
    if decimal == "," and given.decimal is None:
        yield "numbers are read with a decimal comma; --decimal . says otherwise"
    if names := _header_like_values(rows):
        note = f"columns are called {', '.join(names)}, like the values below them"
        yield f"{note}. If it has no header, add one: its first row is not read as a row"
    if len(rows[0]) == 1 and len(rows[0][0].split()) > 1:
        yield f"one column, {rows[0][0][:60]!a}; if it has more, --delimiter says what separates them"
    if decimal == "." and given.decimal is None and (number := _first_number(rows, _CERTAIN_COMMA)):
        yield f"{number} is not read as a number; --decimal , reads numbers with a decimal comma"
    if given.thousands is None and (number := _first_number(rows, _WITH_THOUSANDS[decimal])):
        yield f"{number} is not read as a number; --thousands says what separates thousands"


def _read_sample(file: Path, name: str, encoding: str) -> str:
    with file.open("rb") as opened:
        start = opened.read(SAMPLE_BYTES)
    whole = len(start) < SAMPLE_BYTES
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(start, final=whole)
    except UnicodeDecodeError as error:
        raise ContractError(f"{name}: expected {encoding}; got bytes that are not, at {error.start:,}") from error
    # The last row may be cut off.
    return text if whole or "\n" not in text else text[: text.rindex("\n") + 1]


def _has_trailing_delimiters(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether every row, but not the header, ends in a delimiter."""
    header, *below = rows
    return bool(below) and all(len(row) == len(header) + 1 and row[-1] == "" for row in below)


def _first_number(rows: Sequence[Sequence[str]], form: re.Pattern[str]) -> str | None:
    """Return the first cell that has this form, among the columns whose cells are nearly all numbers or times.

    rows: the header first. form: pattern of a whole cell. None if there is no such cell.
    """
    header, *below = rows
    for at in range(len(header)):
        cells = [row[at] for row in below if at < len(row)]
        found = next(filter(form.fullmatch, cells), None)
        if found is not None and are_numbers_or_times(cells):
            return found.strip()
    return None


def _header_like_values(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return names in the header that look like values, if all names of columns of numbers or times do; else no names.

    At most MAX_NAMES_SHOWN are returned.
    """
    header, *below = rows
    columns = [[row[at] for row in below if at < len(row)] for at in range(len(header))]
    numeric_names = [name for name, cells in zip(header, columns, strict=True) if are_numbers_or_times(cells)]
    return numeric_names[:MAX_NAMES_SHOWN] if all(map(is_number_or_time, numeric_names)) else []


def _has_decimal_commas(rows: Sequence[Sequence[str]]) -> bool:
    cells = [cell.strip() for row in rows[1:] for cell in row]
    if any(_WITH_BOTH_MARKS.fullmatch(cell) for cell in cells):
        return True
    return any(map(_WITH_COMMA.fullmatch, cells)) and not any(map(_WITH_POINT.fullmatch, cells))
