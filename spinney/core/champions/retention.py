"""Which promotions and models of a group must be kept because a rollback may need them."""

from __future__ import annotations

from collections.abc import Sequence

from spinney.core.champions.champion_selection import condense, decided_until
from spinney.core.champions.interventions import previous_champion
from spinney.core.champions.promotion import Promotion


def reachable_promotions(history: Sequence[Promotion], since: int) -> list[Promotion]:
    """Return the promotions that a rollback to a time after `since`, or to the previous model, can need.

    These are the ones that name the champion at any moment from `since` on, and the previous champion's. Such a
    rollback needs no model but those that they name.

    history: all promotions of one group. since: wall clock, microseconds.
    """
    kept = [*condense(decided_until(history, since)), *(row for row in history if row.decided_at > since)]
    earlier = previous_champion(history)
    return kept if earlier is None or earlier in kept else [*kept, earlier]
