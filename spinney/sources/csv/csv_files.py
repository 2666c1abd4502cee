"""Read CSV files with every cell as text, so that no value is changed by type guessing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv

from spinney.core.errors import ContractError
from spinney.sources import column_checks
from spinney.sources.csv.csv_byte_stream import MarkedStream, end_mark
from spinney.sources.csv.dialect import Dialect, detect_dialect
from spinney.sources.csv.localized_numbers import has_other_mark, with_points
from spinney.sources.csv.text_after_quotes import cells_with_text_behind
from spinney.sources.csv.unclosed_quotes import count_lines, find_merged_rows, have_cell_among, header_has_merged_rows
from spinney.sources.options import ReadOptions
from spinney.sources.row_batch import DataFile, MalformedRow, RowBatch

BLOCK_BYTES = 8 << 20
"""Bytes that are read at once, and the greatest length of a row."""

_SEARCHED_BYTES = 1 << 22
_ROW_TOO_LONG = "straddling object"
"""Part of Arrow's message about a row that is longer than a block; there is no exception class for it."""

_ESCAPED = (
    "expected each quote within a cell to be doubled; got one behind a backslash. If backslashes escape quotes in the "
    "whole file, pass --escape backslash; else write it again with doubled quotes"
)
_AMBIGUOUS = (
    "expected numbers with a decimal comma, as in other rows; got one with a point. If points separate thousands, pass "
    "--thousands .; if they are decimal points, --decimal ."
)


def open_csv(file: Path, name: str, options: ReadOptions) -> DataFile:
    """Open a CSV file.

    Raises ContractError: no header, a selected column twice in it, or another encoding than the one given.
    """
    csv_dialect = detect_dialect(file, name, options.text)
    if header_has_merged_rows(csv_dialect.header, csv_dialect.delimiter):
        raise ContractError(
            f"{name}: header: expected one row with the columns' names; got rows within quotes. Remove the quote that "
            "opens the cell, or close it"
        )
    names = _unique_names(csv_dialect.header)
    column_checks.refuse_duplicate_columns(name, csv_dialect.header, options)
    rows = max(0, round(file.stat().st_size / max(1.0, csv_dialect.row_bytes)) - 1)
    # `init` selects no columns. It must not propose one that `load` and `produce` refuse.
    repeated = column_checks.find_repeated_columns(csv_dialect.header) if options.selection is None else ()
    every = [name for name, given in zip(names, csv_dialect.header, strict=True) if given not in repeated]
    columns = dict.fromkeys(every, pa.string())
    numbers = None if options.selection is None else options.selection.numbers

    def read(only: Sequence[str] | None) -> Iterator[RowBatch]:
        wanted = every if only is None else only
        if csv_dialect.decimal == "." and csv_dialect.thousands is None:
            yield from _read(file, name, csv_dialect, names, wanted)
            return
        for batch in _read(file, name, csv_dialect, names, None):
            yield _select(_with_points(batch, csv_dialect, numbers), wanted)

    notes = (*csv_dialect.notes, *map(column_checks.left_out_note, repeated))
    return DataFile(name, columns, rows, is_exact=False, read=read, notes=notes)


def _unique_names(header: Sequence[str]) -> tuple[str, ...]:
    """Return unique column names: ``Unnamed: 0`` for one without a name, as in pandas, and ``x.1`` for the second x."""
    taken = set(header)  # a name of the header itself is given to no other column
    names: dict[str, None] = {}
    for place, given in enumerate(header):
        name = wanted = given or f"Unnamed: {place}"
        number = 0
        while name in names or (name in taken and name != given):
            number += 1
            name = f"{wanted}.{number}"
        names[name] = None
    return tuple(names)


def _read(
    file: Path, name: str, csv_dialect: Dialect, names: Sequence[str], only: Sequence[str] | None
) -> Iterator[RowBatch]:
    kept = list(names if only is None else only)
    rows = _RowNumbering(name, end_mark(len(names)))
    # Whether several rows were merged into one is only known from all of its cells.
    quotes = _Quotes(
        _contains(file, '"', csv_dialect.encoding),
        not csv_dialect.is_escaped and _contains(file, '\\"', csv_dialect.encoding),
        csv_dialect,
        cache(lambda: _cells_with_text_behind(file, csv_dialect)),
    )
    read = list(names) if quotes.are_there else kept
    # Each batch waits for the next one: its last row is complete only if the file does not end within a quote.
    waiting: RowBatch | None = None
    try:
        with MarkedStream(file, csv_dialect, rows.mark) as stream:
            for cells in _open_stream(stream, csv_dialect, names, read, rows.skip):
                if waiting is not None:
                    yield waiting
                numbers, malformed = rows.take_numbers(cells.num_rows)
                waiting = RowBatch(name, numbers, cells, frozenset(kept), malformed=tuple(malformed))
                if quotes.are_there:
                    waiting = _without_misread_rows(waiting, kept, quotes)
    except (pa.ArrowException, UnicodeError, OSError) as error:
        if _ROW_TOO_LONG in str(error):
            raise rows.too_long_error() from error
        raise ContractError(f"{name}: expected CSV with {len(names)} columns; got: {str(error)[:300]}") from error
    rest = rows.take_rest()
    if not rows.ended:
        raise rows.unclosed_quote_error()
    if waiting is not None:
        yield waiting
    if rest:
        yield RowBatch(name, range(0), malformed=tuple(rest))


@dataclass(frozen=True)
class _Quotes:
    """The quotes of a file.

    are_there: whether it has any. are_escaped: whether a quote follows a backslash somewhere. cells: returns the result
    of `cells_with_text_behind`.
    """

    are_there: bool
    are_escaped: bool
    csv_dialect: Dialect
    cells: Callable[[], frozenset[str]]


def _contains(file: Path, text: str, encoding: str) -> bool:
    """Return whether the file contains an ASCII text, searched as bytes, so that other text with the same bytes counts
    too.
    """
    # The second of two: some encodings write a byte order mark before the first.
    sought = (text * 2).encode(encoding)[len(text.encode(encoding)) :]
    held = b""
    with file.open("rb") as opened:
        while part := opened.read(_SEARCHED_BYTES):
            if sought.strip(b"\0") in held + part:
                return True
            held = part[-len(sought) :]
    return False


def _cells_with_text_behind(file: Path, csv_dialect: Dialect) -> frozenset[str]:
    """Return the result of `cells_with_text_behind` for the file, which is read a second time."""
    with MarkedStream(file, csv_dialect, end_mark(len(csv_dialect.header))) as stream:
        return cells_with_text_behind(stream, csv_dialect.delimiter)


def _without_misread_rows(batch: RowBatch, kept: Sequence[str], quotes: _Quotes) -> RowBatch:
    """Return the batch with the `kept` columns only.

    Rows that were merged from several, and rows with a quote after a backslash, are returned as malformed rows.
    """
    assert batch.columns is not None, "of a CSV"
    delimiter = quotes.csv_dialect.delimiter
    rejected: dict[int, tuple[str, str]] = {}
    if quotes.are_escaped:
        places = np.flatnonzero(have_cell_among(batch.columns, quotes.cells()))
        for place, row in zip(places.tolist(), batch.columns.take(pa.array(places)).to_pylist(), strict=True):
            rejected[place] = (delimiter.join(row.values()), _ESCAPED)
    merged = find_merged_rows(batch.columns, delimiter, quotes.cells, by_lines=not quotes.csv_dialect.multiline)
    rejected |= {row.place: (row.text, row.problem) for row in merged}
    return _without_rows(replace(batch, columns=batch.columns.select(list(kept))), rejected)


def _without_rows(batch: RowBatch, rejected: Mapping[int, tuple[str, str]]) -> RowBatch:
    """Return the batch with some rows as malformed ones. rejected: place in the batch → text of the row, problem."""
    if not rejected or batch.columns is None:
        return batch
    malformed = [
        MalformedRow(batch.file, batch.numbers[place], text, problem) for place, (text, problem) in rejected.items()
    ]
    left = np.setdiff1d(np.arange(len(batch)), list(rejected))
    numbers = [batch.numbers[place] for place in left.tolist()]
    by_number = sorted((*batch.malformed, *malformed), key=lambda row: row.number)
    return replace(batch, numbers=numbers, columns=batch.columns.take(pa.array(left)), malformed=tuple(by_number))


def _open_stream(
    stream: MarkedStream, csv_dialect: Dialect, names: Sequence[str], kept: Sequence[str], skip: Callable[[Any], str]
) -> Iterator[pa.RecordBatch]:
    opened: Iterator[pa.RecordBatch] = arrow_csv.open_csv(
        stream,
        # One thread: only then does Arrow number the rows that it cannot split.
        read_options=arrow_csv.ReadOptions(
            use_threads=False, block_size=BLOCK_BYTES, column_names=list(names), skip_rows_after_names=1
        ),
        parse_options=arrow_csv.ParseOptions(
            delimiter=csv_dialect.delimiter, newlines_in_values=True, invalid_row_handler=skip
        ),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=[],
            strings_can_be_null=False,
            include_columns=list(kept),
        ),
    )
    return opened


class _RowNumbering:
    """Numbers the rows of a file and collects those that could not be split, in the order in which Arrow reads them.

    mark: the row that `MarkedStream` adds after the last one. ended: whether Arrow has reported the mark as a row.
    """

    def __init__(self, name: str, mark: str) -> None:
        self.mark = mark
        self.ended = False
        self._name = name
        self._bad: deque[MalformedRow] = deque()
        self._next = 1

    def skip(self, row: Any) -> str:
        """Record a row that Arrow cannot split, and tell Arrow to skip it."""
        if row.text == self.mark:
            self.ended = True
        else:
            text = str(row.text or "")
            problem = f"expected {row.expected_columns} cells, as in the header; got {row.actual_columns}"
            if (lines := count_lines(text)) > 1:
                problem += f" in {lines:,} lines. If each of these lines is a row, look for a quote that is not closed"
            self._bad.append(MalformedRow(self._name, row.number - 1, text, problem))
        return "skip"

    def take_numbers(self, rows: int) -> tuple[Sequence[int], list[MalformedRow]]:
        """Return the numbers of the next rows, and the malformed rows among them."""
        numbers, malformed = _row_numbers(self._next, rows, self._bad)
        self._next = max([numbers[-1] if len(numbers) else self._next - 1, *(row.number for row in malformed)]) + 1
        return numbers, malformed

    def take_rest(self) -> list[MalformedRow]:
        """Return the malformed rows after the last numbered one."""
        rest = list(self._bad)
        self._next = max([self._next, *(row.number + 1 for row in rest)])
        return rest

    def unclosed_quote_error(self) -> ContractError:
        return ContractError(
            f"{self._name}: {_place(self._next - 1)}: expected a closing quote; the file ends within the cell. "
            'Close the quote, or write the cell as "..." with each quote in it doubled'
        )

    def too_long_error(self) -> ContractError:
        self.take_rest()
        return ContractError(
            f"{self._name}: {_place(self._next)}: expected at most {BLOCK_BYTES >> 20} MiB; got more. Look there for "
            "a quote that is not closed"
        )


def _place(row: int) -> str:
    return f"row {row}" if row > 0 else "header"


def _row_numbers(first: int, rows: int, malformed: deque[MalformedRow]) -> tuple[Sequence[int], list[MalformedRow]]:
    """Return the numbers of the next `rows` well-formed rows, and the malformed rows among them.

    first: the first number. malformed: the malformed rows to come; those that were passed are removed.
    """
    passed: list[MalformedRow] = []
    if not malformed or malformed[0].number >= first + rows:
        return range(first, first + rows), passed
    numbers: list[int] = []
    place = first
    while len(numbers) < rows:
        if malformed and malformed[0].number == place:
            passed.append(malformed.popleft())
        else:
            numbers.append(place)
        place += 1
    return numbers, passed


def _select(batch: RowBatch, only: Sequence[str] | None) -> RowBatch:
    if only is None or batch.columns is None:
        return batch
    return replace(batch, columns=batch.columns.select(list(only)), texts=frozenset(only))


def _with_points(batch: RowBatch, csv_dialect: Dialect, numbers: frozenset[str] | None) -> RowBatch:
    """Return the batch with numbers in the form that all readers know, and with rows of ambiguous numbers as malformed
    rows.

    numbers: the columns of numbers; None if they are not known, so that any column may be one.
    """
    if batch.columns is None:
        return batch
    marks = csv_dialect.decimal, csv_dialect.thousands
    names = batch.columns.schema.names
    if csv_dialect.decimal == "," and numbers is not None:
        ambiguous = has_other_mark(batch.columns, [name for name in names if name in numbers], csv_dialect.thousands)
        places = np.flatnonzero(ambiguous)
        rows = batch.columns.take(pa.array(places)).to_pylist()
        texts = (csv_dialect.delimiter.join(row.values()) for row in rows)
        batch = _without_rows(
            batch, {place: (text, _AMBIGUOUS) for place, text in zip(places.tolist(), texts, strict=True)}
        )
    assert batch.columns is not None, "as before"
    columns = [
        with_points(column, *marks) if numbers is None or name in numbers else column
        for name, column in zip(names, batch.columns.columns, strict=True)
    ]
    return replace(batch, columns=pa.RecordBatch.from_arrays(columns, names))
