"""Policy `row_days`: rows of new labels × days since the last attempt, by which busy groups are refitted more often."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spinney.core.staleness.group_state import NEVER, GroupStates

if TYPE_CHECKING:
    from spinney.core.features.encoding import Floats

DAY = 86_400_000_000

ROOT_OFFSET = 0.25
"""Added to a Poisson count, its square root is almost unbiased for the root of the mean (Brown, Cai, Zhang, Zhao and
Zhou, "The root-unroot algorithm for density estimation", Probability Theory and Related Fields 146, 2010)."""


@dataclass(frozen=True)
class RowDays:
    """Stale once new rows × days since the last attempt reach a limit, the same for all groups of a shard.

    If the loss per row of a model grows in proportion to its age, a group with r rows a day loses in proportion to
    r × age² between two refits. For a given number of fits the sum over all groups is least if each is refitted at the
    same rows × age, so at intervals in proportion to 1 / √r. This is the rule of the economic order quantity (F. W.
    Harris, "How many parts to make at once", 1913), here with one price for all groups.

    interval: the limit is such that a shard has as many fits as if each group were refitted once in this time. spread:
    share by which the intervals of equally busy groups differ, by the hash of their keys, so that groups fitted
    together do not become stale together.
    """

    interval: timedelta
    spread: float = 0.0
    name: str = "row_days"

    def limits(self, groups: GroupStates) -> Floats:
        """As `Policy.limits`, row-days; infinite while no rate of labels is known."""
        roots = _rate_roots(groups)
        if not len(roots):
            return np.full(len(groups), np.inf)
        intervals = self.interval / timedelta(days=1) * (1.0 + self.spread * (0.5 - groups.key_shares))
        return np.asarray((intervals * float(roots.mean())) ** 2)

    def measure(self, groups: GroupStates, clock: int) -> Floats:
        """As `Policy.measure`, row-days."""
        has_age = (groups["champion_id"] != "") & (groups["attempted_at"] != NEVER) & ~groups.are_parents
        return np.where(has_age, groups["rows_since"] * ((clock - groups["attempted_at"]) / DAY), np.nan)

    def describe(self, value: float, limit: float) -> str:
        """As `Policy.describe`."""
        return f"new rows × days since the last attempt are {value:.3g} (limit {limit:.3g}, as for all groups)"


def _rate_roots(groups: GroupStates) -> Floats:
    """The square roots of the labels a day of groups with a champion, over the time since their first label."""
    is_known: npt.NDArray[np.bool_] = (groups["champion_id"] != "") & (groups["labelled_from"] != NEVER)
    known = np.flatnonzero(is_known & ~groups.are_parents)
    if not len(known):
        return np.empty(0)
    days = (groups["labelled_at"][known].max() - groups["labelled_from"][known]) / DAY
    return np.asarray(np.sqrt((groups["labelled"][known] + ROOT_OFFSET) / np.maximum(days, 1.0)))
