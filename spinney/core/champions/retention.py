"""What of a group's past can still matter: the rows of `promotions` and the models that nobody may forget."""

from __future__ import annotations

from collections.abc import Sequence

from spinney.core.champions.champion import Promotion, condense, known_at
from spinney.core.champions.interventions import before


def reachable(history: Sequence[Promotion], since: int) -> list[Promotion]:
    """The rows that say who was champion at any moment from `since` on, and who was before the present one.

    since: microseconds of the wall clock. A rollback to any time since then, or to the model before, needs no other
    row, and no model that none of these names.
    """
    kept = [*condense(known_at(history, since)), *(row for row in history if row.decided_at > since)]
    earlier = before(history)
    return kept if earlier is None or earlier in kept else [*kept, earlier]
