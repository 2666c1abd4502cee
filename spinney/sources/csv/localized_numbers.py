"""Numbers of a CSV file with a decimal comma or separated thousands, as numbers with a point only."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_BLANKS = "[ \u00a0\u2009\u202f]"
"""A blank between thousands: an ordinary space, or a space that does not break lines."""

_OTHER_MARK = "^ *[+-]?[0-9]*\\.[0-9]+([eE][+-]?[0-9]+)? *$"


def has_other_mark(cells: pa.RecordBatch, names: Iterable[str], thousands: str | None) -> npt.NDArray[np.bool_]:
    """Return the mask of rows with a decimal point in a number column of a file with decimal commas, shape (rows,).

    In such a file `1.234` may mean a thousand or a fraction, unless points separate thousands and the number has that
    form.
    """
    found = np.zeros(cells.num_rows, dtype=np.bool_)
    for name in names:
        column = cells.column(name)
        doubtful = np.asarray(pc.match_substring_regex(column, _OTHER_MARK))
        if thousands == "." and doubtful.any():
            doubtful = doubtful & ~np.asarray(pc.match_substring_regex(column, _grouped(",", thousands)))
        found |= doubtful
    return found


def with_points(column: pa.Array, decimal: str, thousands: str | None) -> pa.Array:
    """Return the column with a point as the decimal mark of its numbers, and without separators of thousands.

    column: texts. Texts that are not numbers with these marks stay unchanged.
    """
    if thousands is not None:
        are_grouped = pc.match_substring_regex(column, _grouped(decimal, thousands))
        if pc.any(are_grouped).as_py():
            joined = pc.replace_substring_regex(column, _mark(thousands), "")
            column = pc.if_else(are_grouped, joined, column)
    if decimal == ",":
        column = pc.replace_substring_regex(column, r"^( *[+-]?[0-9]+),([0-9]+(?:[eE][+-]?[0-9]+)? *)$", r"\1.\2")
    return column


def _mark(thousands: str) -> str:
    return _BLANKS if thousands == " " else f"[{thousands}]"


def _grouped(decimal: str, thousands: str) -> str:
    """Return the pattern of a number with separated thousands. It does not begin with 0: `0.123` is a fraction."""
    return f"^[+-]?[1-9][0-9]{{0,2}}({_mark(thousands)}[0-9]{{3}})+([{decimal}][0-9]+)?$"
