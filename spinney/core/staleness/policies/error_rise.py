from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from spinney.core.staleness.group_state import Groups


@dataclass(frozen=True)
class ErrorRise:
    """Stale once the champion's recent mean loss is `factor` times what it was on its held-out rows.

    The recent mean is exponentially weighted with a memory of `rows` rows, and speaks only after as many rows: the
    first few labels of a champion are too few to accuse it. A champion without any held-out error cannot be measured by
    a factor: the other policies watch over it.
    """

    factor: float
    rows: int
    name: str = "error_rise"

    @property
    def limit(self) -> float:
        return self.factor

    def limits(self, groups: Groups) -> npt.NDArray[np.float64]:
        return np.full(len(groups), self.limit)

    def measure(self, groups: Groups, clock: int) -> npt.NDArray[np.float64]:
        del clock
        enough = (groups["champion_rows"] >= self.rows) & (groups["baseline"] > 0) & (groups["recent_weight"] > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            recent = groups["recent_loss"] / groups["recent_weight"]
            return np.where(enough, recent / groups["baseline"], np.nan)

    def words(self, value: float, limit: float) -> str:
        return f"recent error is {value:.2f} times that of the held-out rows (limit {limit:g})"
