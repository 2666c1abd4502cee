"""Quotes behind backslashes: when they are escapes, and how they are rewritten, however the file is cut in parts."""

from __future__ import annotations

import csv
import io

import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st

from spinney.sources.csv.escaped_quotes import Unescaper, is_escaped

CELLS = st.text('a"\\,;\n é', max_size=6)


def as_spark_writes(rows: list[list[str]]) -> str:
    def cell(text: str) -> str:
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{quoted}"' if set(text) & set('",\n') else text

    return "".join(",".join(map(cell, row)) + "\n" for row in rows)


@examples(200)
@given(st.lists(st.lists(CELLS, min_size=2, max_size=3), min_size=1, max_size=4), st.lists(st.integers(1, 9)))
def test_any_parts_of_a_file_give_the_texts_that_were_written(rows: list[list[str]], sizes: list[int]) -> None:
    whole, unescaper, found, place = as_spark_writes(rows).encode(), Unescaper(","), b"", 0
    for size in [*sizes, len(whole)]:
        found += unescaper.feed(whole[place : place + size])
        place += size
    text = (found + unescaper.end()).decode()
    assert list(csv.reader(io.StringIO(text, newline=""))) == rows


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('a,b\n1,"5\\" pipe"\n', True),
        ('a,b\n1,"the \\"red\\", one"\n2,x\n', True),
        ('a,b\n1,"C:\\"\n2,"D:\\"\n', False),
        ('a,b\n1,"C:\\"\n2,"5\\" pipe"\n', False),
        ('a,b\n1,"5"" pipe"\n2,"5\\" pipe"\n', True),
        ('a,b\n1,5\\" pipe\n', False),
        ('a,b\n1,"x, y"\n', False),
    ],
)
def test_backslashes_are_escapes_only_if_all_rows_are_consistent_then_and_not_otherwise(
    text: str, expected: bool
) -> None:
    assert is_escaped(io.StringIO(text, newline=""), ",", is_cut=False) is expected


def test_a_sample_that_is_cut_within_a_cell_of_several_lines_is_enough() -> None:
    text = 'a,b\n1,"5\\" pipe"\n2,"two\nlines'
    assert is_escaped(io.StringIO(text, newline=""), ",", is_cut=True)
    assert not is_escaped(io.StringIO(text, newline=""), ",", is_cut=False)
