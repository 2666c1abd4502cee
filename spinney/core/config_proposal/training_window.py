"""Choose the window of a recipe so that a typical group has enough rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd

from spinney.core import durations
from spinney.core.config.sections import Recipe
from spinney.core.config_proposal.column_statistics import ColumnStatistics, parse_times
from spinney.core.config_proposal.guesses import Guess
from spinney.core.config_proposal.odd_values import as_doubles
from spinney.core.records.time_parsing import DAY, DAY_SECONDS, EPOCH, PER_SECOND, YEAR

DEFAULT_WINDOW: timedelta = Recipe.model_fields["window"].default
DEFAULT_ROWS: int = Recipe.model_fields["min_rows"].default
_WINDOWS = tuple(timedelta(days=days) for days in (180, 365, 730, 1825, 3650, 7300, 18250, 36500))

_YEAR_SECONDS = 365.2425 * 86_400
_LATEST_SECOND = 9.2e9
"""Since 1970; pandas' times end in 2262."""

_IN_ORDER = 0.75
"""Of time and place of rows: least rank correlation. Many rows of one time lower it a little."""

WANTED_ROWS = 300
"""Rows that a window should hold of a typical group, if the data has so many (decision 0054)."""


@dataclass(frozen=True)
class Window:
    """Keys of `[recipe]` with a reason; None if the default is suitable, or nothing is known."""

    window: str | None = None
    min_rows: int | None = None
    reason: str = ""


def choose_window(time: Guess, group: Guess, rows: pd.Series[Any], *, is_beginning: bool = False) -> Window:
    """Return the shortest window that holds WANTED_ROWS rows of the median group, or as many as there are.

    A window that held `min_rows` and no more would leave groups without a model as soon as a few rows are late, and
    would forget all but 20 rows of a history of any length.

    rows: mask of the rows to count, those with a label. is_beginning: whether these are the first rows of more, so that
    a longer window holds more than can be seen here. The window ends at the newest time of all groups.
    """
    ages = _ages(time, group, rows)
    if ages.empty:
        return Window()
    counts = _TypicalRows(ages, is_beginning=is_beginning and _are_in_order_of_time(ages["age"]))
    usual = counts.within(DEFAULT_WINDOW)
    if usual >= WANTED_ROWS:
        return Window()
    longest = max(counts.within(window) for window in _WINDOWS)
    wanted = min(WANTED_ROWS, longest)
    if usual >= max(wanted, DEFAULT_ROWS):
        return Window()
    if wanted >= DEFAULT_ROWS:
        window, held = next((window, held) for window in _WINDOWS if (held := counts.within(window)) >= wanted)
        return Window(durations.render(window), reason=counts.reason(usual, held))
    whole, candidates = counts.whole, (DEFAULT_WINDOW, *_WINDOWS)
    window = next((candidate for candidate in candidates if candidate >= counts.span), durations.LONGEST)
    reason = f"a typical group has {whole} rows here: too few to judge a model well"
    return Window(durations.render(window), max(1, whole // 2), reason)


@dataclass(frozen=True)
class _TypicalRows:
    """Counts the rows of the median group.

    ages: `key` and `age` of each row, before the newest of all. is_beginning: whether rows in the order of time were
    cut off after these, so that windows longer than their span are counted by their rate.
    """

    ages: pd.DataFrame
    is_beginning: bool

    @property
    def span(self) -> timedelta:
        """From the oldest to the newest row."""
        longest: timedelta = self.ages["age"].max().to_pytimedelta()
        return longest

    @property
    def whole(self) -> int:
        """Rows of the median group."""
        return int(self.ages["key"].value_counts().median())

    def within(self, window: timedelta) -> int:
        """Return how many rows of the median group a window holds."""
        if self.is_beginning and window > self.span > timedelta(0):
            return int(self.whole * (window / self.span))
        held = self.ages["key"][self.ages["age"] <= window].value_counts()
        return int(held.reindex(self.ages["key"].unique(), fill_value=0).median())

    def reason(self, usual: int, held: int) -> str:
        """Return why a window was chosen. usual: rows in the default window, held: in the chosen one."""
        by_rate = f", by the rate of the first {len(self.ages):,} rows" if self.is_beginning else ""
        return f"the newest {DEFAULT_WINDOW.days} days hold {usual} rows of a typical group, these {held}{by_rate}"


def _ages(time: Guess, group: Guess, rows: pd.Series[Any]) -> pd.DataFrame:
    """Return `key` and `age` of the rows to count, in their order; empty if there is no time or no group."""
    if not time.columns or not group.columns:
        return pd.DataFrame()
    times = _instants(time.columns[0], time.unit)
    keys = pd.Series(list(zip(*(column.values.astype(str) for column in group.columns), strict=True)), index=rows.index)
    frame = pd.DataFrame({"key": keys, "at": times.set_axis(rows.index)})[rows].dropna()
    frame = frame[frame["at"] >= EPOCH]  # earlier ones are rejected
    return pd.DataFrame({"key": frame["key"], "age": frame["at"].max() - frame["at"]})


def _are_in_order_of_time(ages: pd.Series[Any]) -> bool:
    """Return whether rows come in the order of time, by Spearman's rank correlation. Sorted by k groups it is 1 / k."""
    return bool(ages.rank().corr(pd.Series(np.arange(float(len(ages))), index=ages.index)) < -_IN_ORDER)


def _instants(column: ColumnStatistics, unit: str | None) -> pd.Series[Any]:
    if unit is None:
        return parse_times(column)
    numbers = as_doubles(column.values)
    if unit == YEAR:
        seconds = (numbers - EPOCH.year) * _YEAR_SECONDS
    else:
        seconds = numbers * DAY_SECONDS if unit == DAY else numbers / PER_SECOND[unit]
    # pandas raises for a number that 64 bits do not hold, with errors="coerce" too.
    return pd.to_datetime(seconds.where(seconds.abs() < _LATEST_SECOND), unit="s", utc=True, errors="coerce")
