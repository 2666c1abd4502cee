"""Find rows of a CSV file that hold other rows, since two quotes stand where none belong.

A quote at the beginning of a cell opens a quoted cell. Where nobody meant it as one, the cell goes on through the rows
below up to the next quote. If that stands in the same column, the cells are as many as the header's, and nothing but
the lines inside tells the row from one with a real text of many lines.

The rule: the cells of a row are put together as they stood, and cut at the line breaks. A line counts as a row of its
own if it has as many cells as the header and figures where the column has figures in other rows. A row holds others if
more than half of the lines between its first and last are rows of their own; where these are fewer than two, or no
column has figures, if all of its lines are. The first and the last say little by themselves: a text in the last column
leaves the first line whole. Texts such as addresses do not meet this, since each line would need as many commas as the
header, with figures between them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spinney.sources.cells import are_figures, is_figures

_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_LINE_BREAKS = "[\r\n]"
_LOOKED_AT = 200
"""Rows that say in which columns figures stand."""

_MOST_LINES = 1_000
"""Lines of one row that are looked at."""

_FEWEST_COLUMNS = 3
"""No fleet's file has fewer; in one of one column every line of a text is like a row."""

_FEW_LINES = 2
"""Of fewer lines between the first and the last, most are soon like a row by chance."""


@dataclass(frozen=True)
class HoldingRow:
    """A row that holds others. place: in its batch. text: its cells as they stood, without quotes. lines: of text."""

    place: int
    text: str
    lines: int

    @property
    def why(self) -> str:
        return (
            f"expected one row; got {self.lines:,} lines within quotes, which are rows of their own by their cells. "
            "Remove the quote that opens the cell, or close it"
        )


def holding_rows(cells: pa.RecordBatch, delimiter: str) -> list[HoldingRow]:
    """The rows of a batch that hold others. cells: all columns of the file, text."""
    if cells.num_columns < _FEWEST_COLUMNS:
        return []
    broken = _rows_with_line_breaks(cells)
    if not len(broken):
        return []
    figures = _columns_of_figures(cells)
    found = []
    for place, row in zip(broken.tolist(), cells.take(pa.array(broken)).to_pylist(), strict=True):
        text = delimiter.join(row.values())
        lines = _lines(text)
        if _are_rows(lines[:_MOST_LINES], delimiter, cells.num_columns, figures):
            found.append(HoldingRow(place, text, len(lines)))
    return found


def header_holds_rows(header: Sequence[str], delimiter: str) -> bool:
    """Whether the cells of a header hold rows. Other rows are not known, so all of its lines have to be such."""
    lines = _lines(delimiter.join(header))
    return len(header) >= _FEWEST_COLUMNS and _are_rows(lines[:_MOST_LINES], delimiter, len(header), [])


def lines_of(row: str) -> int:
    """Lines of a row's text that are not blank."""
    return len(_lines(row))


def _lines(text: str) -> list[str]:
    return [line for line in _LINE_BREAK.split(text) if line.strip()]


def _rows_with_line_breaks(cells: pa.RecordBatch) -> np.ndarray:
    found = np.zeros(cells.num_rows, dtype=np.bool_)
    for column in cells.columns:
        if _has_line_breaks(column):
            found |= np.asarray(pc.match_substring_regex(column, _LINE_BREAKS))
    return np.flatnonzero(found)


def _has_line_breaks(column: pa.StringArray) -> bool:
    """Whether some cell has one, found in all bytes at once: most columns have none."""
    _, offsets, data = column.buffers()
    if data is None or not len(column):
        return False
    ends = np.frombuffer(offsets, np.int32)[[column.offset, column.offset + len(column)]]
    text = memoryview(data)[ends[0] : ends[1]].tobytes()
    return b"\n" in text or b"\r" in text


def _columns_of_figures(cells: pa.RecordBatch) -> list[int]:
    """The places of the columns whose cells without line breaks are figures."""
    found = []
    for at, column in enumerate(cells.slice(0, _LOOKED_AT).columns):
        whole = [text for text in column.to_pylist() if _LINE_BREAK.search(text) is None]
        if are_figures(whole):
            found.append(at)
    return found


def _are_rows(lines: Sequence[str], delimiter: str, columns: int, figures: Sequence[int]) -> bool:
    """Whether so many of a row's lines are rows of their own that it holds others."""
    if len(lines) <= 1:
        return False
    are_rows = [_is_row(line.split(delimiter), columns, figures) for line in lines]
    between = are_rows[1:-1]
    if len(between) < _FEW_LINES or not figures:
        return all(are_rows)
    return 2 * sum(between) > len(between)


def _is_row(cells: Sequence[str], columns: int, figures: Sequence[int]) -> bool:
    return len(cells) == columns and _agrees(cells, figures)


def _agrees(row: Sequence[str], figures: Sequence[int]) -> bool:
    """Whether at least half of the cells in columns of figures are such."""
    return 2 * sum(is_figures(row[at]) for at in figures) >= len(figures)
