"""Recognise columns of numbers that are times: numbers since 1970, and years."""

from __future__ import annotations

from spinney.core.config_proposal.column_statistics import ColumnStatistics
from spinney.core.config_proposal.odd_values import as_doubles
from spinney.core.records.time_parsing import EPOCH

YEARS = (1000, 2999)
"""The first and the last number that counts as a year."""

_UNITS = {"s": (1e8, 1e10), "ms": (1e11, 1e13), "us": (1e14, 1e16), "ns": (1e17, 1e19)}
"""Unit -> the numbers since 1970 that lie in the years 1973 to 2286."""

_DAYS = (10_957, 29_220)
"""Days since 1970 in the years 2000 to 2049. The days of spreadsheets count from 1900, so today's are larger."""

_MOST_SINCE_1970 = 0.5


def guess_epoch_unit(column: ColumnStatistics, share: float = 0.9) -> str | None:
    """Return the unit of numbers of which at least `share` may be times since 1970; None if there is no such unit."""
    if not (column.is_whole or column.type == "double" or column.has_whole_texts) or not column.filled:
        return None
    numbers = as_doubles(column.values).dropna()
    shares = {unit: float(numbers.between(*ends, inclusive="left").mean()) for unit, ends in _UNITS.items()}
    return next((unit for unit, found in shares.items() if found >= share), None)


def are_days(column: ColumnStatistics, share: float = 0.9) -> bool:
    """Return whether at least `share` of the values may be days since 1970, as Debezium writes dates."""
    if not (column.is_whole or column.type == "double" or column.has_whole_texts) or not column.filled:
        return False
    numbers = as_doubles(column.values).dropna()
    return bool((numbers.between(*_DAYS) & (numbers % 1 == 0)).mean() >= share)


def are_years(column: ColumnStatistics) -> bool:
    """Return whether all values of a column are years and most are since 1970; events before 1970 are rejected."""
    if not (column.is_whole or column.has_whole_texts) or not column.filled:
        return False
    years = as_doubles(column.values).dropna()
    return bool(years.between(*YEARS).all() and (years >= EPOCH.year).mean() >= _MOST_SINCE_1970)
