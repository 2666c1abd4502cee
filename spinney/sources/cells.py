"""What the cells of a CSV file look like."""

from __future__ import annotations

import re
from collections.abc import Sequence

_FIGURES = re.compile(r"[-+.,:/ TZ]*[0-9][-+0-9.,:/ TZeE%]*", re.ASCII)
_INTEGER = re.compile(r"[-+]?[0-9]+", re.ASCII)
_FRACTION = re.compile(
    r"[-+]?(?:[0-9]+[.,][0-9]*|[.,]?[0-9]+|[0-9]{1,3}(?:[.,][0-9]{3})+[.,][0-9]+)(?:[eE][-+]?[0-9]+)?", re.ASCII
)
_TYPICAL = 0.9
"""Share of a column's cells that are figures where it is a column of such."""


def is_figures(cell: str) -> bool:
    """Whether it is a number or a time, in whatever form."""
    return _FIGURES.fullmatch(cell.strip()) is not None


def are_figures(cells: Sequence[str]) -> bool:
    """Whether it is a column of numbers or times, but for a few of its cells."""
    return bool(cells) and sum(map(is_figures, cells)) >= _TYPICAL * len(cells)


def form(cell: str) -> str:
    """What a cell looks like, the same for the cells of one column where they are alike.

    An integer, a fraction, other figures such as a time, a text with digits or one without. Names are alike by no more
    than that: "O'Neil" and "de la Cruz" are in one column.
    """
    margin = " " if cell.startswith(" ") else ""  # of a text with a blank behind each comma
    text = cell.strip()
    if _INTEGER.fullmatch(text):
        return margin + "integer"
    if _FRACTION.fullmatch(text):
        return margin + "fraction"
    if is_figures(text):
        return margin + "time"
    return margin + ("text with digits" if any(map(str.isdigit, text)) else "text")
