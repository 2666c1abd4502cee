"""Datetimes and whole microseconds since 1970, UTC.

Times are passed from Spark to Python as microseconds: a datetime collected by PySpark is naive and in the zone of the
process.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def from_microseconds(microseconds: int) -> datetime:
    """Return the datetime in UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)


def to_microseconds(at: datetime) -> int:
    """Return the microseconds since 1970 of an aware datetime."""
    return (at - _EPOCH) // timedelta(microseconds=1)
