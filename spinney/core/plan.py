"""Which of the stale groups a round takes: a budget by predicted cost, spent by rank.

Most of the budget goes to the most urgent, a share to those stale longest and a small one by lot, so that a wrong
idea of urgency starves nobody. The lot is drawn from the round's name: a replay draws the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

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
    """seconds: predicted cost of one round; None: no limit. The shares are of the seconds."""

    seconds: float | None
    oldest_first_share: float = 0.0
    random_share: float = 0.0


def choose(candidates: Sequence[Candidate], allowance: Allowance, lot: str) -> list[str]:
    """The group_keys to fit now, in rank order; the others are deferred.

    The last one taken may go beyond the budget: at least one is taken, so that a round always moves, and a group that
    costs more than a whole budget is not passed over for ever.
    """
    by_rank = sorted(candidates, key=lambda each: (RANKS[each.policy], -each.urgency, each.group_key))
    if allowance.seconds is None or not candidates:
        return [each.group_key for each in by_rank]
    total = allowance.seconds * 1000.0
    waited = sorted(candidates, key=lambda each: (each.stale_since, each.group_key))
    drawn = sorted(candidates, key=lambda each: hashlib.sha256(f"{lot}\x00{each.group_key}".encode()).digest())
    chosen: dict[str, float] = {}
    _spend(chosen, waited, total * allowance.oldest_first_share)
    _spend(chosen, drawn, total * (allowance.oldest_first_share + allowance.random_share))
    _spend(chosen, by_rank, total)
    if not chosen:
        return [by_rank[0].group_key]
    return [each.group_key for each in by_rank if each.group_key in chosen]


def _spend(chosen: dict[str, float], queue: Sequence[Candidate], up_to_ms: float) -> None:
    """Take from the queue until this much is spent; a candidate is never skipped for one that costs less."""
    spent = sum(chosen.values())
    for each in queue:
        if spent >= up_to_ms:
            return
        if each.group_key not in chosen:
            chosen[each.group_key] = each.predicted_ms
            spent += each.predicted_ms
