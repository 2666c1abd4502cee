"""Since when the challengers of a group have been held because their predictions jump from the champion's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from schemas.vocabulary import Decision
from spinney.core.champions.promotion import PROMOTING_DECISIONS

JUMP = "jump: "
"""Beginning of the reason of a challenger that is held by its jump."""

LASTED = "The jump has lasted: "
"""Part of the reason of a challenger that is promoted although it jumps."""

_NEUTRAL = (Decision.KEPT, Decision.WITHDRAWN)


@dataclass(frozen=True)
class PastDecision:
    """A decision of a machine or a person about a model of a group.

    clock: the fleet's at the decision, decided_at: of the wall; microseconds. revision: as of a Promotion. about_jump:
    whether it holds a challenger because of a jump, or promotes one whose jump has lasted, or would have if its round
    had not been halted.
    """

    decision: str
    clock: int
    decided_at: int
    revision: int = 0
    about_jump: bool = False


def about_jump_by_reason(decision: str, reason: str) -> bool:
    """Return `about_jump` of a decision that was stored before the table had this column."""
    is_held = decision == Decision.HELD
    if is_held and reason.startswith(JUMP):
        return True
    return LASTED in reason and (is_held or decision in PROMOTING_DECISIONS)


def held_since(decisions: Iterable[PastDecision]) -> int | None:
    """Return the fleet's clock at the first hold of the last unbroken series of holds by a jump; None if there is none.

    decisions: those of one group, in any order. `kept` decisions do not break a series, since nothing was fitted, nor
    do withdrawals, since the challenger of the same round says whether the labels are still as they were. Nor does the
    promotion of a challenger whose jump has lasted: its window still holds rows from before the jump, so the
    challengers after it jump further, and need not wait again. All other decisions do: a challenger that did not jump,
    or that measured worse, means that the jump did not last, or is over. A person's intervention begins anew.
    """
    since = None
    for decision in _in_order(decisions):
        since = held_since_after(since, decision)
    return since


def bounds_of_series(decisions: Iterable[PastDecision]) -> list[PastDecision]:
    """Return the decisions without which `held_since` would be another, now or after later decisions.

    These are the newest that ended a series, and the first hold after it. decisions: as for `held_since`.
    """
    end = first = None
    for decision in _in_order(decisions):
        if decision.about_jump:
            first = first or decision
        elif decision.decision not in _NEUTRAL:
            end, first = decision, None
    return [each for each in (end, first) if each is not None]


def _in_order(decisions: Iterable[PastDecision]) -> list[PastDecision]:
    """The decisions since the last intervention of a person, oldest first."""
    known = list(decisions)
    newest = max((decision.revision for decision in known), default=0)
    return sorted((each for each in known if each.revision == newest), key=lambda each: each.decided_at)


def held_since_after(since: int | None, decision: PastDecision) -> int | None:
    """Return the value of `held_since` after one more decision."""
    if decision.about_jump:
        return decision.clock if since is None else since
    return since if decision.decision in _NEUTRAL else None
