"""The brake: if the error rises in a large share of the groups at once, a round refits a sample and waits for its
result.

The champions of many groups rarely get worse independently at the same time. An upstream error (a changed unit, a
failed join, labels of the wrong day) is more likely, and refitting a fleet on wrong rows replaces good models by bad
ones. If most challengers of the sample are better than their champions, refits help and rounds continue. Otherwise no
champion is refitted until the share of such groups falls or a person retrains. Groups without a model are exempt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, auto

from schemas.vocabulary import RoundQueue
from spinney.core.planning.budget import FIRST_POLICY, Candidate, RoundAllowance, choose_by_queue, lottery_number

MIN_GROUPS = 50
"""Groups with a champion below which the brake does not act: a few groups may well change together."""

SAMPLE_SHARE, MIN_SAMPLE, MAX_SAMPLE = 0.05, 20, 1_000
"""Size of the sample: a share of the due groups, within these bounds."""

SAMPLE_VALID = timedelta(days=1)
"""Wall-clock time after which a fleet that still has a raised error is sampled again."""


class BrakeAction(Enum):
    """Which groups with a model a round may take; those without one are exempt."""

    OFF = auto()  # everything: few groups have a raised error
    SAMPLE = auto()  # a random sample
    HOLD = auto()  # nothing: the sample's challengers are no better
    RELEASED = auto()  # everything: most of the sample's challengers are better


@dataclass(frozen=True)
class RaisedErrors:
    """Number of groups with a champion, and of those in which the error has risen."""

    groups: int = 0
    raised: int = 0

    @property
    def share(self) -> float:
        """The share of groups whose error has risen."""
        return self.raised / self.groups if self.groups else 0.0


@dataclass
class RaisedErrorsByShard:
    """The newest report of each shard, added up for the fleet. shards: number of shards of the fleet.

    A shard reports when it has due groups or when its number of raised errors changes. A shard that has not reported
    since the query started is counted as a shard of mean size. It counts as one without raised errors or, while a
    sample is in effect, as one with the mean share of them. So a restarted query does not mistake a braked fleet for a
    healthy one.
    """

    shards: int
    _reports: dict[int, RaisedErrors] = field(default_factory=dict)

    def update(self, reports: Mapping[int, RaisedErrors], *, has_sample: bool) -> RaisedErrors:
        """Add reports, shard -> counts, and return the fleet's counts. has_sample: whether a sample is in effect."""
        self._reports.update(reports)
        groups, raised = (
            sum(getattr(report, name) for report in self._reports.values()) for name in ("groups", "raised")
        )
        scale = self.shards / max(len(self._reports), 1)
        return RaisedErrors(round(groups * scale), round(raised * scale) if has_sample else raised)


@dataclass(frozen=True)
class BrakeSample:
    """The round that refitted a sample, and its time by the wall clock."""

    round_id: str
    at: datetime

    def is_valid(self, now: datetime) -> bool:
        """Whether its outcome is still in effect. now: wall clock."""
        return now - self.at < SAMPLE_VALID


@dataclass(frozen=True)
class SampleOutcome:
    """In how many groups of a sample the gate compared both models, and in how many the challenger was better."""

    compared: int
    better: int


@dataclass(frozen=True)
class Brake:
    """The brake's action in one round, and the share of groups whose error has risen."""

    action: BrakeAction
    share: float

    @property
    def is_on(self) -> bool:
        """Whether the round takes fewer groups than its budget allows."""
        return self.action in (BrakeAction.SAMPLE, BrakeAction.HOLD)

    @property
    def reason(self) -> str:
        """Why a group is deferred by the brake."""
        return f"brake: {self.share:.0%} of the fleet turned stale at once, an upstream break is likely"


NO_BRAKE = Brake(BrakeAction.OFF, 0.0)


def decide_brake(errors: RaisedErrors, max_share: float, outcome: SampleOutcome | None) -> Brake:
    """Return the brake of a round.

    max_share: `budget.brake_share`. outcome: of the sample that is in effect; None without one. After a sample the
    brake stays on until the share is at most half of max_share, since the sample's own refits lower the share.
    """
    if errors.groups < MIN_GROUPS or errors.share <= (max_share if outcome is None else max_share / 2):
        return Brake(BrakeAction.OFF, errors.share)
    if outcome is None or not outcome.compared:  # nothing was compared: all fits of the sample failed, for example
        return Brake(BrakeAction.SAMPLE, errors.share)
    is_better = 2 * outcome.better > outcome.compared
    return Brake(BrakeAction.RELEASED if is_better else BrakeAction.HOLD, errors.share)


def sample_size(due: int) -> int:
    """Return how many groups a sample has. due: number of due groups."""
    return min(MAX_SAMPLE, max(MIN_SAMPLE, round(SAMPLE_SHARE * due)))


def choose_with_brake(
    candidates: Sequence[Candidate], allowance: RoundAllowance, seed: str, brake: Brake, sample: int
) -> dict[str, RoundQueue]:
    """Return the groups of a round with the queue that took each, like `choose_by_queue`, but limited by the brake.

    sample: the size of a sample. Groups without a model are not limited by the brake.
    """
    if not brake.is_on:
        return choose_by_queue(candidates, allowance, seed)
    new = [candidate for candidate in candidates if candidate.policy == FIRST_POLICY]
    queues = choose_by_queue(new, allowance, seed)
    if brake.action is BrakeAction.SAMPLE:
        others = (candidate.group_key for candidate in candidates if candidate.policy != FIRST_POLICY)
        drawn = sorted(others, key=lambda key: (lottery_number(seed, key), key))
        queues |= dict.fromkeys(drawn[:sample], RoundQueue.BRAKE)
    return queues
