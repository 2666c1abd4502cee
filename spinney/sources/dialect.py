"""Detect how a text file is written: its encoding, delimiter and decimal mark."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from spinney.core.errors import ContractError
from spinney.sources.cell_forms import are_numbers_or_times, is_number_or_time
from spinney.sources.delimiters import detect_delimiter, iterate_lines, split_rows
from spinney.sources.escaped_quotes import is_escaped, unescape
from spinney.sources.header_detection import find_header
from spinney.sources.options import TextFormat

SAMPLE_BYTES = 256 * 1024
MAX_NAMES_SHOWN = 3
_CHECKED_BYTES = 1 << 22
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks; those of UTF-32 first, since one of them begins as UTF-16's does."""

_PACKED = {b"\x1f\x8b": "gzip (.gz)", b"\x28\xb5\x2f\xfd": "zstd (.zst)", b"PK\x03\x04": "zip (.zip, .xlsx)"}
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

_NOT_IN_CP1252 = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")


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


def detect_dialect(file: Path, given: TextFormat) -> Dialect:
    """Detect what is not given. Raises ContractError: an empty file, or one that is not in the given encoding."""
    encoding, notes = detect_encoding(file, given.encoding)
    try:
        found = find_header(_read_sample(file, encoding), given.skip_lines, given.delimiter)
    except ContractError as error:
        raise ContractError(f"{file}: {error}") from error
    sample = found.text
    if found.comments:
        lines, begin, are = ("line", "begins", "is") if found.comments == 1 else ("lines", "begin", "are")
        notes = (
            *notes,
            f"{file.name}: {found.comments} {lines} above the header, which {begin} with #, {are} skipped",
        )
    if not sample.strip():
        raise ContractError(f"{file}: expected a first row with the columns' names; the file is empty")
    delimiter = given.delimiter or found.delimiter or detect_delimiter(sample)
    is_cut = file.stat().st_size > SAMPLE_BYTES
    escaped = given.escape == "backslash"
    if given.escape is None and is_escaped(iterate_lines(sample), delimiter, is_cut=is_cut):
        escaped = True
        notes = (*notes, f"{file.name}: backslashes escape quotes within quotes; --escape quote says otherwise")
    sample = unescape(sample, delimiter) if escaped else sample
    rows = split_rows(sample, delimiter)
    if _has_trailing_delimiters(rows):
        rows[0].append("")
    decimal = given.decimal or ("," if delimiter == ";" and _has_decimal_commas(rows) else ".")
    notes = (*notes, *(f"{file.name}: {note}" for note in _notes_about_rows(rows, decimal, given)))
    row_bytes = len(sample.encode()) / max(1, sum(1 for _ in iterate_lines(sample)))
    return Dialect(
        *(delimiter, encoding, decimal, tuple(rows[0]), row_bytes, found.lines_above),
        thousands=given.thousands,
        multiline=given.multiline,
        is_escaped=escaped,
        notes=notes,
    )


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


def detect_encoding(file: Path, given: str | None) -> tuple[str, tuple[str, ...]]:
    """Return the encoding by Python's name, and a note if it was guessed.

    A byte order mark decides. Without one the encoding is UTF-8 if the whole file is valid UTF-8, and guessed if not.
    """
    with file.open("rb") as opened:
        start = opened.read(SAMPLE_BYTES)
    marked = next((name for mark, name in _BYTE_ORDER_MARKS.items() if start.startswith(mark)), None)
    if given is not None:
        same = marked is not None and codecs.lookup(given).name in ("utf-8", codecs.lookup(marked).name)
        return (marked if same and marked else given), ()
    if marked is not None:
        return marked, ()
    refuse_other_bytes(str(file), start)
    at = _first_byte_outside_utf8(file)
    if at is None:
        return "utf-8", ()
    encoding = "latin-1" if _has_bytes_outside_cp1252(file) else "cp1252"
    note = f"{file.name}: not UTF-8 at byte {at:,}, so it is read as {encoding}; --encoding names another"
    return encoding, (note,)


def refuse_other_bytes(name: str, start: bytes) -> None:
    """Raise ContractError for a file without a byte order mark that begins like a compressed file or like UTF-16.

    name: for messages. start: the file's first bytes.
    """
    packed = next((ending for mark, ending in _PACKED.items() if start.startswith(mark)), None)
    if packed is not None:
        raise ContractError(f"{name}: expected text; it begins as {packed}. Unpack it, or give it the right ending")
    if start.count(0) > len(start) // 4:
        raise ContractError(
            f"{name}: expected text; every other byte or more is zero, as in UTF-16 without a byte order mark. "
            "Name it: --encoding utf-16-le"
        )


def _first_byte_outside_utf8(file: Path) -> int | None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    before = 0
    with file.open("rb") as opened:
        while part := opened.read(_CHECKED_BYTES):
            kept = len(decoder.getstate()[0])
            try:
                decoder.decode(part)
            except UnicodeDecodeError as error:
                return before - kept + error.start
            before += len(part)
    unfinished = len(decoder.getstate()[0])
    return before - unfinished if unfinished else None


def _has_bytes_outside_cp1252(file: Path) -> bool:
    with file.open("rb") as opened:
        while part := opened.read(_CHECKED_BYTES):
            if _NOT_IN_CP1252.search(part):
                return True
    return False


def _read_sample(file: Path, encoding: str) -> str:
    with file.open("rb") as opened:
        start = opened.read(SAMPLE_BYTES)
    whole = len(start) < SAMPLE_BYTES
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(start, final=whole)
    except UnicodeDecodeError as error:
        raise ContractError(f"{file}: expected {encoding}; got bytes that are not, at {error.start:,}") from error
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
