"""The time that the error of the changed groups takes to recover from the injected change.

The rows of all changed groups are pooled. At every full hour after the change, the mean loss of the rows of the 24
hours before it (by event time) is compared with a limit: RECOVERY_FACTOR times the mean loss of the streamed rows
before the change. The error has recovered at the first hour from which it stays below the limit for 24 hours, or until
the end of the demo. The first 24 hours do not count, since their window contains rows from before the change.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from spinney.core.features.encoding import Floats

RECOVERY_FACTOR = 1.5
"""The error has recovered if it is at most this many times the mean loss before the change."""

WINDOW = timedelta(hours=24)
MIN_RECOVERED_TIME = timedelta(hours=24)
MIN_WINDOW_ROWS = 10
"""Hours with fewer rows in their window are ignored."""


@dataclass(frozen=True)
class Recovery:
    """The recovery of an error from a change.

    before: mean loss before the change; None without rows. hours: hours of event time until it recovered; None: not
    within the demo. line: (hours since the change, mean loss of the 24 hours before), every hour from a day before the
    change on.
    """

    before: float | None
    hours: int | None
    line: tuple[tuple[int, float], ...]


def measure_recovery(times: pd.Series, losses: Floats, change_at: datetime, end: datetime) -> Recovery:
    """Compare the error after a change with that before it.

    times, losses: event time and loss of each row of the changed groups, any order. end: of the demo.
    """
    since = np.asarray((times - change_at).dt.total_seconds(), dtype=np.float64) / 3600.0
    known = np.isfinite(losses)
    order = np.argsort(since[known], kind="stable")
    hours_of, loss_function = since[known][order], losses[known][order]
    past = loss_function[hours_of < 0]
    last = int((end - change_at) / timedelta(hours=1))
    line = _line(hours_of, loss_function, last)
    if not len(past):
        return Recovery(None, None, line)
    before = float(past.mean())
    return Recovery(before, _recovered(line, RECOVERY_FACTOR * before), line)


def _line(hours_of: Floats, loss_function: Floats, last: int) -> tuple[tuple[int, float], ...]:
    width = int(WINDOW / timedelta(hours=1))
    total = np.concatenate([[0.0], np.cumsum(loss_function)])
    points = []
    for hour in range(-width, last + 1):
        low, high = np.searchsorted(hours_of, [hour - width, hour], side="left")
        if high - low >= MIN_WINDOW_ROWS:
            points.append((hour, float((total[high] - total[low]) / (high - low))))
    return tuple(points)


def _recovered(line: tuple[tuple[int, float], ...], limit: float) -> int | None:
    first, stays = int(WINDOW / timedelta(hours=1)), int(MIN_RECOVERED_TIME / timedelta(hours=1))
    after = [(hour, loss) for hour, loss in line if hour >= first]
    for at, (hour, _) in enumerate(after):
        rest = [loss for later, loss in after[at:] if later <= hour + stays]
        if all(loss < limit for loss in rest):
            return hour
    return None
