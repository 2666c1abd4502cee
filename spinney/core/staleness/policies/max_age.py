"""Policy `max_age`: the last attempt is too long ago."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt

from spinney.core.durations import format_duration
from spinney.core.staleness.group_state import NEVER, GroupStates
from spinney.core.staleness.verdicts import MAX_AGE


@dataclass(frozen=True)
class MaxAge:
    """Stale once a group's last attempt is older than its deadline, by the fleet's clock.

    spread: share of max_age, in [0, 1). A group's deadline is up to this share earlier than max_age, by the hash of its
    key, so that groups attempted by one batch become stale one after the other, and none later than max_age. The age
    counts from the last attempt, not the last promotion, so that a refused challenger is not fitted again at once.
    """

    max_age: timedelta
    spread: float = 0.0
    name: str = MAX_AGE

    @property
    def limit(self) -> float:
        """The latest deadline, microseconds."""
        return self.max_age.total_seconds() * 1e6

    def limits(self, groups: GroupStates) -> npt.NDArray[np.float64]:
        """Return each group's deadline, microseconds since its last attempt."""
        return self.limit * (1.0 - self.spread * groups.key_shares)

    def measure(self, groups: GroupStates, clock: int) -> npt.NDArray[np.float64]:
        """Return the time since each group's last attempt, microseconds; NaN without a model or an attempt."""
        has_age = (groups["champion_id"] != "") & (groups["attempted_at"] != NEVER)
        return np.where(has_age, (clock - groups["attempted_at"]).astype(np.float64), np.nan)

    def describe(self, value: float, limit: float) -> str:
        """Return a group's measure and limit as part of a sentence."""
        durations = (timedelta(microseconds=duration) for duration in (value, limit, self.limit))
        age, deadline, latest = map(format_duration, durations)
        if not self.spread:
            return f"{age} since the last attempt (limit {latest})"
        return f"{age} since the last attempt (its deadline is {deadline}, at most {latest})"
