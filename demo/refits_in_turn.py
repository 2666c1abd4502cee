"""Refit groups in turn: always those that have waited longest, with as many fits as another fleet had."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import pandas as pd

INTERVAL = timedelta(hours=6)
"""Time between two rounds."""

FitGroups = Callable[[datetime, Sequence[str]], Mapping[str, str]]
"""Takes a time and group keys, and returns group key -> model id of each that could be fitted."""


RefitSchedule = dict[datetime, Mapping[str, str]]
"""Time of a refit -> group or parent key -> model id of each that was fitted."""


def fit_in_turn(known_at: pd.Series, span: tuple[datetime, datetime], fits: int, fit: FitGroups) -> RefitSchedule:
    """Fit the groups that have waited longest, at each INTERVAL after the start of the span, and return the models.

    A group takes part once it has a new row: one that became known since its last attempt. The fits are spread evenly.
    Where fewer groups have a new row, later rounds take more.

    known_at: when each row may be used, indexed by its group's key. span: start, at which all groups were fitted, and
    end. fits: the number of fits in all; fewer if there are not enough new rows.
    """
    start, end = span
    count = max(0, -(-(end - start) // INTERVAL) - 1)
    attempted: dict[str, datetime] = {}
    made: RefitSchedule = {}
    done = 0
    for nth in range(1, count + 1):
        at = start + nth * INTERVAL
        newest = known_at[known_at <= at].groupby(level=0).max()
        last = pd.Series(attempted, dtype=known_at.dtype).reindex(newest.index).fillna(start)
        waiting = sorted(last[newest > last].items(), key=lambda item: (item[1], zlib.crc32(str(item[0]).encode())))
        chosen = [str(key) for key, _ in waiting[: fits * nth // count - done]]
        made[at] = fit(at, chosen) if chosen else {}
        attempted.update(dict.fromkeys(chosen, at))
        done += len(made[at])
    return made
