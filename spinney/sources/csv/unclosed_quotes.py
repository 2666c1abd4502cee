"""Find rows of a CSV file that several rows were merged into by two stray quotes.

A quote at the beginning of a cell opens a quoted cell. If it was not meant as one, the cell continues through the rows
below up to the next quote. If that quote is in the same column, the merged row has as many cells as the header. Usually
there is text after that quote, which no quoted cell has (`text_after_quotes.py`). Otherwise only the lines inside
distinguish such a row from one with a genuine text of many lines.

The rule for these: the cells of a row are joined as they were written, and split at line breaks. A line counts as a row
of its own if all of these hold:

- it has as many cells as the header, or more, since the column of the text may contain delimiters;
- most of its non-empty cells in columns of numbers or times have a form that the column has in other rows: integer,
  fraction or time;
- its first cell has such a form too, if the column has only a few: an item of a list begins with a word where rows
  begin with A1.

A row is merged if more than half of the lines between its first and last are rows of their own. Lines with as many
cells as the header and no value in columns of numbers are not counted. If no line is counted, or fewer than two lines
are in between, or no column has numbers, every line of the row must be a row of its own: a text in the last column
leaves the first line whole. Texts of many lines are not examined in a column where most rows have them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from spinney.sources.csv.cell_forms import are_numbers_or_times, cell_form

_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_LINE_BREAKS = "[\r\n]"
_SAMPLE_ROWS = 200
"""Rows from which the forms of columns are learned."""

_MAX_LINES = 1_000
"""Largest number of lines of one row that are examined."""

_MIN_COLUMNS = 3
"""With fewer columns rows are not examined. A fleet's file has at least these; with one column every line looks like a
row.
"""

_MIN_INNER_LINES = 2
"""With fewer lines between the first and the last, most look like rows by chance."""

_MAX_FORMS = 2
"""If a first column has more forms of cells, the form of a cell says nothing about whether it begins a row."""

_MIN_ROWS = 3
"""With fewer rows, neither the forms of a first column nor the usual number of lines of a text are known."""

_REMEDY = "Remove the quote that opens the cell, or close it; within a text double it"
_REMEDY_OF_TEXTS = "If such texts are right as they are, pass --multiline"


@dataclass(frozen=True)
class MergedRow:
    """A row that several rows were merged into.

    place: position in its batch. text: its cells as written, without quotes. lines: number of lines.
    """

    place: int
    text: str
    lines: int
    has_text_behind: bool

    @property
    def problem(self) -> str:
        """Text for the user: the fault of the row, and the remedy."""
        if self.has_text_behind:
            got, remedy = ", and text after the closing quote", _REMEDY
        else:
            got, remedy = " that look like rows themselves", f"{_REMEDY}. {_REMEDY_OF_TEXTS}"
        return f"expected one row; got {self.lines:,} lines within quotes{got}. {remedy}"


def find_merged_rows(
    cells: pa.RecordBatch, delimiter: str, with_text_behind: Callable[[], frozenset[str]], *, by_lines: bool = True
) -> list[MergedRow]:
    """Return the merged rows of a batch.

    cells: all columns of the file, as text. with_text_behind: returns the values of the file's cells of several lines
    that have text after their closing quote; called only if there are cells of several lines. by_lines: whether rows
    whose inner lines look like rows count as merged too.
    """
    with_breaks = _rows_with_line_breaks(cells)
    if not len(with_breaks):
        return []
    rows = cells.take(pa.array(with_breaks))
    unclosed = have_cell_among(rows, with_text_behind())
    suspects = np.flatnonzero(unclosed | _may_be_merged(rows, delimiter) if by_lines else unclosed)
    if not len(suspects):
        return []
    forms = _column_forms(cells)
    usual = _columns_of_long_texts(rows, unclosed, cells.num_rows)
    merged = []
    for at, row in zip(suspects.tolist(), rows.take(pa.array(suspects)).to_pylist(), strict=True):
        text = delimiter.join(row.values())
        lines = _lines(text)
        text_at = next(place for place, cell in enumerate(row.values()) if _LINE_BREAK.search(cell))
        shape = _RowShape(delimiter, cells.num_columns, forms, text_at)
        if unclosed[at] or (text_at not in usual and _are_rows(lines, shape)):
            merged.append(MergedRow(int(with_breaks[at]), text, len(lines), bool(unclosed[at])))
    return merged


def have_cell_among(rows: pa.RecordBatch, values: frozenset[str]) -> npt.NDArray[np.bool_]:
    """Return the mask of rows with one of these values in a cell, shape (rows,)."""
    found = np.zeros(rows.num_rows, dtype=np.bool_)
    if values:
        sought = pa.array(sorted(values), pa.string())
        for column in rows.columns:
            found |= np.asarray(pc.is_in(column, value_set=sought))
    return found


def _columns_of_long_texts(rows: pa.RecordBatch, unclosed: npt.NDArray[np.bool_], of: int) -> frozenset[int]:
    """Return the positions of the columns in which most rows have line breaks; none if any row is known to be merged.

    A merged row shows that quotes are left unclosed, and then line breaks may come from these. rows: those with line
    breaks. unclosed: mask of the rows that are known to be merged. of: number of all rows.
    """
    if unclosed.any() or 2 * rows.num_rows <= of or of < _MIN_ROWS:
        return frozenset()
    with_breaks = (int(pc.sum(pc.match_substring_regex(column, _LINE_BREAKS)).as_py()) for column in rows.columns)
    return frozenset(at for at, count in enumerate(with_breaks) if 2 * count > of)


def _may_be_merged(rows: pa.RecordBatch, delimiter: str) -> npt.NDArray[np.bool_]:
    """Return which rows have as many delimiters as two rows.

    Most texts of many lines have fewer, and are not checked further.
    """
    inside = np.zeros(rows.num_rows, dtype=np.int64)
    for column in rows.columns:
        inside += np.asarray(pc.count_substring(column, delimiter))
    may: npt.NDArray[np.bool_] = inside >= rows.num_columns - 1
    return may


def header_has_merged_rows(header: Sequence[str], delimiter: str) -> bool:
    """Return whether the cells of a header contain rows. Other rows are not known yet, so all of its lines must look
    like rows.
    """
    return _are_rows(_lines(delimiter.join(header)), _RowShape(delimiter, len(header)))


def count_lines(row: str) -> int:
    """Return the number of non-blank lines of a row's text."""
    return len(_lines(row))


def _lines(text: str) -> list[str]:
    return [line for line in _LINE_BREAK.split(text) if line.strip()]


def _rows_with_line_breaks(cells: pa.RecordBatch) -> npt.NDArray[np.int64]:
    has_breaks = np.zeros(cells.num_rows, dtype=np.bool_)
    for column in cells.columns:
        if _has_line_breaks(column):
            has_breaks |= np.asarray(pc.match_substring_regex(column, _LINE_BREAKS))
    return np.flatnonzero(has_breaks)


def _has_line_breaks(column: pa.StringArray) -> bool:
    """Return whether any cell has a line break, searched in all bytes at once since most columns have none."""
    _, offsets, data = column.buffers()
    if data is None or not len(column):
        return False
    ends = np.frombuffer(offsets, np.int32)[[column.offset, column.offset + len(column)]]
    text = memoryview(data)[ends[0] : ends[1]].tobytes()
    return b"\n" in text or b"\r" in text


@dataclass(frozen=True)
class _ColumnForms:
    """The forms of cells in rows without line breaks.

    of: column → forms, for columns of numbers or times and for a first column with few forms. figures: the positions of
    the columns of numbers or times.
    """

    of: Mapping[int, frozenset[str]]
    figures: Sequence[int]


_NO_FORMS = _ColumnForms({}, ())


def _column_forms(cells: pa.RecordBatch) -> _ColumnForms:
    forms_of: dict[int, frozenset[str]] = {}
    figures = []
    for at, column in enumerate(cells.slice(0, _SAMPLE_ROWS).columns):
        whole = [text for text in column.to_pylist() if text and _LINE_BREAK.search(text) is None]
        is_of_figures = are_numbers_or_times(whole)
        if is_of_figures:
            figures.append(at)
        if is_of_figures or at == 0:
            forms = set(map(cell_form, whole))
            if at != 0 and "fraction" in forms:
                forms.add("integer")  # 5 is an amount as well as 5.25
            if is_of_figures or (len(whole) >= _MIN_ROWS and len(forms) <= _MAX_FORMS):
                forms_of[at] = frozenset(forms)
    return _ColumnForms(forms_of, figures)


def _are_rows(lines: Sequence[str], shape: _RowShape) -> bool:
    """Return whether enough of a row's lines are rows of their own for it to be merged."""
    if len(lines) <= 1 or shape.columns < _MIN_COLUMNS:
        return False
    are_rows = [shape.looks_like_row(line) for line in lines[:_MAX_LINES]]
    inner = are_rows[1:-1]
    if len(inner) < _MIN_INNER_LINES or inner.count(None) == len(inner) or not shape.forms.figures:
        return False not in are_rows
    return inner.count(True) > inner.count(False)


@dataclass(frozen=True)
class _RowShape:
    """The form of a row. text: the position of the column whose cell has line breaks."""

    delimiter: str
    columns: int
    forms: _ColumnForms = _NO_FORMS
    text: int = 0

    def looks_like_row(self, line: str) -> bool | None:
        """Return whether a line is a row by the rule above; None if it could be one but has no value in columns of
        numbers.
        """
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
        """Return whether the cell could belong to the column. An empty cell may be a missing value of any column."""
        return not cell.strip() or column not in self.forms.of or cell_form(cell) in self.forms.of[column]
