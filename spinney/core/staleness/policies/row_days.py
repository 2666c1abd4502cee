"""Policy `row_days`: rows of new labels × days since the last attempt, by which busy groups are refitted more often."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from spinney.core.staleness.group_state import NEVER, GroupStates
from spinney.core.staleness.label_rates import DAY, LabelRates

if TYPE_CHECKING:
    from spinney.core.features.encoding import Floats


@dataclass(frozen=True)
class RowDays:
    """Stale once new rows × days since the last attempt reach a limit, the same for all groups of a shard.

    If the loss per row of a model grows in proportion to its age, a group with r rows a day loses in proportion to r ×
    age² between two refits. For a given number of fits the sum over all groups is least if each is refitted at the same
    rows × age, so at intervals in proportion to 1 / √r. This is the rule of the economic order quantity (F. W. Harris,
    "How many parts to make at once", 1913), here with one price for all groups.

    interval: the limit gives the live groups of a shard as many fits as if each were refitted once per interval, at the
    recent rates of their labels. half_life: of these rates in the state. spread: share by which the intervals of
    equally busy groups differ, by the hash of their keys, so that groups fitted together do not become stale together.
    """

    interval: timedelta
    half_life: timedelta
    spread: float = 0.0
    name: str = "row_days"

    def limits(self, groups: GroupStates) -> Floats:
        """Return each group's limit in row-days; infinite while no rate of labels is known."""
        roots = np.sqrt(LabelRates.of(groups, self.half_life // timedelta(microseconds=1)).per_day)
        if not len(roots):
            return np.full(len(groups), np.inf)
        intervals = self.interval / timedelta(days=1) * (1.0 + self.spread * (0.5 - groups.key_shares))
        return np.asarray((intervals * float(roots.mean())) ** 2)

    def measure(self, groups: GroupStates, clock: int) -> Floats:
        """Return new rows × days since each group's last attempt; NaN without a model or an attempt."""
        has_age = (groups["champion_id"] != "") & (groups["attempted_at"] != NEVER) & ~groups.are_parents
        return np.where(has_age, groups["rows_since"] * ((clock - groups["attempted_at"]) / DAY), np.nan)

    def describe(self, value: float, limit: float) -> str:
        """Return a group's measure and limit as part of a sentence."""
        return f"new rows × days since the last attempt are {value:.3g} (limit {limit:.3g}, as for all groups)"
