"""The brake of streaming rounds: its decision in each round, from the shards' reports and the stored rounds."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

from spinney.core.planning.brake import (
    NO_BRAKE,
    Brake,
    BrakeAction,
    BrakeSample,
    RaisedErrorsByShard,
    SampleOutcome,
    decide_brake,
)
from spinney.retraining.round_history import sample_outcome
from spinney.retraining.round_request import RoundRequest
from spinney.storage.layout import FleetStore
from streaming.round_planning import DueSummary

log = logging.getLogger(__name__)

_SAYS = {
    BrakeAction.SAMPLE: "Only a random sample is refitted; the next rounds go by its result",
    BrakeAction.HOLD: "Most challengers of the sample are no better than their champions: no group with a model is "
    "refitted until the share has fallen to half of budget.brake_share, a day has passed, or somebody runs "
    "`spinney retrain`. Look at the newest events and labels",
    BrakeAction.RELEASED: "Most challengers of the sample are better than their champions: rounds go on",
}


@dataclass(frozen=True)
class BrakeDecision:
    """The brake of one round, and the sample on which it depends; None while the brake is off."""

    brake: Brake
    sample: BrakeSample | None

    @property
    def round_id(self) -> str:
        """`RoundRequest.brake_round`, by which the next round knows the sample."""
        return self.sample.round_id if self.sample else ""

    @property
    def at(self) -> str:
        """`RoundRequest.brake_at`."""
        return self.sample.at.isoformat() if self.sample else ""


class RoundBrake:
    """Decides about each round, and logs when the decision changes.

    max_share: `budget.brake_share`. The sample of the previous round is read from the notes of its plan, and the
    sample's outcome from `promotions`. So a restarted query decides the same.
    """

    def __init__(self, store: FleetStore, max_share: float) -> None:
        self._store, self._max_share = store, max_share
        self._errors = RaisedErrorsByShard(store.fleet.shards)
        self._outcome: tuple[str, SampleOutcome] | None = None
        self._logged = BrakeAction.OFF

    def decide(
        self, due: DueSummary, before: RoundRequest | None, round_id: str, now: datetime, *, has_requests: bool = False
    ) -> BrakeDecision:
        """Return the decision for a round.

        before: the request of the round before. now: wall clock. has_requests: whether people asked for groups; a
        sample of which nothing was compared is followed by a round for them before the next sample.
        """
        sample = _sample_of(before, now)
        errors = self._errors.update(due.errors, has_sample=sample is not None)
        outcome = None if sample is None else self._outcome_of(sample.round_id)
        brake = decide_brake(errors, self._max_share, outcome)
        if brake.action is BrakeAction.OFF:
            sample = None
        elif brake.action is BrakeAction.SAMPLE:
            if has_requests and sample is not None and before is not None and before.round_id == sample.round_id:
                return BrakeDecision(Brake(BrakeAction.HOLD, brake.share), sample)
            sample = BrakeSample(round_id, now)
        self._log(brake)
        return BrakeDecision(brake, sample)

    def unasked(self, before: RoundRequest | None, now: datetime) -> BrakeDecision:
        """Return the decision for a round of requested groups only: no brake, and the sample stays in effect.

        before, now: as for `decide`.
        """
        return BrakeDecision(NO_BRAKE, _sample_of(before, now))

    def _outcome_of(self, round_id: str) -> SampleOutcome:
        """The outcome of a finished round, which does not change: read once, since `promotions` grows."""
        if self._outcome is None or self._outcome[0] != round_id:
            self._outcome = (round_id, sample_outcome(self._store, round_id))
        return self._outcome[1]

    def _log(self, brake: Brake) -> None:
        if brake.action is not self._logged and brake.action is not BrakeAction.OFF:
            log.warning("query retrain: %s. %s", brake.reason, _SAYS[brake.action])
        self._logged = brake.action


def _sample_of(before: RoundRequest | None, now: datetime) -> BrakeSample | None:
    """Return the sample on which the previous round depended, if it is still valid."""
    if before is None or not before.brake_round:
        return None
    sample = BrakeSample(before.brake_round, datetime.fromisoformat(before.brake_at))
    return sample if sample.is_valid(now) else None
