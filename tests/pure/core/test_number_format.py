from __future__ import annotations

import math

import pytest

from spinney.core.number_format import format_number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0, "0"),
        (1234567, "1234567"),
        (1.0, "1"),
        (1.05, "1.05"),
        (2.34567, "2.346"),
        (-2.34567, "-2.346"),
        (12.3456, "12.35"),
        (999.96, "1000"),
        (1234.5678, "1235"),
        (123456789.4, "123456789"),
        (0.000123456, "0.0001235"),
        (1.5e-9, "1.500e-09"),
        (1e300, "1.000e+300"),
        (math.inf, "inf"),
    ],
)
def test_a_number_has_four_digits_that_count(value: float, text: str) -> None:
    assert format_number(value) == text
