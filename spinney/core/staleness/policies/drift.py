"""Policy `drift`: the champion's predictions are distributed differently from those that were stored with it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spinney.core.durations import format_duration
from spinney.core.staleness.evidence.error_evidence import LIMIT
from spinney.core.staleness.verdicts import DRIFT

if TYPE_CHECKING:
    from spinney.core.staleness.group_state import GroupStates


@dataclass(frozen=True)
class Drift:
    """Stale once there is enough evidence that predictions lie farther out than those stored with the champion.

    The evidence is that of a sequential test (`spinney.core.staleness.evidence.prediction_drift`), which needs no
    labels. A group whose predictions do not change is stale by it at most once per `patience`, on average.
    """

    patience: timedelta
    name: str = DRIFT

    def limits(self, groups: GroupStates) -> npt.NDArray[np.float64]:
        """Return the same limit of evidence for each group."""
        return np.full(len(groups), LIMIT)

    def measure(self, groups: GroupStates, clock: int) -> npt.NDArray[np.float64]:
        """Return the evidence that each champion's predictions have drifted; NaN without a model."""
        del clock
        return np.where(groups["champion_id"] != "", groups["drift"], np.nan)

    def describe(self, value: float, limit: float) -> str:
        """Return a group's measure and limit as part of a sentence."""
        patience = format_duration(self.patience)
        return f"evidence of drifted predictions is {value:.3g} (limit {limit:g}: a false alarm per {patience} at most)"
