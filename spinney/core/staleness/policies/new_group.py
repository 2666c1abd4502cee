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
        """Return the rows that a group needs, the same for each."""
        return np.full(len(groups), self.limit)

    def measure(self, groups: GroupStates, clock: int) -> npt.NDArray[np.float64]:
        """Return the labelled rows of each group without a model; NaN for others."""
        del clock
        without = (groups["champion_id"] == "") & ~groups.are_parents
        return np.where(without, groups["labelled"].astype(np.float64), np.nan)

    def describe(self, value: float, limit: float) -> str:
        """Return a group's measure and limit as part of a sentence."""
        return f"no model yet and {value:.0f} labelled rows ({limit:.0f} needed)"
