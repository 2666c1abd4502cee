"""Which model of a group answers: a pure function of its promotions, in any order.

Only the rows of the greatest revision count. Among them a pinned model wins; otherwise the promoted or unproven model
with the greatest ``(trained_through, fitted_at, model_id)`` that is not withdrawn (`withdrawals`). Commit order does
not matter, so the stream, the weekly batch and people can write independently.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from schemas.vocabulary import Decision
from spinney.core.champions.promotion import CHAMPION_DECISIONS, PROMOTING_DECISIONS, Promotion
from spinney.core.champions.withdrawals import without_withdrawn

_ANSWERING = frozenset({Decision.PINNED, *PROMOTING_DECISIONS})
"""Decisions after which the model of a single promotion answers."""

KEPT_CANDIDATES = 3
"""Number of a group's newest candidates that a state keeps: one more than may be withdrawn in a row."""


def select_champion(promotions: Iterable[Promotion], unusable: Collection[str] = ()) -> Promotion | None:
    """Return the promotion of the model that answers, or None when no model of this group may answer.

    unusable: model_ids that must not answer because their bytes do not verify. If no model of the greatest revision is
    usable, the result is None: earlier revisions are never used again.
    """
    promotions = tuple(promotions)
    if len(promotions) == 1:  # of most groups: a batch that decodes a shard's champions selects them all
        (row,) = promotions
        return row if row.decision in _ANSWERING and row.model_id not in unusable else None
    current = _CurrentRevision.of(promotions)
    pinned = [row for row in current.pins if row.model_id not in unusable]
    if pinned:
        return max(pinned, key=_pin_order)
    return max((row for row in current.candidates if row.model_id not in unusable), key=_total_order, default=None)


def select_predecessor(promotions: Iterable[Promotion]) -> Promotion | None:
    """Return the promotion that names the champion if a machine withdraws the current one; None if none may do so.

    A machine may not withdraw a champion

    - that a person pinned or promoted;
    - that answers because another one was withdrawn. So at most one in a row is withdrawn, and a state that keeps
      KEPT_CANDIDATES gives the same result as the whole table;
    - that has no predecessor in its revision, or one that may have seen any row (imported, without a
      `trained_through`), since the two could not be compared.
    """
    current = _CurrentRevision.of(promotions)
    champion = max(current.candidates, key=_total_order, default=None)
    if champion is None or current.pins:
        return None
    own = [row for row in current.candidates if row.model_id == champion.model_id]
    promoted_at = max(row.decided_at for row in own)
    withdrawn_at = (row.decided_at for row in current.rows if row.decision == Decision.WITHDRAWN)
    if any(row.is_by_person for row in own) or any(at > promoted_at for at in withdrawn_at):
        return None
    others = (row for row in current.candidates if row.model_id != champion.model_id)
    predecessor = max(others, key=_total_order, default=None)
    return predecessor if predecessor is not None and predecessor.trained_through else None


def is_pinned(promotions: Iterable[Promotion]) -> bool:
    """Whether a person pinned a model of the group in its greatest revision."""
    return bool(_CurrentRevision.of(promotions).pins)


def decided_until(promotions: Iterable[Promotion], at: int) -> list[Promotion]:
    """Return the promotions decided by `at` (wall clock, microseconds): those that select the champion at that time."""
    return [row for row in promotions if row.decided_at <= at]


def condense(promotions: Iterable[Promotion]) -> tuple[Promotion, ...]:
    """Drop the rows that can no longer matter, so that the state of a group stays small.

    Of the greatest revision the pin and the newest candidates are kept, and of each withdrawn model the last
    withdrawal, of which there is one per intervention. Condensing before or after more rows arrive gives the same
    champion, as long as fewer than KEPT_CANDIDATES models in a row are withdrawn.
    """
    current = _CurrentRevision.of(promotions)
    # A model's later row replaces its earlier ones, so that repeated promotions do not crowd out other candidates. Rows
    # by a person and by machines are kept apart, since a withdrawal that arrives later may apply only to the latter.
    last = {(row.model_id, row.is_by_person): row for row in sorted(current.candidates, key=_total_order)}
    newest = {row.model_id: row for row in sorted(last.values(), key=_total_order)}
    names = set(sorted(newest, key=lambda name: _total_order(newest[name]))[-KEPT_CANDIDATES:])
    by_revision = sorted(current.withdrawals, key=lambda row: (row.revision, _total_order(row)))
    kept = sorted(current.pins, key=_pin_order)[-1:] + [row for row in last.values() if row.model_id in names]
    kept += {row.model_id: row for row in by_revision}.values()
    if current.rows and all(row.revision < current.revision for row in kept):
        kept.append(max(current.rows, key=_total_order))  # records that earlier revisions no longer count
    return tuple(sorted(kept, key=_total_order))


@dataclass(frozen=True, slots=True)
class _CurrentRevision:
    """The rows of the greatest revision, and the withdrawals of all revisions."""

    revision: int
    rows: list[Promotion]
    withdrawals: list[Promotion]

    @classmethod
    def of(cls, promotions: Iterable[Promotion]) -> _CurrentRevision:
        rows = [row for row in promotions if row.decision in CHAMPION_DECISIONS]
        revision = max((row.revision for row in rows), default=0)
        withdrawals = [row for row in rows if row.decision == Decision.WITHDRAWN]
        return cls(revision, [row for row in rows if row.revision == revision], withdrawals)

    @property
    def pins(self) -> list[Promotion]:
        return [row for row in self.rows if row.decision == Decision.PINNED]

    @property
    def candidates(self) -> list[Promotion]:
        """Promoted and unproven rows whose models are not withdrawn."""
        return without_withdrawn((row for row in self.rows if row.decision in PROMOTING_DECISIONS), self.withdrawals)


def _total_order(row: Promotion) -> tuple[tuple[int, int, str], str, int, str, bool]:
    """A total order that begins with `Promotion.order`; of equal rows the one that carries its payload is greater."""
    return (row.order, row.decision, row.decided_at, row.round_id, row.payload is not None)


def _pin_order(row: Promotion) -> tuple[int, str, tuple[tuple[int, int, str], str, int, str, bool]]:
    return (row.decided_at, row.model_id, _total_order(row))
