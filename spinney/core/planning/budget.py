"""Which of the stale groups a round takes: a budget by predicted cost, spent by rank.

Most of the budget goes to the most urgent, a share to those stale longest and a small one by lot, so that a wrong
idea of urgency starves nobody. The lot is drawn from the batch's timestamp: a replay draws the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import xxhash

from spinney.core.keys import SPARK_SEED

RANKS = {"new_group": 0, "error_rise": 1, "new_rows": 2, "max_age": 3}
"""Lower first."""


@dataclass(frozen=True)
class Candidate:
    """A stale group. stale_since: wall clock at which it was first found so, microseconds."""

    group_key: str
    policy: str
    urgency: float
    stale_since: int
    predicted_ms: float


@dataclass(frozen=True)
class Allowance:
    """What one round may spend on its groups.

    seconds: wall clock, besides what a round costs without any group; None: no limit. The shares are of the seconds and
    of `groups`. groups: how many at most; None: no limit. each_ms: wall clock that a group costs besides its fit.
    cores: fits that run at once.
    """

    seconds: float | None
    oldest_first_share: float = 0.0
    random_share: float = 0.0
    groups: int | None = None
    each_ms: float = 0.0
    cores: int = 1

    def most(self) -> int | None:
        """How many groups a round can take at most: as many as it could if their fits took no time. None: no limit."""
        if self.seconds is None or self.each_ms <= 0:
            return self.groups
        paid_for = int(self.seconds * 1000.0 / self.each_ms) + 1
        return max(1, paid_for if self.groups is None else min(self.groups, paid_for))


@dataclass(frozen=True)
class Queues:
    """How many groups from the front of each queue decide what a round takes; further ones cannot be reached."""

    by_rank: int
    oldest: int
    by_lot: int

    @classmethod
    def of(cls, allowance: Allowance) -> Queues | None:
        """None when an allowance has no limit that is known beforehand."""
        most = allowance.most()
        if most is None:
            return None
        oldest, drawn = allowance.oldest_first_share, allowance.oldest_first_share + allowance.random_share
        # One more than the share: the last one taken may go beyond it. Of those drawn, some were taken before.
        return cls(most, _ceil(most * oldest) + 1 if oldest else 0, _ceil(most * drawn) + 2 if drawn > oldest else 0)

    @property
    def total(self) -> int:
        return self.by_rank + self.oldest + self.by_lot


def draw(lot: str, group_key: str) -> int:
    """A group's number in a lot, the lowest first: Spark's ``xxhash64(concat(lot, group_key))``."""
    unsigned = xxhash.xxh64_intdigest(f"{lot}{group_key}".encode(), seed=SPARK_SEED)
    return unsigned - (1 << 64) if unsigned >= 1 << 63 else unsigned


def choose(candidates: Sequence[Candidate], allowance: Allowance, lot: str) -> list[str]:
    """The group_keys to fit now, in rank order; the others are deferred.

    The last one taken may go beyond the budget: at least one is taken, so that a round always moves, and a group that
    costs more than a whole budget is not passed over for ever.
    """
    by_rank = sorted(candidates, key=lambda each: (RANKS[each.policy], -each.urgency, each.group_key))
    if not candidates or (allowance.seconds is None and allowance.groups is None):
        return [each.group_key for each in by_rank]
    oldest, drawn = allowance.oldest_first_share, allowance.oldest_first_share + allowance.random_share
    spent = _Spent(allowance)
    if oldest:
        spent.take(sorted(candidates, key=lambda each: (each.stale_since, each.group_key)), oldest)
    if drawn > oldest:
        spent.take(sorted(candidates, key=lambda each: (draw(lot, each.group_key), each.group_key)), drawn)
    spent.take(by_rank, 1.0)
    if not spent.chosen:
        return [by_rank[0].group_key]
    return [each.group_key for each in by_rank if each.group_key in spent.chosen]


@dataclass
class _Spent:
    """What a round has taken so far, and what that costs."""

    allowance: Allowance
    chosen: set[str] = field(default_factory=set)
    fit_ms: float = 0.0
    longest_ms: float = 0.0

    def take(self, queue: Sequence[Candidate], share: float) -> None:
        """Take from the queue until this share is spent; a candidate is never skipped for one that costs less."""
        allowance = self.allowance
        up_to_ms = math.inf if allowance.seconds is None else allowance.seconds * 1000.0 * share
        groups = math.inf if allowance.groups is None else _ceil(allowance.groups * share)
        for each in queue:
            if self.ms >= up_to_ms or len(self.chosen) >= groups:
                return
            if each.group_key not in self.chosen:
                self.chosen.add(each.group_key)
                self.fit_ms += each.predicted_ms
                self.longest_ms = max(self.longest_ms, each.predicted_ms)

    @property
    def ms(self) -> float:
        return len(self.chosen) * self.allowance.each_ms + parallel(self.fit_ms, self.longest_ms, self.allowance.cores)


def parallel(total: float, longest: float, cores: int) -> float:
    """How long fits take together that last so long in all: at least as long as the longest of them."""
    return max(total / cores, longest)


def _ceil(groups: float) -> int:
    return math.ceil(groups - 1e-9)
