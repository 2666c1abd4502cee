"""Choose the window of a recipe so that a typical group has enough rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pandas as pd

from spinney.core import durations
from spinney.core.config.sections import Recipe
from spinney.core.proposal.column_statistics import ColumnStatistics, parse_times
from spinney.core.proposal.guesses import Guess
from spinney.core.proposal.odd_values import as_doubles
from spinney.core.records.time_parsing import EPOCH, PER_SECOND, YEAR

DEFAULT_WINDOW: timedelta = Recipe.model_fields["window"].default
DEFAULT_ROWS: int = Recipe.model_fields["min_rows"].default
_WINDOWS = tuple(timedelta(days=days) for days in (180, 365, 730, 1825, 3650, 7300, 18250, 36500))

_YEAR_SECONDS = 365.2425 * 86_400
_LATEST_SECOND = 9.2e9
"""Since 1970; pandas' times end in 2262."""


@dataclass(frozen=True)
class Window:
    """Keys of `[recipe]` with a reason; None if the default is suitable, or nothing is known."""

    window: str | None = None
    min_rows: int | None = None
    reason: str = ""


def choose_window(time: Guess, group: Guess, rows: pd.Series[Any]) -> Window:
    """Return the shortest window that holds `min_rows` rows of the median group.

    rows: mask of the rows that count: those with a label. The window ends at the newest time of all groups.
    """
    if not time.columns or not group.columns:
        return Window()
    times = _instants(time.columns[0], time.unit)
    keys = pd.Series(list(zip(*(column.values.astype(str) for column in group.columns), strict=True)), index=rows.index)
    frame = pd.DataFrame({"key": keys, "at": times.set_axis(rows.index)})[rows].dropna()
    frame = frame[frame["at"] >= EPOCH]  # earlier ones are rejected
    if frame.empty:
        return Window()
    age = frame["at"].max() - frame["at"]

    def typical(window: timedelta) -> int:
        held = frame["key"][age <= window].value_counts()
        return int(held.reindex(frame["key"].unique(), fill_value=0).median())

    usual = typical(DEFAULT_WINDOW)
    if usual >= DEFAULT_ROWS:
        return Window()
    for window in _WINDOWS:
        if (held := typical(window)) >= DEFAULT_ROWS:
            reason = f"the newest {DEFAULT_WINDOW.days} days hold {usual} rows of a typical group, these {held}"
            return Window(durations.render(window), reason=reason)
    whole = int(frame["key"].value_counts().median())
    window = next((candidate for candidate in (DEFAULT_WINDOW, *_WINDOWS) if candidate >= age.max()), durations.LONGEST)
    reason = f"a typical group has {whole} rows here: too few to judge a model well"
    return Window(durations.render(window), max(1, whole // 2), reason)


def _instants(column: ColumnStatistics, unit: str | None) -> pd.Series[Any]:
    if unit is None:
        return parse_times(column)
    numbers = as_doubles(column.values)
    seconds = (numbers - EPOCH.year) * _YEAR_SECONDS if unit == YEAR else numbers / PER_SECOND[unit]
    # pandas raises for a number that 64 bits do not hold, with errors="coerce" too.
    return pd.to_datetime(seconds.where(seconds.abs() < _LATEST_SECOND), unit="s", utc=True, errors="coerce")
