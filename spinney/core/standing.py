"""Where each group stands: exactly one state a group, from what the tables say of it."""

from __future__ import annotations

from dataclasses import dataclass
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
    """What was said last of one group; None where nothing was.

    outcome: a Decision, or the ModelStatus of an attempt that gave no model, whichever came later. verdict: a
    Staleness; None, too, once an outcome of its round or a later one has settled it. pinned: by a person, whatever was
    said since.
    """

    champion_id: str | None = None
    ancestor_answers: bool = False
    pinned: bool = False
    verdict: str | None = None
    outcome: str | None = None


UNFITTED = frozenset({ModelStatus.FAILED, ModelStatus.TIMED_OUT})


def state(last: Last) -> State:
    """The state of a group."""
    if last.outcome in UNFITTED:
        return State.FAILED
    if last.champion_id is None:
        return State.PARENT if last.ancestor_answers else State.NONE
    if last.pinned:
        return State.HELD
    if last.verdict in (Staleness.FIT, Staleness.DEFERRED):
        return State.STALE
    refused = last.outcome == Decision.REFUSED if last.verdict is None else last.verdict == Staleness.REFUSED
    return State.REFUSED if refused else State.FRESH
