"""Parse instants and dates from text and numbers. UTC, to the microsecond, years 1 to 9999."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import ROUND_FLOOR, Context, Decimal
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_DATE: Final = date.min
"""0001-01-01, the first that Python supports."""

LAST_DATE: Final = date.max
"""9999-12-31, the last that Python supports."""

DAY_SECONDS: Final = 86_400
FIRST_DAY: Final = (FIRST_DATE - EPOCH.date()).days
LAST_DAY: Final = (LAST_DATE - EPOCH.date()).days
"""The first and the last date in days since 1970."""

FIRST_SECOND: Final = FIRST_DAY * DAY_SECONDS
END_SECOND: Final = (LAST_DAY + 1) * DAY_SECONDS
"""The first second of FIRST_DATE since 1970 in UTC, and the one after LAST_DATE."""

PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
"""Ticks per second of each time unit."""

DAY: Final = "d"
"""The unit of times that are whole days since 1970, as Debezium writes dates: 1 is the first moment of 1970-01-02."""

YEAR: Final = "year"
"""The unit of times that are years alone: 2013 is the first moment of 2013 in UTC."""

_EXACT: Final = Context(prec=900)
_MICROS: Final = {"s": Decimal(1_000_000), "ms": Decimal(1_000), "us": Decimal(1), "ns": Decimal("0.001")}
_DAY_MICROS: Final = DAY_SECONDS * 1_000_000

_DATE: Final = r"(\d{4})([-/]?)(\d{2})\2(\d{2})"
_CLOCK: Final = r"(\d{2})(?::?(\d{2})(?::?(\d{2})(?:[.,](\d+))?)?)?"
_ZONE_NAME: Final = r"(?:\[[A-Za-z0-9_/+-]+\])?"
"""The name of the zone behind an offset, as Java and RFC 9557 write it. The offset decides."""

_ZONE: Final = rf" ?(?:(Z|z|UTC|GMT)|([+-])(\d{{2}})(?::?(\d{{2}}))?){_ZONE_NAME}"
_INSTANT: Final = re.compile(f"{_DATE}(?:[Tt ]{_CLOCK}(?:{_ZONE})?)?", re.ASCII)
_NO_OFFSET: Final = f" ?(?:Z|z|UTC|GMT|[+-]00(?::?00)?){_ZONE_NAME}"
_DAY: Final = re.compile(rf"{_DATE}(?:[Tt ]00:?00(?::?00(?:[.,]0+)?)?(?:{_NO_OFFSET})?)?", re.ASCII)
_MONTH: Final = re.compile(r"\d{4}-\d{2}", re.ASCII)


def instant_of_text(text: str) -> datetime | None:
    """Return the instant of an ISO 8601 text in UTC; None if it is not one.

    A date alone is midnight, a month its first day; without an offset the time is in UTC; `24:00` is the next midnight.
    RFC 3339's space in place of `T`, ` UTC`, ` GMT`, RFC 9557's name of a zone behind the offset, and slashes in place
    of the date's hyphens are accepted. Digits beyond microseconds are cut off, since the tables hold no more.
    """
    found = _INSTANT.fullmatch(_with_day(text))
    if found is None:
        return None
    year, _, month, day, hour, minute, second, fraction, _, sign, hours, minutes = found.groups()
    try:
        at = datetime(int(year), int(month), int(day), tzinfo=UTC)
        if hour is None:
            return at
        clock = int(hour), int(minute or 0), int(second or 0)
        micros = int((fraction or "")[:6].ljust(6, "0"))
        if clock == (24, 0, 0) and not micros:
            return _shifted(at + timedelta(days=1), sign, hours, minutes)
        return _shifted(
            at.replace(hour=clock[0], minute=clock[1], second=clock[2], microsecond=micros), sign, hours, minutes
        )
    except (ValueError, OverflowError):
        return None


def _with_day(text: str) -> str:
    return f"{text}-01" if _MONTH.fullmatch(text) else text


def _shifted(at: datetime, sign: str | None, hours: str | None, minutes: str | None) -> datetime:
    if sign is None or hours is None:
        return at
    offset = timedelta(hours=int(hours), minutes=int(minutes or 0))
    zone = timezone(offset if sign == "+" else -offset)  # a ValueError beyond a day
    if int(minutes or 0) > 59:
        raise ValueError(minutes)
    return at.replace(tzinfo=zone).astimezone(UTC)


def date_of_text(text: str) -> date | None:
    """Return the date of an ISO 8601 text; None if it is not a date.

    A date with a time is accepted only at midnight UTC.
    """
    found = _DAY.fullmatch(_with_day(text))
    if found is None:
        return None
    try:
        return date(int(found[1]), int(found[3]), int(found[4]))
    except ValueError:
        return None


def instant_of_number(number: Decimal, unit: str) -> datetime | None:
    """Return the instant that is `number` units after 1970; None outside years 1 to 9999.

    Digits beyond microseconds are cut off, as of a text: to the earlier microsecond. unit: "s", "ms", "us" or "ns"; or
    DAY or YEAR, where `number` must be whole and the instant is the beginning of the day or of the year.
    """
    if unit == YEAR:
        is_year = number == number.to_integral_value() and FIRST_DATE.year <= number <= LAST_DATE.year
        return datetime(int(number), 1, 1, tzinfo=UTC) if is_year else None
    if unit == DAY:
        is_day = number == number.to_integral_value() and FIRST_DAY <= number <= LAST_DAY
        return EPOCH + timedelta(days=int(number)) if is_day else None
    micros = _EXACT.multiply(number, _MICROS[unit])
    if not micros.is_finite():
        return None
    try:
        return EPOCH + timedelta(microseconds=int(micros.to_integral_value(ROUND_FLOOR)))
    except OverflowError:
        return None


def unit_description(unit: str) -> str:
    """Describe the times of a unit, as they occur in messages and files, in words."""
    if unit == YEAR:
        return "a year"
    return f"a number of {'days' if unit == DAY else unit} since 1970"


def number_of_instant(at: datetime, unit: str) -> str | None:
    """Return an aware datetime as the shortest exact decimal number of units since 1970, or as a year.

    None if the datetime is not the beginning of a day in UTC for DAY, or of a year for YEAR.
    """
    if unit == YEAR:
        utc = at.astimezone(UTC)
        return str(utc.year) if utc == datetime(utc.year, 1, 1, tzinfo=UTC) else None
    micros = (at - EPOCH) // timedelta(microseconds=1)
    if unit == DAY:
        return str(micros // _DAY_MICROS) if micros % _DAY_MICROS == 0 else None
    return format(_EXACT.divide(Decimal(micros), _MICROS[unit]).normalize(_EXACT), "f")
