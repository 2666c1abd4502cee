"""Policy `new_group`: a group without a model has enough rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from spinney.core.staleness.group_state import GroupStates


@dataclass(frozen=True)
class NewGroup:
    """Stale when a group without a model has enough rows for its first one.

    min_rows: of the recipe; mature labelled rows.
    """

    min_rows: int
    name: str = "new_group"

    @property
    def limit(self) -> float:
        """The same limit for every group."""
        return float(self.min_rows)

    def limits(self, groups: GroupStates) -> npt.NDArray[np.float64]:
        """As `Policy.limits`."""
        return np.full(len(groups), self.limit)

    def measure(self, groups: GroupStates, clock: int) -> npt.NDArray[np.float64]:
        """As `Policy.measure`."""
        del clock
        without = (groups["champion_id"] == "") & ~groups.are_parents
        return np.where(without, groups["labelled"].astype(np.float64), np.nan)

    def describe(self, value: float, limit: float) -> str:
        """As `Policy.describe`."""
        return f"no model yet and {value:.0f} labelled rows ({limit:.0f} needed)"
