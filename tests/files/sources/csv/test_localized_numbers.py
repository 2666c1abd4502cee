"""Numbers with the marks of many countries. What a cell is worth is written by hand."""

from __future__ import annotations

import pyarrow as pa
import pytest

from spinney.sources.csv.localized_numbers import has_other_mark, with_points


@pytest.mark.parametrize(
    ("decimal", "thousands", "cell", "expected"),
    [
        (".", ",", "1,234", "1234"),
        (".", ",", "-12,345,678.9", "-12345678.9"),
        (".", ",", "1,23", "1,23"),
        (".", ",", "0,123", "0,123"),
        (".", ",", "012,345", "012,345"),
        (",", ".", "1.234,5", "1234.5"),
        (",", ".", "100.200", "100200"),
        (",", ".", "0,5", "0.5"),
        (",", ".", "0.123", "0.123"),
        (",", ".", "-0.123", "-0.123"),
        (",", " ", "0 123", "0 123"),
    ],
)
def test_separators_of_thousands_go_from_numbers_that_do_not_begin_with_0(
    decimal: str, thousands: str, cell: str, expected: str
) -> None:
    assert with_points(pa.array([cell]), decimal, thousands).to_pylist() == [expected]


@pytest.mark.parametrize(
    ("thousands", "doubtful"), [(".", [False, True, True, True]), (None, [True, True, True, True])]
)
def test_a_point_among_decimal_commas_is_doubtful_unless_it_separates_thousands(
    thousands: str | None, doubtful: list[bool]
) -> None:
    cells = pa.record_batch({"x": ["1.234", "0.123", "+0.123", "1.5"]})
    assert has_other_mark(cells, ["x"], thousands).tolist() == doubtful
