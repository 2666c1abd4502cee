"""Policy `error_rise`: the champion's error has risen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from spinney.core.staleness.group_state import GroupStates


@dataclass(frozen=True)
class ErrorRise:
    """Stale once the champion's recent mean loss is `factor` times its mean loss on its held-out rows.

    The recent mean is exponentially weighted over `rows` rows, and applies only after that many rows, since the first
    labels of a champion are few. A champion without a held-out error has no factor: only the other policies apply.
    """

    factor: float
    rows: int
    name: str = "error_rise"

    @property
    def limit(self) -> float:
        """The same limit for every group."""
        return self.factor

    def limits(self, groups: GroupStates) -> npt.NDArray[np.float64]:
        """As `Policy.limits`."""
        return np.full(len(groups), self.limit)

    def measure(self, groups: GroupStates, clock: int) -> npt.NDArray[np.float64]:
        """As `Policy.measure`."""
        del clock
        enough = (groups["champion_rows"] >= self.rows) & (groups["baseline"] > 0) & (groups["recent_weight"] > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            recent = groups["recent_loss"] / groups["recent_weight"]
            return np.where(enough, recent / groups["baseline"], np.nan)

    def describe(self, value: float, limit: float) -> str:
        """As `Policy.describe`."""
        return f"recent error is {value:.2f} times that of the held-out rows (limit {limit:g})"
