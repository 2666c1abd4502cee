"""Which model of a group answers: a pure function of its promotions, in any order.

In the greatest epoch of any row that rules: the pinned row, else the greatest promoted or unproven row by
``(trained_through, fitted_at, model_id)`` that is not withdrawn. Nothing here depends on when or by whom a row was
committed, so the stream, the weekly batch and people write without waiting for each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from schemas.vocabulary import Decision

ANSWERING = frozenset({Decision.PROMOTED, Decision.UNPROVEN})
RULING = frozenset({Decision.PROMOTED, Decision.UNPROVEN, Decision.PINNED, Decision.WITHDRAWN})
"""Decisions that can change who answers; the others are record only."""

KEPT_CANDIDATES = 3
"""How many of a group's newest candidates a state keeps: one more than may be withdrawn in a row."""


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

    @classmethod
    def of_row(cls, row: Mapping[Any, Any]) -> Promotion:
        """From a row of `promotions`, or some of its columns. Times may be microseconds or datetimes, null is 0."""
        times = ("epoch", "trained_through", "fitted_at", "decided_at")
        known: dict[str, Any] = {name: _whole(row.get(name)) for name in times}
        known |= {name: _known(row.get(name)) for name in ("codec", "payload", "signature")}
        known |= {name: _known(row.get(name)) or "" for name in ("model_id", "decision", "round_id")}
        return cls(**known)

    @property
    def order(self) -> tuple[int, int, str]:
        """Newer data first; two models of the same rows are told apart by when they were fitted, then by name."""
        return (self.trained_through, self.fitted_at, self.model_id)


def champion(promotions: Iterable[Promotion], unusable: Collection[str] = ()) -> Promotion | None:
    """The row of the model that answers, or None when no model of this group may.

    unusable: model_ids that must not answer (their bytes do not verify). Only the greatest epoch's rows are looked at,
    even if none of its models is usable: an older epoch was ended by a person.
    """
    current = _current(promotions)
    usable = [row for row in current if row.model_id not in unusable]
    pinned = [row for row in usable if row.decision == Decision.PINNED]
    if pinned:
        return max(pinned, key=_pin_order)
    withdrawn = {row.model_id for row in current if row.decision == Decision.WITHDRAWN}
    candidates = [row for row in usable if row.decision in ANSWERING and row.model_id not in withdrawn]
    return max(candidates, key=_stable, default=None)


def is_pinned(promotions: Iterable[Promotion]) -> bool:
    return any(row.decision == Decision.PINNED for row in _current(promotions))


def condense(promotions: Iterable[Promotion]) -> tuple[Promotion, ...]:
    """The rows that can still matter, so that a state stays small however long a group lives.

    Keeps, of the greatest epoch, the pin, the newest candidates that are not withdrawn, and withdrawals that could
    still strike one of them or a newer one. Condensing before or after more rows come gives the same champion as long
    as fewer than KEPT_CANDIDATES in a row are withdrawn.
    """
    current = _current(promotions)
    kept = sorted((row for row in current if row.decision == Decision.PINNED), key=_pin_order)[-1:]
    withdrawals = {row.model_id: row for row in sorted(current, key=_stable) if row.decision == Decision.WITHDRAWN}
    # Of two rows about one model the later one, so that a repeated promotion does not crowd out another candidate.
    by_model = {
        row.model_id: row
        for row in sorted(current, key=_stable)
        if row.decision in ANSWERING and row.model_id not in withdrawals
    }
    candidates = sorted(by_model.values(), key=_stable)[-KEPT_CANDIDATES:]
    kept += candidates
    # Only trained_through is compared, and 0 is "not told": what is withdrawn by hand may not say when it was fitted.
    floor = candidates[0].trained_through if len(candidates) == KEPT_CANDIDATES else 0
    kept += [row for row in withdrawals.values() if row.trained_through >= floor or not row.trained_through]
    return tuple(sorted(kept, key=_stable))


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _known(value: Any) -> Any:
    """None for each way in which a frame or a table says null."""
    return None if pd.isna(value) else value


def _whole(value: Any) -> int:
    if isinstance(value, datetime) and not pd.isna(value):
        return (value - _EPOCH) // timedelta(microseconds=1)
    return 0 if pd.isna(value) else int(value)


def _current(promotions: Iterable[Promotion]) -> list[Promotion]:
    """The ruling rows of the greatest epoch."""
    rows = [row for row in promotions if row.decision in RULING]
    epoch = max((row.epoch for row in rows), default=0)
    return [row for row in rows if row.epoch == epoch]


def _stable(row: Promotion) -> tuple[tuple[int, int, str], str, int, str, bool]:
    """A total order that begins with `order`; of equal rows the one that carries its payload is the greater."""
    return (row.order, row.decision, row.decided_at, row.round_id, row.payload is not None)


def _pin_order(row: Promotion) -> tuple[int, str, tuple[tuple[int, int, str], str, int, str, bool]]:
    return (row.decided_at, row.model_id, _stable(row))
