"""Which of the stale groups a round takes, by predicted cost and rank.

Most of the budget goes to the most urgent groups, a share to those stale longest and a small share to a random
selection, so that a wrong measure of urgency starves no group. The random seed is the batch's timestamp, so a replayed
batch selects the same groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import xxhash

from spinney.core.keys import SPARK_SEED

POLICY_RANKS = {"new_group": 0, "error_rise": 1, "new_rows": 2, "max_age": 3}
"""Groups of a lower rank are taken first."""


@dataclass(frozen=True)
class Candidate:
    """A stale group. stale_since: wall clock at which it was first found stale, microseconds."""

    group_key: str
    policy: str
    urgency: float
    stale_since: int
    predicted_ms: float


@dataclass(frozen=True)
class RoundAllowance:
    """What one round may spend on its groups.

    seconds: wall clock, excluding the fixed overhead of a round; None: no limit. oldest_first_share, random_share: of
    `seconds` and of `groups`. groups: largest number of groups; None: no limit. overhead_ms: wall clock per group
    besides its fit. cores: fits that run at once.
    """

    seconds: float | None
    oldest_first_share: float = 0.0
    random_share: float = 0.0
    groups: int | None = None
    overhead_ms: float = 0.0
    cores: int = 1

    def max_groups_affordable(self) -> int | None:
        """The number of groups a round could take if fits took no time; None: no limit."""
        if self.seconds is None or self.overhead_ms <= 0:
            return self.groups
        affordable = int(self.seconds * 1000.0 / self.overhead_ms) + 1
        return max(1, affordable if self.groups is None else min(self.groups, affordable))


@dataclass(frozen=True)
class QueueLengths:
    """How many groups at the front of each queue can be taken at all; the others need not be considered."""

    by_rank: int
    oldest: int
    random: int

    @classmethod
    def for_allowance(cls, allowance: RoundAllowance) -> QueueLengths | None:
        """Return the lengths for an allowance; None when it has no limit that is known beforehand."""
        limit = allowance.max_groups_affordable()
        if limit is None:
            return None
        oldest_share, drawn_share = allowance.oldest_first_share, allowance.oldest_first_share + allowance.random_share
        # One more than the share, since the last group may exceed it; some of those drawn were taken as the oldest.
        oldest = _ceil(limit * oldest_share) + 1 if oldest_share else 0
        return cls(limit, oldest, _ceil(limit * drawn_share) + 2 if drawn_share > oldest_share else 0)

    @property
    def total(self) -> int:
        """The sum of the three lengths."""
        return self.by_rank + self.oldest + self.random


def lottery_number(seed: str, group_key: str) -> int:
    """Return a group's place in a random order, lowest first: Spark's ``xxhash64(concat(seed, group_key))``."""
    unsigned = xxhash.xxh64_intdigest(f"{seed}{group_key}".encode(), seed=SPARK_SEED)
    return unsigned - (1 << 64) if unsigned >= 1 << 63 else unsigned


def choose_groups(candidates: Sequence[Candidate], allowance: RoundAllowance, seed: str) -> list[str]:
    """Return the group_keys to fit in this round, in rank order. The other candidates are deferred.

    The last group taken may exceed the allowance. At least one is taken, so that a group that costs more than a whole
    round is fitted too.
    """
    by_rank = sorted(candidates, key=lambda group: (POLICY_RANKS[group.policy], -group.urgency, group.group_key))
    if not candidates or (allowance.seconds is None and allowance.groups is None):
        return [group.group_key for group in by_rank]
    oldest_share, drawn_share = allowance.oldest_first_share, allowance.oldest_first_share + allowance.random_share
    selection = _Selection(allowance)
    if oldest_share:
        selection.take(sorted(candidates, key=lambda group: (group.stale_since, group.group_key)), oldest_share)
    if drawn_share > oldest_share:
        drawn = sorted(candidates, key=lambda group: (lottery_number(seed, group.group_key), group.group_key))
        selection.take(drawn, drawn_share)
    selection.take(by_rank, 1.0)
    if not selection.chosen:
        return [by_rank[0].group_key]
    return [group.group_key for group in by_rank if group.group_key in selection.chosen]


@dataclass
class _Selection:
    """The groups taken so far, and their predicted cost."""

    allowance: RoundAllowance
    chosen: set[str] = field(default_factory=set)
    fit_ms: float = 0.0
    longest_ms: float = 0.0

    def take(self, queue: Sequence[Candidate], share: float) -> None:
        """Take from the front of the queue until this share of the allowance is spent. No candidate is skipped."""
        allowance = self.allowance
        limit_ms = math.inf if allowance.seconds is None else allowance.seconds * 1000.0 * share
        limit_groups = math.inf if allowance.groups is None else _ceil(allowance.groups * share)
        for candidate in queue:
            if self.predicted_ms >= limit_ms or len(self.chosen) >= limit_groups:
                return
            if candidate.group_key not in self.chosen:
                self.chosen.add(candidate.group_key)
                self.fit_ms += candidate.predicted_ms
                self.longest_ms = max(self.longest_ms, candidate.predicted_ms)

    @property
    def predicted_ms(self) -> float:
        fits_ms = parallel_duration(self.fit_ms, self.longest_ms, self.allowance.cores)
        return len(self.chosen) * self.allowance.overhead_ms + fits_ms


def parallel_duration(total: float, longest: float, cores: int) -> float:
    """The elapsed time of fits that take `total` in sum: at least as long as the longest of them."""
    return max(total / cores, longest)


def _ceil(groups: float) -> int:
    return math.ceil(groups - 1e-9)
