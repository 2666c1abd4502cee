from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt

from spinney.core.durations import format_duration
from spinney.core.staleness.group_state import NEVER, Groups


@dataclass(frozen=True)
class MaxAge:
    """Stale once a group's last attempt is older than its deadline, by the fleet's clock.

    spread: share of max_age, 0 to below 1. A group's deadline is max_age minus a part of this share that is chosen by
    the hash of its key, so groups that were all attempted by one batch become stale one after the other, and none later
    than max_age. The last attempt counts, not the last promotion: a refused challenger is not fitted again at every
    tick.
    """

    max_age: timedelta
    spread: float = 0.0
    name: str = "max_age"

    @property
    def limit(self) -> float:
        """The latest deadline, microseconds."""
        return self.max_age.total_seconds() * 1e6

    def limits(self, groups: Groups) -> npt.NDArray[np.float64]:
        return self.limit * (1.0 - self.spread * groups.key_shares)

    def measure(self, groups: Groups, clock: int) -> npt.NDArray[np.float64]:
        has_age = (groups["champion_id"] != "") & (groups["attempted_at"] != NEVER)
        return np.where(has_age, (clock - groups["attempted_at"]).astype(np.float64), np.nan)

    def words(self, value: float, limit: float) -> str:
        age, deadline, latest = (format_duration(timedelta(microseconds=each)) for each in (value, limit, self.limit))
        if not self.spread:
            return f"{age} since the last attempt (limit {latest})"
        return f"{age} since the last attempt (its deadline is {deadline}, at most {latest})"
