"""The ends of the calendar, by hand and by Python itself."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from spinney.core.records import times


def test_the_ends_of_the_calendar_are_pythons() -> None:
    assert (times.FIRST_DAY, times.LAST_DAY) == (-719_162, 2_932_896)
    assert (times.FIRST_SECOND, times.END_SECOND) == (-62_135_596_800, 253_402_300_800)
    assert date(1970, 1, 1) + timedelta(days=times.LAST_DAY) == date(9999, 12, 31)
    assert times.EPOCH + timedelta(seconds=times.FIRST_SECOND) == datetime(1, 1, 1, tzinfo=UTC)
