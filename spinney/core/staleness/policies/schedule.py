"""Policy `schedule`: a boundary of a regular period has passed since the last attempt."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spinney.core.durations import format_duration
from spinney.core.staleness.group_state import NEVER

if TYPE_CHECKING:
    from spinney.core.staleness.group_state import GroupStates

MONDAY = 4 * 86_400_000_000
"""1970-01-05T00:00Z, microseconds: the first Monday. Periods of whole weeks begin on Mondays, of days at midnight."""


@dataclass(frozen=True)
class Schedule:
    """Stale once a boundary of the period has passed since a group's last attempt, by the fleet's clock.

    period: the boundaries are its multiples since MONDAY, in UTC. Unlike `max_age`, which counts from each group's own
    attempt, all groups become stale at the boundary; the budget spreads their fits.
    """

    period: timedelta
    name: str = "schedule"

    def limits(self, groups: GroupStates) -> npt.NDArray[np.float64]:
        """Return 1 for each group: it is stale after one boundary."""
        return np.ones(len(groups))

    def measure(self, groups: GroupStates, clock: int) -> npt.NDArray[np.float64]:
        """Return how many boundaries of the period have passed since each group's last attempt; NaN without a model or
        an attempt.

        clock: the fleet's, microseconds.
        """
        period = round(self.period.total_seconds() * 1e6)
        has_attempt = (groups["champion_id"] != "") & (groups["attempted_at"] != NEVER)
        passed = (clock - MONDAY) // period - (groups["attempted_at"] - MONDAY) // period
        return np.where(has_attempt, passed.astype(np.float64), np.nan)

    def describe(self, value: float, limit: float) -> str:
        """Return a group's measure and limit as part of a sentence."""
        del limit
        ends = "a period has" if value == 1 else f"{value:.0f} periods have"
        return f"{ends} ended since the last attempt (every {format_duration(self.period)})"
