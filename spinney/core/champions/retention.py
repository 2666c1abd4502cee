"""Which promotions and models of a group must be kept because a rollback may need them."""

from __future__ import annotations

from collections.abc import Sequence

from spinney.core.champions.champion_selection import condense, decided_until
from spinney.core.champions.interventions import previous_champion
from spinney.core.champions.promotion import Promotion


def reachable_promotions(history: Sequence[Promotion], since: int) -> list[Promotion]:
    """The promotions that name the champion at any moment from `since` on, and the one before the current champion.

    history: all promotions of one group. since: wall clock, microseconds. A rollback to a time after `since`, or to the
    previous model, needs no other row, and no model that none of these names.
    """
    kept = [*condense(decided_until(history, since)), *(row for row in history if row.decided_at > since)]
    earlier = previous_champion(history)
    return kept if earlier is None or earlier in kept else [*kept, earlier]
