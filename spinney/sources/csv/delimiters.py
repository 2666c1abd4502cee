"""Split the first rows of a CSV file into cells, and detect what separates them."""

from __future__ import annotations

import csv
import io

SAMPLE_ROWS = 200
DELIMITERS = (",", ";", "\t", "|")


def iterate_lines(sample: str) -> io.StringIO:
    """Iterate over the lines of a text, ended by CR and LF only: str.splitlines() also splits at other characters."""
    return io.StringIO(sample, newline="")


def split_rows(sample: str, delimiter: str) -> list[list[str]]:
    """Return the cells of the first rows that are not blank; one row without cells if there are none."""
    rows = []
    try:
        for row in csv.reader(iterate_lines(sample), delimiter=delimiter):
            if row:
                rows.append(row)
            if len(rows) > SAMPLE_ROWS:
                break
    except csv.Error:  # a cell longer than the module allows: the rows before it are enough
        pass
    return rows or [[]]


def detect_delimiter(sample: str) -> str:
    """Return the delimiter that splits most rows into as many cells as the header; of equal ones the one with more
    cells.
    """

    def agreement(delimiter: str) -> tuple[float, int]:
        rows = split_rows(sample, delimiter)
        width = len(rows[0])
        share = sum(len(row) == width for row in rows) / len(rows)
        return (round(share, 1), width) if width > 1 else (0.0, 1)

    return max(DELIMITERS, key=agreement)
