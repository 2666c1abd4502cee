"""What people do to champions: promote, roll back, pin, unpin. Says what would change; the rows are written elsewhere.

Every step, including pin and unpin, increments the group's epoch. The higher epoch wins, whatever machines write
meanwhile. Machines then write in the new epoch, and newer data wins again. So that they do not undo a step by fitting
the same rows anew, the model that is left for an older one is withdrawn with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.vocabulary import Decision
from spinney.core.champions.champion import RULING, Promotion, champion, is_pinned, known_at
from spinney.core.errors import GroupError

SHOWN = 12
"""Characters of a model_id that are enough for people."""


@dataclass(frozen=True)
class Step:
    """What changes for one group.

    before, after: the models that answer; None where the group has none of its own. decision: about `after`; None when
    there is none. withdrawn: what machines may not bring back. why: in words, of this group.
    """

    group_key: str
    epoch: int
    before: str | None
    after: str | None
    decision: Decision | None
    withdrawn: str | None
    why: str

    @property
    def rows(self) -> tuple[tuple[str, Decision], ...]:
        """(model_id, decision) of each row to be written."""
        about = [(self.after, self.decision), (self.withdrawn, Decision.WITHDRAWN)]
        return tuple((name, decision) for name, decision in about if name is not None and decision is not None)


def promote(group_key: str, history: Sequence[Promotion], target: Promotion) -> Step | None:
    """The target answers from now on. None: it does already. Raises GroupError when the group is pinned."""
    _refuse_pinned(group_key, history)
    return _to(group_key, history, target, "asked for by name")


def rollback(group_key: str, history: Sequence[Promotion], at: int | None) -> Step | None:
    """Back to the model that answered then (microseconds of the wall clock), or before the present one.

    None: it answers already. A group that had no model of its own then has none again. Raises GroupError when the group
    is pinned, or no model answered before.
    """
    _refuse_pinned(group_key, history)
    if at is not None:
        return _to(group_key, history, champion(known_at(history, at)), "answered then")
    target = before(history)
    if target is None:
        raise GroupError(
            group_key, "no model answered before the present one, but for withdrawn ones; `spinney why` shows them all"
        )
    return _to(group_key, history, target, "answered before the present one")


def pin(group_key: str, history: Sequence[Promotion], target: Promotion | None = None) -> Step:
    """The target, or the champion, answers until it is unpinned. Raises GroupError: pinned already, or no champion."""
    _refuse_pinned(group_key, history)
    current = champion(history)
    target = target or current
    if target is None:
        raise GroupError(group_key, "no model of its own answers, so none can be pinned; name one by --model")
    left = current.model_id if current else None
    return Step(
        group_key, _next_epoch(history), left, target.model_id, Decision.PINNED, None, "held here until it is unpinned"
    )


def unpin(group_key: str, history: Sequence[Promotion]) -> Step:
    """The pinned model goes on answering, and a newer one may take its place. Raises GroupError: not pinned."""
    if not is_pinned(history):
        raise GroupError(group_key, "not pinned; `spinney fleet --state held` lists the groups that are")
    current = champion(history)
    assert current is not None, "a pin names a model"
    name = current.model_id
    return Step(group_key, _next_epoch(history), name, name, Decision.PROMOTED, None, "a newer one may take its place")


def before(history: Sequence[Promotion]) -> Promotion | None:
    """The last champion before the present one that is not withdrawn; None when there was none."""
    current = champion(history)
    passed = {row.model_id for row in history if row.decision == Decision.WITHDRAWN}
    passed |= {current.model_id} if current else set()
    for at in sorted({row.decided_at for row in history if row.decision in RULING}, reverse=True):
        earlier = champion(known_at(history, at))
        if earlier is not None and earlier.model_id not in passed:
            return earlier
    return None


def _to(group_key: str, history: Sequence[Promotion], target: Promotion | None, why: str) -> Step | None:
    current = champion(history)
    left, name = current.model_id if current else None, target.model_id if target else None
    if left == name:
        return None
    epoch = _next_epoch(history)
    if target is None:
        return Step(group_key, epoch, left, None, None, left, "had no model of its own then")
    newer = current is not None and current.order > target.order
    return Step(group_key, epoch, left, name, Decision.PROMOTED, left if newer else None, why)


def _next_epoch(history: Sequence[Promotion]) -> int:
    return max((row.epoch for row in history), default=0) + 1


def _refuse_pinned(group_key: str, history: Sequence[Promotion]) -> None:
    if is_pinned(history):
        current = champion(history)
        name = current.model_id[:SHOWN] if current else "a model"
        raise GroupError(
            group_key, f"pinned to {name}, and so left alone; `spinney why` says by whom, `spinney unpin` frees it"
        )
