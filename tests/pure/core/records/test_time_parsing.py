"""Times as texts and numbers, by hand; the ends of the calendar also by Python itself."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-01", "2024-05-01T00:00:00+00:00"),
        ("2024/05/01", "2024-05-01T00:00:00+00:00"),
        ("20240501T123045", "2024-05-01T12:30:45+00:00"),
        ("2024-05-01t12", "2024-05-01T12:00:00+00:00"),
        ("2024-05-01T12:30:45,5z", "2024-05-01T12:30:45.500000+00:00"),
        ("2024-05-01T12:30:45.1234569", "2024-05-01T12:30:45.123456+00:00"),
        ("2024-05-01T12:30+02", "2024-05-01T10:30:00+00:00"),
        ("2024-05-01T12:30-0530", "2024-05-01T18:00:00+00:00"),
        ("2024-05-01T12:30+02:59", "2024-05-01T09:31:00+00:00"),
        ("2024-05-01T12:30+02:60", None),
        ("2024-05-01T12:30+23:59", "2024-04-30T12:31:00+00:00"),
        ("2024-05-01T12:30+24:00", None),
        ("2024-05-01T24:00", "2024-05-02T00:00:00+00:00"),
        ("2024-05-01T24:00:00.0000009", "2024-05-02T00:00:00+00:00"),
        ("2024-05-01T24:00+02:00", "2024-05-01T22:00:00+00:00"),
        ("2024-05-01T24:00:00.000001", None),
        ("2024-05-01T24:01", None),
        ("2024-05-01T25:00", None),
        ("2023-02-29", None),
        ("2024-05/01", None),
        ("0001-01-01T00:01+00:01", "0001-01-01T00:00:00+00:00"),
        ("0001-01-01T00:00+00:01", None),
        ("9999-12-31T23:58-00:01", "9999-12-31T23:59:00+00:00"),
        ("9999-12-31T23:59-00:01", None),
        ("9999-12-31T24:00", None),
    ],
)
def test_an_instant_is_read_to_the_microsecond_with_its_offset(text: str, expected: str | None) -> None:
    found = time_parsing.instant_of_text(text)
    assert (found and found.isoformat()) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20240501", date(2024, 5, 1)),
        ("2024-05-01 00:00:00.000 GMT", date(2024, 5, 1)),
        ("2024-05-01T00:00:00+00:00", date(2024, 5, 1)),
        ("2024-05-01T00:00-00", date(2024, 5, 1)),
        ("2024-05-01T00:00:00.5", None),
        ("2024-05-01T00:01", None),
        ("2024-05-01T00:00+01:00", None),
        ("2024-02-30", None),
    ],
)
def test_a_date_has_midnight_utc_or_no_time(text: str, expected: date | None) -> None:
    assert time_parsing.date_of_text(text) == expected


@pytest.mark.parametrize(
    ("number", "unit", "expected"),
    [
        ("1.5", "s", "1970-01-01T00:00:01.500000+00:00"),
        ("1.9999999", "s", "1970-01-01T00:00:01.999999+00:00"),
        ("-0.0000001", "s", "1969-12-31T23:59:59.999999+00:00"),
        ("1500", "ms", "1970-01-01T00:00:01.500000+00:00"),
        ("3", "us", "1970-01-01T00:00:00.000003+00:00"),
        ("1999", "ns", "1970-01-01T00:00:00.000001+00:00"),
        ("253402300799.9999999", "s", "9999-12-31T23:59:59.999999+00:00"),
        ("253402300800", "s", None),
        ("-62135596800", "s", "0001-01-01T00:00:00+00:00"),
        ("-62135596800.0000001", "s", None),
        ("Infinity", "s", None),
        ("NaN", "ms", None),
        ("1", "d", "1970-01-02T00:00:00+00:00"),
        ("0.5", "d", None),
        ("-719162", "d", "0001-01-01T00:00:00+00:00"),
        ("-719163", "d", None),
        ("2932896", "d", "9999-12-31T00:00:00+00:00"),
        ("2932897", "d", None),
        ("2013", "year", "2013-01-01T00:00:00+00:00"),
        ("2013.5", "year", None),
        ("1", "year", "0001-01-01T00:00:00+00:00"),
        ("0", "year", None),
        ("9999", "year", "9999-01-01T00:00:00+00:00"),
        ("10000", "year", None),
    ],
)
def test_a_number_is_the_instant_so_many_units_after_1970(number: str, unit: str, expected: str | None) -> None:
    found = time_parsing.instant_of_number(Decimal(number), unit)
    assert (found and found.isoformat()) == expected


@pytest.mark.parametrize(
    ("at", "unit", "expected"),
    [
        ("1970-01-01T00:00:01.500000+00:00", "s", "1.5"),
        ("1970-01-01T00:00:01.500000+00:00", "ms", "1500"),
        ("1970-01-01T00:00:01.500000+00:00", "us", "1500000"),
        ("1970-01-01T00:00:01.500000+00:00", "ns", "1500000000"),
        ("1969-12-31T23:59:59+00:00", "s", "-1"),
        ("1970-01-03T00:00:00+00:00", "d", "2"),
        ("1969-12-31T00:00:00+00:00", "d", "-1"),
        ("1970-01-03T01:00:00+01:00", "d", "2"),
        ("1970-01-03T00:00:00.000001+00:00", "d", None),
        ("2013-01-01T01:00:00+01:00", "year", "2013"),
        ("2013-01-02T00:00:00+00:00", "year", None),
        ("2013-02-01T00:00:00+00:00", "year", None),
    ],
)
def test_an_instant_is_written_as_the_shortest_number_of_units(at: str, unit: str, expected: str | None) -> None:
    assert time_parsing.number_of_instant(datetime.fromisoformat(at), unit) == expected


def test_units_are_described_and_counted() -> None:
    described = {unit: time_parsing.unit_description(unit) for unit in ("ms", "d", "year")}
    assert described == {"ms": "a number of ms since 1970", "d": "a number of days since 1970", "year": "a year"}
    assert time_parsing.PER_SECOND == {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
