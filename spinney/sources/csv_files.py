"""Read CSV files: every cell as text, so that no value is guessed into another one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from spinney.core.errors import ContractError
from spinney.sources import agreement
from spinney.sources.batch import BadRow, Batch, DataFile
from spinney.sources.dialect import Dialect, dialect
from spinney.sources.options import Options

BLOCK_BYTES = 8 << 20
"""Read at once; no row can be longer."""

_KEPT_CHARACTERS = 2_000
_DECIMAL_COMMA = r"^([+-]?[0-9]+),([0-9]+)([eE][+-]?[0-9]+)?$"


def open_csv(file: Path, name: str, options: Options) -> DataFile:
    """Raises ContractError: no header, a wanted column twice in it, or another encoding than the one given."""
    found = dialect(file, options.text)
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
    names: list[str] = []
    for at, given in enumerate(header):
        name = wanted = given or f"Unnamed: {at}"
        number = 0
        while name in names:
            number += 1
            name = f"{wanted}.{number}"
        names.append(name)
    return tuple(names)


def _read(file: Path, name: str, found: Dialect, names: Sequence[str], only: Sequence[str] | None) -> Iterator[Batch]:
    bad: deque[BadRow] = deque()

    def skip(row: Any) -> str:
        why = f"expected {row.expected_columns} cells, as in the header; got {row.actual_columns}"
        bad.append(BadRow(name, row.number - 1, str(row.text or "")[:_KEPT_CHARACTERS], why))
        return "skip"

    kept = list(names if only is None else only)
    try:
        opened = arrow_csv.open_csv(
            file,
            # One thread: only then does Arrow number the rows that it cannot split.
            read_options=arrow_csv.ReadOptions(
                use_threads=False,
                block_size=BLOCK_BYTES,
                column_names=list(names),
                skip_rows_after_names=1,
                encoding="utf8" if found.encoding in ("utf-8", "utf-8-sig") else found.encoding,
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=found.delimiter, newlines_in_values=True, invalid_row_handler=skip
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                null_values=[],
                strings_can_be_null=False,
                include_columns=kept,
            ),
        )
        number = 1
        for cells in opened:
            numbers, told = _numbered(number, cells.num_rows, bad)
            number = max([numbers[-1] if len(numbers) else number - 1, *(each.number for each in told)]) + 1
            yield Batch(name, numbers, cells, frozenset(kept), bad=tuple(told))
        if bad:
            yield Batch(name, range(0), bad=tuple(bad))
    except (pa.ArrowException, UnicodeError, OSError) as error:
        raise ContractError(f"{name}: expected CSV with {len(names)} columns; got: {str(error)[:300]}") from error


def _numbered(first: int, rows: int, bad: deque[BadRow]) -> tuple[Sequence[int], list[BadRow]]:
    """The numbers of the next rows, without those that could not be split, and the latter."""
    told: list[BadRow] = []
    if not bad or bad[0].number >= first + rows:
        return range(first, first + rows), told
    numbers: list[int] = []
    at = first
    while len(numbers) < rows:
        if bad and bad[0].number == at:
            told.append(bad.popleft())
        else:
            numbers.append(at)
        at += 1
    return numbers, told


def _with_points(cells: pa.RecordBatch, numbers: frozenset[str]) -> pa.RecordBatch:
    """The cells with those of number columns that have a decimal comma written with a point."""
    if numbers.isdisjoint(cells.schema.names):
        return cells
    columns = [
        pc.replace_substring_regex(column, _DECIMAL_COMMA, r"\1.\2\3") if name in numbers else column
        for name, column in zip(cells.schema.names, cells.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=cells.schema)
