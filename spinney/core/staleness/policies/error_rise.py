"""Policy `error_rise`: the champion's error has risen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spinney.core.durations import format_duration
from spinney.core.staleness.evidence.error_evidence import LIMIT
from spinney.core.staleness.verdicts import ERROR_RISE

if TYPE_CHECKING:
    from spinney.core.staleness.group_state import GroupStates


@dataclass(frozen=True)
class ErrorRise:
    """Stale once there is enough evidence that the champion's losses are larger than they were.

    The evidence is that of a sequential test (`spinney.core.staleness.evidence.error_evidence`). A group that does not
    change is stale by it at most once per `patience`, on average.
    """

    patience: timedelta
    name: str = ERROR_RISE

    @property
    def limit(self) -> float:
        """The same limit for every group."""
        return LIMIT

    def limits(self, groups: GroupStates) -> npt.NDArray[np.float64]:
        """Return the same limit of evidence for each group."""
        return np.full(len(groups), self.limit)

    def measure(self, groups: GroupStates, clock: int) -> npt.NDArray[np.float64]:
        """Return the evidence that each champion's error has risen; NaN without a model."""
        del clock
        return np.where(groups["champion_id"] != "", groups["evidence"], np.nan)

    def describe(self, value: float, limit: float) -> str:
        """Return a group's measure and limit as part of a sentence."""
        patience = format_duration(self.patience)
        return f"evidence of a risen error is {value:.3g} (limit {limit:g}: a false alarm per {patience} at most)"
