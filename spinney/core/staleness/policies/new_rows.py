"""Policy `new_rows`: enough new rows have arrived."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from spinney.core.staleness.group_state import GroupStates


@dataclass(frozen=True)
class NewRows:
    """Stale once this many mature labelled rows have arrived since the last attempt."""

    rows: int
    name: str = "new_rows"

    @property
    def limit(self) -> float:
        """The same limit for every group."""
        return float(self.rows)

    def limits(self, groups: GroupStates) -> npt.NDArray[np.float64]:
        """As `Policy.limits`."""
        return np.full(len(groups), self.limit)

    def measure(self, groups: GroupStates, clock: int) -> npt.NDArray[np.float64]:
        """As `Policy.measure`."""
        del clock
        has_model = groups["champion_id"] != ""
        return np.where(has_model, groups["rows_since"].astype(np.float64), np.nan)

    def describe(self, value: float, limit: float) -> str:
        """As `Policy.describe`."""
        return f"{value:.0f} new rows since the last attempt (limit {limit:.0f})"
