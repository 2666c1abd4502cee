"""What a cell looks like."""

from __future__ import annotations

import itertools
import re

import pytest

from spinney.sources.csv.cell_forms import are_numbers_or_times, cell_form, is_number_or_time


def test_figures_are_what_the_simple_pattern_says() -> None:
    """The simple one is quadratic on a long cell that is none."""
    simple = re.compile(r"[-+0-9.,:/ TZ]*[0-9][-+0-9.,:/ TZeE%]*", re.ASCII)
    cells = ["".join(cell) for size in range(7) for cell in itertools.product("1-Tex%", repeat=size)]
    assert [cell for cell in cells if is_number_or_time(cell) != (simple.fullmatch(cell) is not None)] == []


def test_a_long_cell_is_looked_at_once() -> None:
    """With a pattern that tries each of its digits as the first, this takes minutes."""
    assert not is_number_or_time("1" * 1_000_000 + "x")
    assert is_number_or_time("1" * 1_000_000)
    assert not cell_form("1" * 1_000_000 + "x").startswith("integer")


@pytest.mark.parametrize(
    ("expected", "cells"),
    [
        ("integer", ["7", "-7", "+12", "007", "12 "]),
        ("fraction", ["1.5", "-1,5", ".5", "5.", "1e5", "1.5E-3", "1.234,5", "1,234,567.5"]),
        ("time", ["2024-05-01", "2024-05-01T10:00:00Z", "10:30", "1/2/2024", "12%"]),
        (" fraction", [" 1.5", "  2.5"]),
        ("text with digits", ["A1", "17b", "ä2", "f81d4fae-7dec", "note 7"]),
        ("text", ["a word", "O'Neil", "", "-"]),
    ],
)
def test_cells_that_look_alike_have_the_same_form(expected: str, cells: list[str]) -> None:
    assert {cell: cell_form(cell) for cell in cells} == dict.fromkeys(cells, expected)


def test_a_column_of_figures_may_have_a_few_other_cells() -> None:
    assert are_numbers_or_times([*["1.5"] * 9, "n/a"])
    assert not are_numbers_or_times([*["1.5"] * 8, "n/a", "none"])
    assert not are_numbers_or_times([])
