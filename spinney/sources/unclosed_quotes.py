"""Find rows of a CSV file that hold other rows, since two quotes stand where none belong.

A quote at the beginning of a cell opens a quoted cell. Where nobody meant it as one, the cell goes on through the rows
below up to the next quote. If that stands in the same column, the cells are as many as the header's. Mostly there is
text behind that quote, which no quoted cell has (`quoted_cells.py`). Otherwise nothing but the lines inside tells the
row from one with a real text of many lines.

The rule for these: the cells of a row are put together as they stood, and cut at the line breaks. A line counts as a
row of its own if it has as many cells as the header, and figures where the column has figures in other rows. It may
have more cells than the header, since the column of the text may have delimiters in it. A row holds others if more than
half of the lines between its first and last are rows of their own. Where these are fewer than two, or no column has
figures, all of its lines have to be: a text in the last column leaves the first line whole. Texts such as addresses do
not meet this, since each line would need as many commas as the header, with figures between them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
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
    has_text_behind: bool

    @property
    def why(self) -> str:
        if self.has_text_behind:
            said = "within quotes, and text behind the quote that closes them"
        else:
            said = "within quotes, which are rows of their own by their cells"
        return (
            f"expected one row; got {self.lines:,} lines {said}. Remove the quote that opens the cell, or close it; "
            "within a text double it"
        )


def holding_rows(
    cells: pa.RecordBatch, delimiter: str, with_text_behind: Callable[[], frozenset[str]]
) -> list[HoldingRow]:
    """The rows of a batch that hold others. cells: all columns of the file, text. with_text_behind: gives the values of
    the file's cells of several lines that go on behind their closing quote; called only if there are such lines.
    """
    broken = _rows_with_line_breaks(cells)
    if not len(broken):
        return []
    rows = cells.take(pa.array(broken))
    odd = _are_odd(rows, with_text_behind())
    looked_at = np.flatnonzero(odd | _may_hold_rows(rows, delimiter))
    if not len(looked_at):
        return []
    figures = _columns_of_figures(cells)
    found = []
    for at, row in zip(looked_at.tolist(), rows.take(pa.array(looked_at)).to_pylist(), strict=True):
        text = delimiter.join(row.values())
        lines = _lines(text)
        text_at = next(at for at, cell in enumerate(row.values()) if _LINE_BREAK.search(cell))
        if odd[at] or _are_rows(lines, _Shape(delimiter, cells.num_columns, figures, text_at)):
            found.append(HoldingRow(int(broken[at]), text, len(lines), bool(odd[at])))
    return found


def _are_odd(rows: pa.RecordBatch, with_text_behind: frozenset[str]) -> npt.NDArray[np.bool_]:
    odd = np.zeros(rows.num_rows, dtype=np.bool_)
    if with_text_behind:
        values = pa.array(sorted(with_text_behind), pa.string())
        for column in rows.columns:
            odd |= np.asarray(pc.is_in(column, value_set=values))
    return odd


def _may_hold_rows(rows: pa.RecordBatch, delimiter: str) -> npt.NDArray[np.bool_]:
    """Whether there are as many delimiters as two rows have. Most texts of many lines have fewer: they cost no more."""
    inside = np.zeros(rows.num_rows, dtype=np.int64)
    for column in rows.columns:
        inside += np.asarray(pc.count_substring(column, delimiter))
    may: npt.NDArray[np.bool_] = inside >= rows.num_columns - 1
    return may


def header_holds_rows(header: Sequence[str], delimiter: str) -> bool:
    """Whether the cells of a header hold rows. Other rows are not known, so all of its lines have to be such."""
    return _are_rows(_lines(delimiter.join(header)), _Shape(delimiter, len(header)))


def lines_of(row: str) -> int:
    """Lines of a row's text that are not blank."""
    return len(_lines(row))


def _lines(text: str) -> list[str]:
    return [line for line in _LINE_BREAK.split(text) if line.strip()]


def _rows_with_line_breaks(cells: pa.RecordBatch) -> npt.NDArray[np.int64]:
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


def _are_rows(lines: Sequence[str], shape: _Shape) -> bool:
    """Whether so many of a row's lines are rows of their own that it holds others."""
    if len(lines) <= 1 or shape.columns < _FEWEST_COLUMNS:
        return False
    are_rows = [shape.fits(line) for line in lines[:_MOST_LINES]]
    between = are_rows[1:-1]
    if len(between) < _FEW_LINES or not shape.figures:
        return all(are_rows)
    return 2 * sum(between) > len(between)


@dataclass(frozen=True)
class _Shape:
    """How a row looks. figures: the places of columns of figures. text: that of the one whose cell has line breaks."""

    delimiter: str
    columns: int
    figures: Sequence[int] = ()
    text: int = 0

    def fits(self, line: str) -> bool:
        """Whether it is a row: most cells in columns of figures are such."""
        cells = line.split(self.delimiter)
        more = len(cells) - self.columns
        if more < 0 or (more > 0 and not self.figures):
            return False
        places = [at if at < self.text else at + more for at in self.figures if at != self.text]
        if not places:
            return more == 0
        return 2 * sum(is_figures(cells[at]) for at in places) > len(places)
