"""Times of each group's last events and labels, which show that labels have stopped."""

from __future__ import annotations

import numpy as np

from spinney.core.staleness.group_state import NEVER, GroupStates
from spinney.core.staleness.health_rows import HealthRows

STEP = 6 * 3_600_000_000
"""Event times are rounded down to multiples of this, microseconds, so that not every event changes the stored state."""


def note_arrivals(groups: GroupStates, health: HealthRows) -> None:
    """Update event_at, labelled_at and labelled_from in place, whatever the order of rows.

    health: rows of groups.
    """
    if not len(health):
        return
    at = groups.positions_of(health.group_key.tolist())
    times = health.last_event_time // STEP * STEP
    is_labelled = health.labelled > 0
    np.maximum.at(groups["event_at"], at, times)
    at, times = at[is_labelled], times[is_labelled]
    np.maximum.at(groups["labelled_at"], at, times)
    first = groups["labelled_from"]
    earliest = np.where(first == NEVER, np.iinfo(np.int64).max, first)
    np.minimum.at(earliest, at, times)
    first[at] = earliest[at]
