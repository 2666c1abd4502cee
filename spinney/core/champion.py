"""Which model of a group answers: a pure function of its promotions, in any order.

In the greatest epoch: the pinned row, else the greatest promoted or unproven row by
``(trained_through, fitted_at, model_id)`` that is not withdrawn. Nothing here depends on when or by whom a row was
committed, so the stream, the weekly batch and people write without waiting for each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from schemas.vocabulary import Decision

ANSWERING = frozenset({Decision.PROMOTED, Decision.UNPROVEN})
RULING = frozenset({Decision.PROMOTED, Decision.UNPROVEN, Decision.PINNED, Decision.WITHDRAWN})
"""Decisions that can change who answers; the others are record only."""

KEPT_CANDIDATES = 3
"""How many of a group's newest candidates a state keeps, so that a withdrawal finds the one before."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """One row of `promotions`, as far as it decides who answers.

    Times are microseconds since the epoch. payload is None when it is not carried and must be fetched by model_id.
    """

    epoch: int
    model_id: str
    decision: str
    trained_through: int
    fitted_at: int
    decided_at: int = 0
    round_id: str = ""
    codec: str | None = None
    payload: bytes | None = None
    signature: bytes | None = None

    @property
    def order(self) -> tuple[int, int, str]:
        """Newer data first; two models of the same rows are told apart by when they were fitted, then by name."""
        return (self.trained_through, self.fitted_at, self.model_id)


def champion(promotions: Iterable[Promotion]) -> Promotion | None:
    """The row of the model that answers, or None when no model of this group may."""
    rows = list(promotions)
    if not rows:
        return None
    epoch = max(row.epoch for row in rows)
    current = [row for row in rows if row.epoch == epoch]
    pinned = [row for row in current if row.decision == Decision.PINNED]
    if pinned:
        return max(pinned, key=lambda row: (row.decided_at, row.model_id))
    withdrawn = {row.model_id for row in current if row.decision == Decision.WITHDRAWN}
    candidates = [row for row in current if row.decision in ANSWERING and row.model_id not in withdrawn]
    return max(candidates, key=lambda row: row.order, default=None)


def is_pinned(promotions: Iterable[Promotion]) -> bool:
    rows = list(promotions)
    epoch = max((row.epoch for row in rows), default=0)
    return any(row.decision == Decision.PINNED for row in rows if row.epoch == epoch)


def condense(promotions: Iterable[Promotion]) -> tuple[Promotion, ...]:
    """The rows that can still matter, so that a state stays small however long a group lives.

    Keeps, of the greatest epoch, pins, the newest candidates that are not withdrawn, and withdrawals that could still
    strike one of them or a newer one. Condensing before or after more rows come gives the same champion as long as no
    more than KEPT_CANDIDATES in a row are withdrawn.
    """
    rows = list({(row.epoch, row.model_id, row.decision): row for row in sorted(promotions, key=_stable)}.values())
    rows = [row for row in rows if row.decision in RULING]
    if not rows:
        return ()
    epoch = max(row.epoch for row in rows)
    current = [row for row in rows if row.epoch == epoch]
    withdrawn = {row.model_id for row in current if row.decision == Decision.WITHDRAWN}
    candidates = sorted(
        (row for row in current if row.decision in ANSWERING and row.model_id not in withdrawn),
        key=lambda row: row.order,
        reverse=True,
    )[:KEPT_CANDIDATES]
    floor = candidates[-1].order if len(candidates) == KEPT_CANDIDATES else (-(2**62), 0, "")
    kept = [row for row in current if row.decision == Decision.PINNED]
    kept += candidates
    kept += [row for row in current if row.decision == Decision.WITHDRAWN and row.order >= floor]
    return tuple(sorted(kept, key=_stable))


def _stable(row: Promotion) -> tuple[int, tuple[int, int, str], str, int]:
    return (row.epoch, row.order, row.decision, row.decided_at)
