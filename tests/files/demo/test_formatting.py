from __future__ import annotations

import pytest

from demo.formatting import describe_difference, format_count, format_group, format_hours, format_number, format_seconds


@pytest.mark.parametrize(
    ("own", "other", "message"),
    [
        (9.0, 10.0, "10 % less than"),
        (9.76, 10.0, "2.4 % less than"),
        (10.3, 10.0, "3.0 % more than"),
        (15.0, 10.0, "50 % more than"),
        (10.0001, 10.0, "as much as"),
        (None, 10.0, "not compared with"),
    ],
)
def test_a_comparison_says_which_way_it_went(own, other, message):
    assert describe_difference(own, other) == message


@pytest.mark.parametrize(
    ("value", "message"), [(0.314, "0.31 s"), (4.24, "4.2 s"), (128.4, "2 min 08 s"), (None, "-"), (59.99, "60.0 s")]
)
def test_lengths_of_time_are_for_people(value, message):
    assert format_seconds(value) == message


def test_numbers_have_three_figures_and_counts_commas():
    assert [format_number(value) for value in (8.249, 10.35, 1204.4, 0.0712, None)] == [
        "8.25",
        "10.3",
        "1,204",
        "0.0712",
        "-",
    ]
    assert format_count(22002) == "22,002"


def test_hours_are_days_too_once_there_are_many():
    assert format_hours(18) == "18 h"
    assert format_hours(119) == "119 h (5.0 days)"
    assert format_hours(None) == "not within the demo"


def test_a_groups_key_is_read_as_its_columns():
    assert format_group('["B6",null,"FLL"]') == "B6 · (none) · FLL"
