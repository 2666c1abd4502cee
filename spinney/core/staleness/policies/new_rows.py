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
    """Stale once enough mature labelled rows have arrived since the last attempt.

    rows: their number. growth: a share of the rows that the last model was fitted on, if rows is None. The excess loss
    of a model fitted on n rows is about inversely proportional to n, so a young group gains most from new rows, and
    equal ratios of rows gain equally in proportion. By growth a group has at most log(rows / growth) / log(1 + growth)
    refits until it has that many rows. Where the rows of the last fit are not known there is no limit.
    """

    rows: int | None = None
    growth: float = 1.0
    name: str = "new_rows"

    def limits(self, groups: GroupStates) -> npt.NDArray[np.float64]:
        """Return how many new rows make each group stale; infinite where the rows of the last fit are not known."""
        if self.rows is not None:
            return np.full(len(groups), float(self.rows))
        fitted = groups["fitted_rows"].astype(np.float64)
        return np.where(fitted > 0, np.maximum(np.ceil(self.growth * fitted), 1.0), np.inf)

    def measure(self, groups: GroupStates, clock: int) -> npt.NDArray[np.float64]:
        """Return the rows that came since each group's last attempt; NaN without a model."""
        del clock
        has_model = groups["champion_id"] != ""
        return np.where(has_model, groups["rows_since"].astype(np.float64), np.nan)

    def describe(self, value: float, limit: float) -> str:
        """Return a group's measure and limit as part of a sentence."""
        return f"{value:.0f} new rows since the last attempt (limit {limit:.0f})"
