from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt

from spinney.core.groups import NEVER, Groups

MICROSECONDS_A_DAY = 86_400e6


@dataclass(frozen=True)
class MaxAge:
    """Stale once this long has passed since the last attempt, by the fleet's clock.

    The last attempt counts, not the last promotion: a refused challenger is not fitted again at every tick.
    """

    max_age: timedelta
    name: str = "max_age"

    @property
    def limit(self) -> float:
        return self.max_age.total_seconds() * 1e6

    def measure(self, groups: Groups, clock: int) -> npt.NDArray[np.float64]:
        has_age = (groups["champion_id"] != "") & (groups["attempted_at"] != NEVER)
        return np.where(has_age, (clock - groups["attempted_at"]).astype(np.float64), np.nan)

    def words(self, value: float) -> str:
        days, limit = value / MICROSECONDS_A_DAY, self.limit / MICROSECONDS_A_DAY
        return f"{days:.1f} days since the last attempt (limit {limit:g})"
