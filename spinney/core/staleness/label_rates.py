"""The recent rate of each group's labels, by an exponentially decayed count.

`row_days` tells busy groups from quiet ones by it, and `no_labels` how long a group usually waits for a label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spinney.core.staleness.group_state import NEVER, GroupStates

if TYPE_CHECKING:
    from spinney.core.staleness.evidence.loss_samples import Floats, Positions

Integers = npt.NDArray[np.int64]

DAY = 86_400_000_000

STEPS = 64
"""Times are rounded down to the half-life divided by this number, so that the stored columns compress well."""

SHORTEST_SPAN = 1 / 16
"""A rate is taken over at least this time, in half-lives, so that a first label has little effect on it."""

LIVE_HALF_LIVES = 2
"""A group whose newest label is older than this, in half-lives, counts as silent: its rate is unknown."""

ROOT_OFFSET = 0.25
"""Added to a Poisson count, its square root is almost unbiased for the root of the mean (Brown, Cai, Zhang, Zhao and
Zhou, "The root-unroot algorithm for density estimation", Probability Theory and Related Fields 146, 2010)."""


def count_recent(groups: GroupStates, at: Positions, times: Integers, labelled: Integers, half_life: int) -> None:
    """Add labels to the decayed counts `recent_labels`, in place, whatever the order of rows.

    A label weighs 1 at the time of the group's newest label, and half of that for each half-life that it is older.

    at: position of each row's group. times: of events, labelled: labels of each row. half_life: microseconds.
    """
    step = max(half_life // STEPS, 1)
    rounded = times // step * step
    before = groups["recent_at"].copy()
    np.maximum.at(groups["recent_at"], at, rounded)
    newest, first = groups["recent_at"], groups["recent_from"]
    first[at] = np.where(first[at] == NEVER, newest[at], first[at])
    np.minimum.at(first, at, rounded)
    weights = labelled * np.exp2((rounded - newest[at]) / half_life)
    decay = np.exp2((before - newest) / half_life)
    added = np.bincount(at, weights, minlength=len(groups))
    groups["recent_labels"][:] = groups["recent_labels"] * decay + added


def usual_intervals(groups: GroupStates, half_life: int) -> Floats:
    """Return the recent time between two labels of each group, microseconds; NaN for fewer than two counted labels.

    Let q be the weight of a label one interval before the newest, and Q the weight of the oldest label. Labels at equal
    intervals then have the decayed count C = (1 - q Q) / (1 - q), which is solved for q. So the result is exact for
    equal intervals of any length, even if counting began recently.
    """
    count, spans = groups["recent_labels"], groups["recent_at"] - groups["recent_from"]
    oldest = np.exp2(-spans / half_life)
    earlier = np.maximum(count - 1.0, np.finfo(np.float64).eps)  # the weight of all labels but the newest
    intervals = half_life * np.log2(np.maximum((count - oldest) / earlier, 1.0))
    return np.where((groups["recent_at"] != NEVER) & (count > 1.0), intervals, np.nan)


@dataclass(frozen=True)
class LabelRates:
    """Recent rates of labels. positions: of the live groups with a champion; per_day: labels a day of each of these."""

    positions: Positions
    per_day: Floats

    @classmethod
    def of(cls, groups: GroupStates, half_life: int) -> LabelRates:
        """Return the rates at the time of the newest label of these groups. half_life: microseconds.

        The decayed count is divided by the time that it covers, decayed likewise: a constant rate is found whether the
        count has run for an hour or for years.
        """
        has_labels = (groups["recent_at"] != NEVER) & ~groups.are_parents
        now = groups["recent_at"][has_labels].max(initial=NEVER)
        silence = now - groups["recent_at"]
        is_live = has_labels & (groups["champion_id"] != "") & (silence <= LIVE_HALF_LIVES * half_life)
        live = np.flatnonzero(is_live)
        counts = groups["recent_labels"][live] * np.exp2(-silence[live] / half_life) + ROOT_OFFSET
        spans = np.maximum((now - groups["recent_from"][live]) / half_life, SHORTEST_SPAN)
        days = (1.0 - np.exp2(-spans)) / np.log(2.0) * (half_life / DAY)
        return cls(live, np.asarray(counts / days))
