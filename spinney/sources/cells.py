"""What the cells of a CSV file look like."""

from __future__ import annotations

import re
from collections.abc import Sequence

_FIGURES = re.compile(r"[-+0-9.,:/ TZ]*[0-9][-+0-9.,:/ TZeE%]*", re.ASCII)
_TYPICAL = 0.9
"""Share of a column's cells that are figures where it is a column of such."""


def is_figures(cell: str) -> bool:
    """Whether it is a number or a time, in whatever form."""
    return _FIGURES.fullmatch(cell.strip()) is not None


def are_figures(cells: Sequence[str]) -> bool:
    """Whether it is a column of numbers or times, but for a few of its cells."""
    return bool(cells) and sum(map(is_figures, cells)) >= _TYPICAL * len(cells)
