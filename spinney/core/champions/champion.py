"""Which model of a group answers: a pure function of its promotions, in any order.

In the greatest epoch of any row that rules: the pinned row, else the greatest promoted or unproven row by
``(trained_through, fitted_at, model_id)`` that is not withdrawn. Nothing here depends on when a row was committed, so
the stream, the weekly batch and people write without waiting for each other.

A withdrawal strikes whatever its own epoch says of its model, and what machines say of it in any later one: a machine
that fits the same rows again makes the same model again. Only a person's step in a later epoch brings it back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas.vocabulary import Decision
from spinney.core import timestamps

ANSWERING = frozenset({Decision.PROMOTED, Decision.UNPROVEN})
RULING = frozenset({Decision.PROMOTED, Decision.UNPROVEN, Decision.PINNED, Decision.WITHDRAWN})
"""Decisions that can change who answers; the others are record only."""

KEPT_CANDIDATES = 3
"""How many of a group's newest candidates a state keeps: one more than may be withdrawn in a row."""

PEOPLE = "people"
"""What the round_id of a person's step begins with, as a round's does with its path."""


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

    @property
    def by_person(self) -> bool:
        return self.round_id.startswith(f"{PEOPLE}-")


def champion(promotions: Iterable[Promotion], unusable: Collection[str] = ()) -> Promotion | None:
    """The row of the model that answers, or None when no model of this group may.

    unusable: model_ids that must not answer (their bytes do not verify). Only the greatest epoch's rows are looked at,
    even if none of its models is usable: an older epoch was ended by a person.
    """
    told = _Told.of(promotions)
    pinned = [row for row in told.pins if row.model_id not in unusable]
    if pinned:
        return max(pinned, key=_pin_order)
    return max((row for row in told.candidates if row.model_id not in unusable), key=_stable, default=None)


def is_pinned(promotions: Iterable[Promotion]) -> bool:
    return bool(_Told.of(promotions).pins)


def known_at(promotions: Iterable[Promotion], at: int) -> list[Promotion]:
    """The rows that had been decided by then, microseconds of the wall clock: whoever they say was champion then."""
    return [row for row in promotions if row.decided_at <= at]


def condense(promotions: Iterable[Promotion]) -> tuple[Promotion, ...]:
    """The rows that can still matter, so that a state stays small however long a group lives.

    Keeps of the greatest epoch the pin and the newest candidates that are not withdrawn, and of each withdrawn model
    the last withdrawal: there is one for each time that somebody steps in. Condensing before or after more rows come
    gives the same champion as long as fewer than KEPT_CANDIDATES models in a row are withdrawn.
    """
    told = _Told.of(promotions)
    # Of rows alike about one model the later one, so that a repeated promotion does not crowd out another candidate.
    # A person's stands beside a machine's: a withdrawal of an older epoch that is still to come strikes only that one.
    last = {(row.model_id, row.by_person): row for row in sorted(told.candidates, key=_stable)}
    newest = {row.model_id: row for row in sorted(last.values(), key=_stable)}
    names = set(sorted(newest, key=lambda name: _stable(newest[name]))[-KEPT_CANDIDATES:])
    withdrawals = {row.model_id: row for row in sorted(told.withdrawals, key=lambda row: (row.epoch, _stable(row)))}
    kept = sorted(told.pins, key=_pin_order)[-1:] + [row for row in last.values() if row.model_id in names]
    kept += withdrawals.values()
    if told.current and all(row.epoch < told.epoch for row in kept):
        kept.append(max(told.current, key=_stable))  # says that the older epochs have ended
    return tuple(sorted(kept, key=_stable))


def _known(value: Any) -> Any:
    """None for each way in which a frame or a table says null."""
    return None if _is_null(value) else value


def _whole(value: Any) -> int:
    if _is_null(value):
        return 0
    return timestamps.to_microseconds(value) if isinstance(value, datetime) else int(value)


def _is_null(value: Any) -> bool:
    """None, NaN, NaT or NA, without importing pandas, which takes a third of a second."""
    return value is None or type(value).__name__ == "NAType" or bool(value != value)  # noqa: PLR0124 - NaN, NaT


@dataclass(frozen=True, slots=True)
class _Told:
    """The rows that rule: those of the greatest epoch, and every withdrawal. candidates: those that no one struck."""

    epoch: int
    current: list[Promotion]
    withdrawals: list[Promotion]

    @classmethod
    def of(cls, promotions: Iterable[Promotion]) -> _Told:
        rows = [row for row in promotions if row.decision in RULING]
        epoch = max((row.epoch for row in rows), default=0)
        withdrawals = [row for row in rows if row.decision == Decision.WITHDRAWN]
        return cls(epoch, [row for row in rows if row.epoch == epoch], withdrawals)

    @property
    def pins(self) -> list[Promotion]:
        return [row for row in self.current if row.decision == Decision.PINNED]

    @property
    def candidates(self) -> list[Promotion]:
        for_all = {row.model_id for row in self.withdrawals if row.epoch == self.epoch}
        for_machines = {row.model_id for row in self.withdrawals}
        return [
            row
            for row in self.current
            if row.decision in ANSWERING and row.model_id not in (for_all if row.by_person else for_machines)
        ]


def _stable(row: Promotion) -> tuple[tuple[int, int, str], str, int, str, bool]:
    """A total order that begins with `order`; of equal rows the one that carries its payload is the greater."""
    return (row.order, row.decision, row.decided_at, row.round_id, row.payload is not None)


def _pin_order(row: Promotion) -> tuple[int, str, tuple[tuple[int, int, str], str, int, str, bool]]:
    return (row.decided_at, row.model_id, _stable(row))
