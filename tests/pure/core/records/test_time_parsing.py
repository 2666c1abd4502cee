"""The ends of the calendar, by hand and by Python itself."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from spinney.core.records import time_parsing


def test_the_ends_of_the_calendar_are_pythons() -> None:
    assert (time_parsing.FIRST_DAY, time_parsing.LAST_DAY) == (-719_162, 2_932_896)
    assert (time_parsing.FIRST_SECOND, time_parsing.END_SECOND) == (-62_135_596_800, 253_402_300_800)
    assert date(1970, 1, 1) + timedelta(days=time_parsing.LAST_DAY) == date(9999, 12, 31)
    assert time_parsing.EPOCH + timedelta(seconds=time_parsing.FIRST_SECOND) == datetime(1, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05", "2024-05-01T00:00:00+00:00"),
        ("2024-13", None),
        ("2024/05", None),
        ("202405", None),
        ("2024-05-01 12:30:00 GMT", "2024-05-01T12:30:00+00:00"),
        ("2024-05-01T12:30+02:00[Europe/Paris]", "2024-05-01T10:30:00+00:00"),
        ("2024-05-01T12:30Z[UTC]", "2024-05-01T12:30:00+00:00"),
        ("2024-05-01T12:30[Europe/Paris]", None),
        ("2024-05-01T12:30Z[", None),
    ],
)
def test_months_and_names_of_zones_behind_an_offset_are_read(text: str, expected: str | None) -> None:
    found = time_parsing.instant_of_text(text)
    assert (found and found.isoformat()) == expected


def test_a_month_is_the_date_of_its_first_day() -> None:
    assert time_parsing.date_of_text("2024-02") == date(2024, 2, 1)
    assert time_parsing.date_of_text("2024-02-01T00:00Z[UTC]") == date(2024, 2, 1)
