"""When the error of the changed groups has recovered, and the line it goes down on.

The rows of all changed groups are pooled. At every full hour after the change, the mean loss of the rows of the 24
hours before it (by event time) is compared with RECOVERED times the mean loss of the streamed rows before the change.
Recovered is the first hour from which it stays below, hour by hour, for the next 24 hours (or to the end of the demo,
if that comes sooner). The first 24 hours do not count: their window would reach back behind the change.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from spinney.core.features.encoding import Floats

RECOVERED = 1.5
"""Times the mean loss before the change."""

WINDOW = timedelta(hours=24)
STAYS = timedelta(hours=24)
FEWEST_ROWS = 10
"""In a window; an hour with fewer rows says nothing and is passed over."""


@dataclass(frozen=True)
class Recovery:
    """before: mean loss before the change; None without rows. hours: until recovered; None: not within the demo.

    line: (hours since the change, mean loss of the 24 hours before), every hour from a day before the change on.
    """

    before: float | None
    hours: int | None
    line: tuple[tuple[int, float], ...]


def recovery(times: pd.Series, losses: Floats, change_at: datetime, end: datetime) -> Recovery:
    """Return how a change was recovered from.

    times, losses: event time and loss of each row of the changed groups, any order. end: of the demo.
    """
    since = np.asarray((times - change_at).dt.total_seconds(), dtype=np.float64) / 3600.0
    known = np.isfinite(losses)
    order = np.argsort(since[known], kind="stable")
    hours_of, loss_of = since[known][order], losses[known][order]
    past = loss_of[hours_of < 0]
    last = int((end - change_at) / timedelta(hours=1))
    line = _line(hours_of, loss_of, last)
    if not len(past):
        return Recovery(None, None, line)
    before = float(past.mean())
    return Recovery(before, _recovered(line, RECOVERED * before), line)


def _line(hours_of: Floats, loss_of: Floats, last: int) -> tuple[tuple[int, float], ...]:
    width = int(WINDOW / timedelta(hours=1))
    total = np.concatenate([[0.0], np.cumsum(loss_of)])
    points = []
    for hour in range(-width, last + 1):
        low, high = np.searchsorted(hours_of, [hour - width, hour], side="left")
        if high - low >= FEWEST_ROWS:
            points.append((hour, float((total[high] - total[low]) / (high - low))))
    return tuple(points)


def _recovered(line: tuple[tuple[int, float], ...], limit: float) -> int | None:
    first, stays = int(WINDOW / timedelta(hours=1)), int(STAYS / timedelta(hours=1))
    after = [(hour, loss) for hour, loss in line if hour >= first]
    for at, (hour, _) in enumerate(after):
        rest = [loss for later, loss in after[at:] if later <= hour + stays]
        if all(loss < limit for loss in rest):
            return hour
    return None
