from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from spinney.core.staleness.group_state import Groups


@dataclass(frozen=True)
class NewGroup:
    """Stale when a group without a model has enough rows for its first.

    min_rows: mature labelled rows, the recipe's own least number.
    """

    min_rows: int
    name: str = "new_group"

    @property
    def limit(self) -> float:
        return float(self.min_rows)

    def limits(self, groups: Groups) -> npt.NDArray[np.float64]:
        return np.full(len(groups), self.limit)

    def measure(self, groups: Groups, clock: int) -> npt.NDArray[np.float64]:
        del clock
        without = (groups["champion_id"] == "") & ~groups.are_parents
        return np.where(without, groups["labelled"].astype(np.float64), np.nan)

    def words(self, value: float, limit: float) -> str:
        return f"no model yet and {value:.0f} labelled rows ({limit:.0f} needed)"
