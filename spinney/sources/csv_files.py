"""Read CSV files: every cell as text, so that no value is guessed into another one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from spinney.core.errors import ContractError
from spinney.sources import agreement
from spinney.sources.batch import BadRow, Batch, DataFile
from spinney.sources.csv_stream import MarkedStream, end_mark
from spinney.sources.dialect import Dialect, dialect
from spinney.sources.options import Options
from spinney.sources.quoted_cells import cells_with_text_behind
from spinney.sources.unclosed_quotes import header_holds_rows, holding_rows, lines_of

BLOCK_BYTES = 8 << 20
"""Read at once; no row can be longer."""

_SEARCHED_BYTES = 1 << 22
_STRADDLING = "straddling object"
"""In Arrow's message about a row that is longer than a block."""

_DECIMAL_COMMA = r"^([+-]?[0-9]+),([0-9]+)([eE][+-]?[0-9]+)?$"


def open_csv(file: Path, name: str, options: Options) -> DataFile:
    """Raises ContractError: no header, a wanted column twice in it, or another encoding than the one given."""
    found = dialect(file, options.text)
    if header_holds_rows(found.header, found.delimiter):
        raise ContractError(
            f"{name}: header: expected one row with the columns' names; got rows within quotes. Remove the quote that "
            "opens the cell, or close it"
        )
    names = _unique_names(found.header)
    agreement.refuse_twice(name, found.header, options)
    rows = max(0, round(file.stat().st_size / max(1.0, found.row_bytes)) - 1)
    columns = dict.fromkeys(names, pa.string())
    numbers: frozenset[str] = frozenset()
    if found.decimal == ",":
        numbers = (
            frozenset(names) if options.wanted is None or options.wanted.numbers is None else options.wanted.numbers
        )

    def read(only: Sequence[str] | None) -> Iterator[Batch]:
        for batch in _read(file, name, found, names, only):
            yield replace(batch, columns=_with_points(batch.columns, numbers)) if batch.columns else batch

    return DataFile(name, columns, rows, exact=False, read=read, notes=found.notes)


def _unique_names(header: Sequence[str]) -> tuple[str, ...]:
    """The columns' names: ``Unnamed: 0`` for one without, as pandas calls it, ``x.1`` for the second x."""
    taken = set(header)  # a name of the header itself is given to no other column
    names: dict[str, None] = {}
    for at, given in enumerate(header):
        name = wanted = given or f"Unnamed: {at}"
        number = 0
        while name in names or (name in taken and name != given):
            number += 1
            name = f"{wanted}.{number}"
        names[name] = None
    return tuple(names)


def _read(file: Path, name: str, found: Dialect, names: Sequence[str], only: Sequence[str] | None) -> Iterator[Batch]:
    kept = list(names if only is None else only)
    rows = _Rows(name, end_mark(len(names)))
    # Whether a row holds others is only known by all of its cells.
    is_quoted = _has_quotes(file, found.encoding)
    unclosed_cells = cache(lambda: _cells_with_text_behind(file, found))
    read = list(names) if is_quoted else kept
    # Each batch waits for the next one: its last row is complete only if the file does not end within a quote.
    waiting: Batch | None = None
    try:
        with MarkedStream(file, found.encoding, rows.mark) as stream:
            for cells in _opened(stream, found, names, read, rows.skip):
                if waiting is not None:
                    yield waiting
                numbers, bad = rows.numbered(cells.num_rows)
                waiting = Batch(name, numbers, cells, frozenset(kept), bad=tuple(bad))
                if is_quoted:
                    waiting = _without_holding_rows(waiting, found.delimiter, kept, unclosed_cells)
    except (pa.ArrowException, UnicodeError, OSError) as error:
        if _STRADDLING in str(error):
            raise rows.too_long() from error
        raise ContractError(f"{name}: expected CSV with {len(names)} columns; got: {str(error)[:300]}") from error
    rest = rows.rest()
    if not rows.ended:
        raise rows.quote_left_open()
    if waiting is not None:
        yield waiting
    if rest:
        yield Batch(name, range(0), bad=tuple(rest))


def _has_quotes(file: Path, encoding: str) -> bool:
    """Whether there is any quote, or a byte like one."""
    # The second of two quotes: some encodings write a byte order mark before the first.
    second = '""'.encode(encoding)[len('"'.encode(encoding)) :]
    quote = second.strip(b"\0")
    with file.open("rb") as opened:
        while part := opened.read(_SEARCHED_BYTES):
            if quote in part:
                return True
    return False


def _cells_with_text_behind(file: Path, found: Dialect) -> frozenset[str]:
    """Reads the file a second time."""
    with MarkedStream(file, found.encoding, end_mark(len(found.header))) as stream:
        return cells_with_text_behind(stream, found.delimiter)


def _without_holding_rows(
    batch: Batch, delimiter: str, kept: Sequence[str], unclosed_cells: Callable[[], frozenset[str]]
) -> Batch:
    """The batch with these columns; its rows that hold other rows are bad ones."""
    assert batch.columns is not None, "of a CSV"
    holding = holding_rows(batch.columns, delimiter, unclosed_cells)
    cells = batch.columns.select(list(kept))
    if not holding:
        return replace(batch, columns=cells)
    bad = [BadRow(batch.file, batch.numbers[row.place], row.text, row.why) for row in holding]
    left = np.setdiff1d(np.arange(len(batch)), [row.place for row in holding])
    numbers = [batch.numbers[place] for place in left.tolist()]
    by_number = sorted((*batch.bad, *bad), key=lambda row: row.number)
    return replace(batch, numbers=numbers, columns=cells.take(pa.array(left)), bad=tuple(by_number))


def _opened(
    stream: MarkedStream, found: Dialect, names: Sequence[str], kept: Sequence[str], skip: Callable[[Any], str]
) -> Iterator[pa.RecordBatch]:
    opened: Iterator[pa.RecordBatch] = arrow_csv.open_csv(
        stream,
        # One thread: only then does Arrow number the rows that it cannot split.
        read_options=arrow_csv.ReadOptions(
            use_threads=False, block_size=BLOCK_BYTES, column_names=list(names), skip_rows_after_names=1
        ),
        parse_options=arrow_csv.ParseOptions(
            delimiter=found.delimiter, newlines_in_values=True, invalid_row_handler=skip
        ),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=[],
            strings_can_be_null=False,
            include_columns=list(kept),
        ),
    )
    return opened


class _Rows:
    """The numbers of a file's rows, and those rows that could not be split, in the order in which Arrow reads them.

    mark: the row after the last one. ended: whether Arrow has read it as a row.
    """

    def __init__(self, name: str, mark: str) -> None:
        self.mark = mark
        self.ended = False
        self._name = name
        self._bad: deque[BadRow] = deque()
        self._next = 1

    def skip(self, row: Any) -> str:
        """Note a row that Arrow cannot split, and leave it out."""
        if row.text == self.mark:
            self.ended = True
        else:
            text = str(row.text or "")
            why = f"expected {row.expected_columns} cells, as in the header; got {row.actual_columns}"
            if (lines := lines_of(text)) > 1:
                why += f" in {lines:,} lines. If each of these lines is a row, look for a quote that is not closed"
            self._bad.append(BadRow(self._name, row.number - 1, text, why))
        return "skip"

    def numbered(self, rows: int) -> tuple[Sequence[int], list[BadRow]]:
        """The numbers of the next rows, without those that could not be split, and the latter."""
        numbers, bad = _numbered(self._next, rows, self._bad)
        self._next = max([numbers[-1] if len(numbers) else self._next - 1, *(each.number for each in bad)]) + 1
        return numbers, bad

    def rest(self) -> list[BadRow]:
        """The rows after the last numbered one that could not be split."""
        rest = list(self._bad)
        self._next = max([self._next, *(each.number + 1 for each in rest)])
        return rest

    def quote_left_open(self) -> ContractError:
        return ContractError(
            f"{self._name}: {_place(self._next - 1)}: expected a closing quote; the file ends within the cell. "
            'Close the quote, or write the cell as "..." with each quote in it doubled'
        )

    def too_long(self) -> ContractError:
        self.rest()
        return ContractError(
            f"{self._name}: {_place(self._next)}: expected at most {BLOCK_BYTES >> 20} MiB; got more. Look there for "
            "a quote that is not closed"
        )


def _place(row: int) -> str:
    return f"row {row}" if row > 0 else "header"


def _numbered(first: int, rows: int, bad: deque[BadRow]) -> tuple[Sequence[int], list[BadRow]]:
    """The numbers of the next rows, without those that could not be split, and the latter."""
    passed: list[BadRow] = []
    if not bad or bad[0].number >= first + rows:
        return range(first, first + rows), passed
    numbers: list[int] = []
    at = first
    while len(numbers) < rows:
        if bad and bad[0].number == at:
            passed.append(bad.popleft())
        else:
            numbers.append(at)
        at += 1
    return numbers, passed


def _with_points(cells: pa.RecordBatch, numbers: frozenset[str]) -> pa.RecordBatch:
    """The cells with those of number columns that have a decimal comma written with a point."""
    if numbers.isdisjoint(cells.schema.names):
        return cells
    columns = [
        pc.replace_substring_regex(column, _DECIMAL_COMMA, r"\1.\2\3") if name in numbers else column
        for name, column in zip(cells.schema.names, cells.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=cells.schema)
