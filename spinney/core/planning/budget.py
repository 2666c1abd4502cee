"""Choose the stale groups of a round: by expected gain per second of fit, by waiting time, and at random.

New groups come first, since they have no model. Then most of the budget goes to the groups with the greatest expected
gain per second of fit. A share goes to the groups that have been stale longest, so that no group waits forever, and a
small share to randomly selected groups. The random groups are drawn first, from all due groups, so that the gain from
refits can be measured on them without the bias of the ranking. The seed is the batch's timestamp, so a replayed batch
selects the same groups. Groups that a person asked for come before all of these and count against the budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import xxhash

from schemas.vocabulary import RoundQueue
from spinney.core.keys import SPARK_SEED

QUEUE = "queue"
"""Key in the numbers of a verdict `fit` of a streaming round. Its value is the RoundQueue that took the group."""

FIRST_POLICY = "new_group"
"""Groups that are stale by this policy have no model and are ranked before all others."""


@dataclass(frozen=True)
class Candidate:
    """A stale group.

    urgency: the policy's measure divided by its limit; orders groups of equal gain. stale_since: wall clock at which it
    was first found stale, microseconds. gain_per_second: loss that a refit is expected to save a day, per second of
    fit.
    """

    group_key: str
    policy: str
    urgency: float
    stale_since: int
    predicted_ms: float
    gain_per_second: float = 0.0

    @property
    def rank(self) -> tuple[bool, float, float, str]:
        """Sort key of the queue `rank`; the group with the lowest key is taken first."""
        return (self.policy != FIRST_POLICY, -self.gain_per_second, -self.urgency, self.group_key)


@dataclass(frozen=True)
class RoundAllowance:
    """The limits of one round.

    seconds: wall clock, excluding the fixed overhead of a round; None: no limit. oldest_first_share, random_share:
    shares of `seconds` and of `groups` for the groups that have been stale longest and for a random sample. groups:
    largest number of groups; None: no limit. overhead_ms: wall clock per group without its fit. cores: fits that run at
    once.
    """

    seconds: float | None
    oldest_first_share: float = 0.0
    random_share: float = 0.0
    groups: int | None = None
    overhead_ms: float = 0.0
    cores: int = 1

    @property
    def both_shares(self) -> float:
        """The sum of random_share and oldest_first_share, without its rounding error."""
        return round(self.random_share + self.oldest_first_share, 12)

    @property
    def is_spent(self) -> bool:
        """Whether no group can be taken: the groups that people requested have used up the whole round."""
        return self.seconds == 0.0 or self.groups == 0

    def max_groups_affordable(self) -> int | None:
        """Return how many groups a round could take if fits took no time; None: no limit."""
        if self.seconds is None or self.overhead_ms <= 0:
            return self.groups
        affordable = int(self.seconds * 1000.0 / self.overhead_ms) + 1
        return max(1, affordable if self.groups is None else min(self.groups, affordable))


@dataclass(frozen=True)
class QueueLengths:
    """How many groups can be taken at most from the front of each queue. Groups further back need not be considered."""

    by_rank: int
    oldest: int
    random: int

    @classmethod
    def for_allowance(cls, allowance: RoundAllowance) -> QueueLengths | None:
        """Return how long the three queues of a round have to be, so that its budget is never short of candidates.

        None if the number of groups that the budget allows is not known before they are chosen.
        """
        limit = allowance.max_groups_affordable()
        if limit is None:
            return None
        random_share, both = allowance.random_share, allowance.both_shares
        # One more than the share, since the last group may exceed it; some of the oldest were drawn before.
        random = _ceil(limit * random_share) + 1 if random_share else 0
        return cls(limit, _ceil(limit * both) + 2 if both > random_share else 0, random)

    @property
    def total(self) -> int:
        """The sum of the three lengths."""
        return self.by_rank + self.oldest + self.random


def queue_member(queue: str) -> str:
    """Return the member of a verdict's JSON numbers that names a queue, as it is stored."""
    return f'"{QUEUE}":"{queue}"'


def lottery_number(seed: str, group_key: str) -> int:
    """Return a group's place in a random order, lowest first: Spark's ``xxhash64(concat(seed, group_key))``."""
    unsigned = xxhash.xxh64_intdigest(f"{seed}{group_key}".encode(), seed=SPARK_SEED)
    return unsigned - (1 << 64) if unsigned >= 1 << 63 else unsigned


def choose_groups(candidates: Sequence[Candidate], allowance: RoundAllowance, seed: str) -> list[str]:
    """Return the group_keys to fit in this round, in rank order. The other candidates are deferred.

    The last group taken may exceed the allowance. At least one is taken, so that a group that costs more than a whole
    round is fitted too.
    """
    return list(choose_by_queue(candidates, allowance, seed))


def choose_by_queue(candidates: Sequence[Candidate], allowance: RoundAllowance, seed: str) -> dict[str, RoundQueue]:
    """Return the groups of `choose_groups`, each with the queue that took it: group_key -> queue, in rank order.

    The queues are the random sample, the longest stale and the rank; `seed` orders the random one. If the allowance has
    no limit, every group is taken by rank.
    """
    by_rank = sorted(candidates, key=lambda group: group.rank)
    if not candidates or (allowance.seconds is None and allowance.groups is None):
        return {group.group_key: RoundQueue.RANK for group in by_rank}
    random_share, both_shares = allowance.random_share, allowance.both_shares
    selection = _Selection(allowance)
    if random_share:
        drawn = sorted(candidates, key=lambda group: (lottery_number(seed, group.group_key), group.group_key))
        selection.take(drawn, random_share, RoundQueue.RANDOM)
    if both_shares > random_share:
        oldest = sorted(candidates, key=lambda group: (group.stale_since, group.group_key))
        selection.take(oldest, both_shares, RoundQueue.OLDEST)
    selection.take(by_rank, 1.0, RoundQueue.RANK)
    if not selection.queues:
        return {by_rank[0].group_key: RoundQueue.RANK}
    in_order = (group.group_key for group in by_rank if group.group_key in selection.queues)
    return {key: selection.queues[key] for key in in_order}


def take_requested(requested: Sequence[Candidate], allowance: RoundAllowance) -> tuple[list[Candidate], RoundAllowance]:
    """Return the requested groups that this round takes before all others, in their order, and the allowance that
    remains.

    At least one is taken; the requests that do not fit wait for the next round. If nothing remains, the allowance
    `is_spent`.
    """
    selection = _Selection(allowance)
    selection.take(requested, 1.0, RoundQueue.REQUEST)
    if requested and not selection.queues:
        selection.add(requested[0], RoundQueue.REQUEST)
    taken = [group for group in requested if group.group_key in selection.queues]
    spent_s = selection.predicted_ms / 1000.0
    return taken, replace(
        allowance,
        seconds=None if allowance.seconds is None else max(0.0, allowance.seconds - spent_s),
        groups=None if allowance.groups is None else max(0, allowance.groups - len(taken)),
    )


@dataclass
class _Selection:
    """The groups taken so far with the queue that took each, and their predicted cost."""

    allowance: RoundAllowance
    queues: dict[str, RoundQueue] = field(default_factory=dict)
    fit_ms: float = 0.0
    longest_ms: float = 0.0

    def take(self, candidates: Sequence[Candidate], share: float, queue: RoundQueue) -> None:
        """Take from the front until this share of the allowance is spent. No candidate is skipped."""
        allowance = self.allowance
        limit_ms = math.inf if allowance.seconds is None else allowance.seconds * 1000.0 * share
        limit_groups = math.inf if allowance.groups is None else _ceil(allowance.groups * share)
        for candidate in candidates:
            if self.predicted_ms >= limit_ms or len(self.queues) >= limit_groups:
                return
            if candidate.group_key not in self.queues:
                self.add(candidate, queue)

    def add(self, candidate: Candidate, queue: RoundQueue) -> None:
        """Take one group."""
        self.queues[candidate.group_key] = queue
        self.fit_ms += candidate.predicted_ms
        self.longest_ms = max(self.longest_ms, candidate.predicted_ms)

    @property
    def predicted_ms(self) -> float:
        fits_ms = parallel_duration(self.fit_ms, self.longest_ms, self.allowance.cores)
        return len(self.queues) * self.allowance.overhead_ms + fits_ms


def parallel_duration(total: float, longest: float, cores: int) -> float:
    """Return the elapsed time of parallel fits whose times add up to `total`; never less than the longest of them."""
    return max(total / cores, longest)


def _ceil(groups: float) -> int:
    return math.ceil(groups - 1e-9)
