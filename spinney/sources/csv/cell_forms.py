"""Classify the cells of a CSV file by their form."""

from __future__ import annotations

import re
from collections.abc import Sequence

_NUMBER_OR_TIME = re.compile(r"[-+.,:/ TZ]*[0-9][-+0-9.,:/ TZeE%]*", re.ASCII)
_INTEGER = re.compile(r"[-+]?[0-9]+", re.ASCII)
_FRACTION = re.compile(
    r"[-+]?(?:[0-9]+[.,][0-9]*|[.,]?[0-9]+|[0-9]{1,3}(?:[.,][0-9]{3})+[.,][0-9]+)(?:[eE][-+]?[0-9]+)?", re.ASCII
)
_MIN_SHARE = 0.9
"""Share of cells that must be numbers or times for the column to count as a column of numbers or times."""


def is_number_or_time(cell: str) -> bool:
    """Return whether a cell is a number or a time, in any notation."""
    return _NUMBER_OR_TIME.fullmatch(cell.strip()) is not None


def are_numbers_or_times(cells: Sequence[str]) -> bool:
    """Return whether nearly all cells of a column are numbers or times."""
    return bool(cells) and sum(map(is_number_or_time, cells)) >= _MIN_SHARE * len(cells)


def cell_form(cell: str) -> str:
    """Return the form of a cell: integer, fraction, time, text with digits, or text.

    Cells of one column usually share a form. Texts are not distinguished further: "O'Neil" and "de la Cruz" are in one
    column.
    """
    margin = " " if cell.startswith(" ") else ""  # of a text with a blank behind each comma
    text = cell.strip()
    if _INTEGER.fullmatch(text):
        return margin + "integer"
    if _FRACTION.fullmatch(text):
        return margin + "fraction"
    if is_number_or_time(text):
        return margin + "time"
    return margin + ("text with digits" if any(map(str.isdigit, text)) else "text")
