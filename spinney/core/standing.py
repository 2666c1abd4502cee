"""Where each group stands: exactly one state a group, from what the tables say of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from schemas.vocabulary import Decision, ModelStatus, Staleness


class State(StrEnum):
    """Every group is in exactly one."""

    FRESH = "fresh"  # its own model answers, and no policy asks for another
    STALE = "stale"  # found stale, waiting for its round
    REFUSED = "refused"  # the last challenger was refused; it waits for new evidence
    HELD = "held"  # pinned by a person
    FAILED = "failed"  # the last fit failed; an older model answers, if there is one
    PARENT = "parent"  # no model of its own: a parent answers
    NONE = "none"  # nobody answers


@dataclass(frozen=True)
class Last:
    """The last word of each kind on one group; None where there is none.

    verdict: a Staleness, judged in `verdict_round`. decision: a Decision, made in `decision_round`.
    status: a ModelStatus, of the last attempt unless a decision came after it. pinned: by a person, whatever was said
    since.
    """

    champion_id: str | None = None
    ancestor_answers: bool = False
    pinned: bool = False
    verdict: str | None = None
    verdict_round: str | None = None
    decision: str | None = None
    decision_round: str | None = None
    status: str | None = None
    attempted_at: datetime | None = None
    decided_at: datetime | None = None


UNFITTED = frozenset({ModelStatus.FAILED, ModelStatus.TIMED_OUT})


def state(last: Last) -> State:
    """The state of a group."""
    if last.status in UNFITTED:
        return State.FAILED
    if last.champion_id is None:
        return State.PARENT if last.ancestor_answers else State.NONE
    if last.pinned:
        return State.HELD
    waits_for_its_round = last.verdict == Staleness.FIT and last.decision_round != last.verdict_round
    if waits_for_its_round or last.verdict == Staleness.DEFERRED:
        return State.STALE
    refused_then = last.verdict == Staleness.FIT and last.decision == Decision.REFUSED
    if last.verdict == Staleness.REFUSED or refused_then:
        return State.REFUSED
    return State.FRESH
