"""Find rows of a CSV file that hold other rows, since two quotes stand where none belong.

A quote at the beginning of a cell opens a quoted cell. Where nobody meant it as one, the cell goes on through the rows
below up to the next quote. If that stands in the same column, the cells are as many as the header's. Mostly there is
text behind that quote, which no quoted cell has (`quoted_cells.py`). Otherwise nothing but the lines inside tells the
row from one with a real text of many lines.

The rule for these: the cells of a row are put together as they stood, and cut at the line breaks. A line counts as a
row of its own if all of these hold:

- it has as many cells as the header, or more, since the column of the text may have delimiters in it;
- of its cells in columns of figures, those that are filled are mostly of a form that the column has in other rows:
  integers, fractions or times;
- its first cell is of such a form too, if the column has but a few: an item of a list begins with a word where rows
  begin with A1.

A row holds others if more than half of the lines between its first and last are rows of their own. Lines with as many
cells as the header and none filled in columns of figures are not counted. Where none is counted, or there are fewer
than two lines between, or no column has figures, no line of the row may be other than a row: a text in the last column
leaves the first line whole. Texts of many lines are not looked at in a column where most rows have such.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from spinney.sources.cells import are_figures, form

_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_LINE_BREAKS = "[\r\n]"
_LOOKED_AT = 200
"""Rows that say what their columns look like."""

_MOST_LINES = 1_000
"""Lines of one row that are looked at."""

_FEWEST_COLUMNS = 3
"""No fleet's file has fewer; in one of one column every line of a text is like a row."""

_FEW_LINES = 2
"""Of fewer lines between the first and the last, most are soon like a row by chance."""

_MOST_FORMS = 2
"""In a first column whose cells look alike. If they have more, a row may have yet another."""

_FEW_ROWS = 3
"""Fewer say neither what a first column looks like, nor whether texts of many lines are usual."""

_REMEDY = "Remove the quote that opens the cell, or close it; within a text double it"
_REMEDY_OF_TEXTS = "If the text is right as it is, give the file as JSON lines or Parquet"


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
            got, remedy = ", and text after the closing quote", _REMEDY
        else:
            got, remedy = " that look like rows themselves", f"{_REMEDY}. {_REMEDY_OF_TEXTS}"
        return f"expected one row; got {self.lines:,} lines within quotes{got}. {remedy}"


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
    unclosed = _are_unclosed(rows, with_text_behind())
    looked_at = np.flatnonzero(unclosed | _may_hold_rows(rows, delimiter))
    if not len(looked_at):
        return []
    forms = _forms(cells)
    usual = _columns_of_long_texts(rows, unclosed, cells.num_rows)
    found = []
    for at, row in zip(looked_at.tolist(), rows.take(pa.array(looked_at)).to_pylist(), strict=True):
        text = delimiter.join(row.values())
        lines = _lines(text)
        text_at = next(place for place, cell in enumerate(row.values()) if _LINE_BREAK.search(cell))
        shape = _Shape(delimiter, cells.num_columns, forms, text_at)
        if unclosed[at] or (text_at not in usual and _are_rows(lines, shape)):
            found.append(HoldingRow(int(broken[at]), text, len(lines), bool(unclosed[at])))
    return found


def _are_unclosed(rows: pa.RecordBatch, with_text_behind: frozenset[str]) -> npt.NDArray[np.bool_]:
    unclosed = np.zeros(rows.num_rows, dtype=np.bool_)
    if with_text_behind:
        values = pa.array(sorted(with_text_behind), pa.string())
        for column in rows.columns:
            unclosed |= np.asarray(pc.is_in(column, value_set=values))
    return unclosed


def _columns_of_long_texts(rows: pa.RecordBatch, unclosed: npt.NDArray[np.bool_], of: int) -> frozenset[int]:
    """The places of the columns that have line breaks in most rows. rows: those with line breaks. of: how many are all.

    If one quote of the file is not closed where it should be, more may be so: then no column is such.
    """
    if unclosed.any() or 2 * rows.num_rows <= of or of < _FEW_ROWS:
        return frozenset()
    with_breaks = (int(pc.sum(pc.match_substring_regex(column, _LINE_BREAKS)).as_py()) for column in rows.columns)
    return frozenset(at for at, count in enumerate(with_breaks) if 2 * count > of)


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


@dataclass(frozen=True)
class _Forms:
    """What the columns look like in rows without line breaks. of: column → forms, of columns of figures and of a first
    column that looks alike in all rows. figures: the places of the former.
    """

    of: Mapping[int, frozenset[str]]
    figures: Sequence[int]


_NO_FORMS = _Forms({}, ())


def _forms(cells: pa.RecordBatch) -> _Forms:
    found: dict[int, frozenset[str]] = {}
    figures = []
    for at, column in enumerate(cells.slice(0, _LOOKED_AT).columns):
        whole = [text for text in column.to_pylist() if text and _LINE_BREAK.search(text) is None]
        is_of_figures = are_figures(whole)
        if is_of_figures:
            figures.append(at)
        if is_of_figures or at == 0:
            forms = set(map(form, whole))
            if at != 0 and "fraction" in forms:
                forms.add("integer")  # 5 is an amount as well as 5.25
            if is_of_figures or (len(whole) >= _FEW_ROWS and len(forms) <= _MOST_FORMS):
                found[at] = frozenset(forms)
    return _Forms(found, figures)


def _are_rows(lines: Sequence[str], shape: _Shape) -> bool:
    """Whether so many of a row's lines are rows of their own that it holds others."""
    if len(lines) <= 1 or shape.columns < _FEWEST_COLUMNS:
        return False
    are_rows = [shape.fits(line) for line in lines[:_MOST_LINES]]
    inner = are_rows[1:-1]
    if len(inner) < _FEW_LINES or inner.count(None) == len(inner) or not shape.forms.figures:
        return False not in are_rows
    return inner.count(True) > inner.count(False)


@dataclass(frozen=True)
class _Shape:
    """How a row looks. text: the place of the column whose cell has line breaks."""

    delimiter: str
    columns: int
    forms: _Forms = _NO_FORMS
    text: int = 0

    def fits(self, line: str) -> bool | None:
        """Whether it is a row, see the rule above; None: it has no value where figures belong, and could be one."""
        cells = line.split(self.delimiter)
        extra_cells = len(cells) - self.columns
        if extra_cells < 0 or (extra_cells > 0 and not self.forms.figures):
            return False
        if self.text != 0 and not self._is_alike(0, cells[0]):
            return False
        figures = [at for at in self.forms.figures if at != self.text]
        if not figures:
            return extra_cells == 0
        by_place = ((at, cells[at if at < self.text else at + extra_cells]) for at in figures)
        alike = [self._is_alike(at, cell) for at, cell in by_place if cell.strip()]
        if not alike and extra_cells == 0:
            return None
        return 2 * sum(alike) > len(alike)

    def _is_alike(self, column: int, cell: str) -> bool:
        """Whether the cell could be one of the column. Empty ones may be missing values of any."""
        return not cell.strip() or column not in self.forms.of or form(cell) in self.forms.of[column]
