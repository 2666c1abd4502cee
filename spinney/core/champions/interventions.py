"""Interventions by people: promote, roll back, pin, unpin.

The functions return what would change; `spinney.operations.interventions` writes it. Every intervention, including pin
and unpin, increments the group's revision, and the higher revision wins over whatever machines write meanwhile.
Machines then write in the new revision, where newer data wins again. So that they do not undo a rollback by fitting the
same rows again, the model that an older one replaces is withdrawn with it (`withdrawals`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.vocabulary import Decision
from spinney.core.champions.champion_selection import decided_until, is_pinned, select_champion
from spinney.core.champions.promotion import CHAMPION_DECISIONS, Promotion
from spinney.core.champions.withdrawals import withdrawn_model_ids
from spinney.core.errors import GroupError

SHORT_ID_LENGTH = 12
"""Characters of a model_id that are shown to people."""


@dataclass(frozen=True)
class ChampionChange:
    """The change of one group by an intervention. The field names are those of `--json`.

    epoch: the group's new revision. before, after: model_ids of the champions; None where no model of the group's own
    answers. decision: about `after`; None when that is None. withdrawn: model_id that is withdrawn with it. why: in
    words, for this group.
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
        """(model_id, decision) of each row of `promotions` to be written."""
        about = [(self.after, self.decision), (self.withdrawn, Decision.WITHDRAWN)]
        return tuple((name, decision) for name, decision in about if name is not None and decision is not None)


def promote(group_key: str, history: Sequence[Promotion], target: Promotion) -> ChampionChange | None:
    """Make the target the champion. Returns None if it is already. Raises GroupError when the group is pinned."""
    _require_not_pinned(group_key, history)
    return _replace_champion(group_key, history, target, "asked for by name")


def rollback(group_key: str, history: Sequence[Promotion], at: int | None) -> ChampionChange | None:
    """Make the champion of a former time the champion again.

    at: wall clock, microseconds; None: the champion before the current one. Returns None if that model is the champion
    already. A group that had no model of its own at that time has none again. Raises GroupError when the group is
    pinned, or no model answered before.
    """
    _require_not_pinned(group_key, history)
    if at is not None:
        return _replace_champion(group_key, history, select_champion(decided_until(history, at)), "answered then")
    target = previous_champion(history)
    if target is None:
        raise GroupError(
            group_key, "no model answered before the current one, except withdrawn ones; `spinney why` shows them all"
        )
    return _replace_champion(group_key, history, target, "answered before the current one")


def pin(group_key: str, history: Sequence[Promotion], target: Promotion | None = None) -> ChampionChange:
    """Pin the target, or the champion. Raises GroupError when the group is pinned already or has no champion."""
    _require_not_pinned(group_key, history)
    champion = select_champion(history)
    target = target or champion
    if target is None:
        raise GroupError(group_key, "no model of its own answers, so none can be pinned; name one by --model")
    return ChampionChange(
        group_key=group_key,
        epoch=_next_revision(history),
        before=champion.model_id if champion else None,
        after=target.model_id,
        decision=Decision.PINNED,
        withdrawn=None,
        why="held here until it is unpinned",
    )


def unpin(group_key: str, history: Sequence[Promotion]) -> ChampionChange:
    """Let newer models replace the pinned one, which stays the champion. Raises GroupError when nothing is pinned."""
    if not is_pinned(history):
        raise GroupError(
            group_key,
            "not pinned; `spinney fleet --state held` lists pinned groups, and those whose challenger the gate held",
        )
    champion = select_champion(history)
    assert champion is not None, "a pin names a model"
    return ChampionChange(
        group_key=group_key,
        epoch=_next_revision(history),
        before=champion.model_id,
        after=champion.model_id,
        decision=Decision.PROMOTED,
        withdrawn=None,
        why="a newer one may take its place",
    )


def previous_champion(history: Sequence[Promotion]) -> Promotion | None:
    """Return the last champion before the current one that was never withdrawn; None when there was none."""
    champion = select_champion(history)
    withdrawn = withdrawn_model_ids((row.model_id, row.decision) for row in history)
    excluded = withdrawn | ({champion.model_id} if champion else set())
    for at in sorted({row.decided_at for row in history if row.decision in CHAMPION_DECISIONS}, reverse=True):
        earlier = select_champion(decided_until(history, at))
        if earlier is not None and earlier.model_id not in excluded:
            return earlier
    return None


def _replace_champion(
    group_key: str, history: Sequence[Promotion], target: Promotion | None, why: str
) -> ChampionChange | None:
    """The change from the champion to the target; None if they are the same. A newer champion is withdrawn."""
    champion = select_champion(history)
    before, after = champion.model_id if champion else None, target.model_id if target else None
    if before == after:
        return None
    revision = _next_revision(history)
    if target is None:
        return ChampionChange(group_key, revision, before, None, None, before, "had no model of its own then")
    is_newer = champion is not None and champion.order > target.order
    return ChampionChange(group_key, revision, before, after, Decision.PROMOTED, before if is_newer else None, why)


def _next_revision(history: Sequence[Promotion]) -> int:
    return max((row.revision for row in history), default=0) + 1


def _require_not_pinned(group_key: str, history: Sequence[Promotion]) -> None:
    if is_pinned(history):
        champion = select_champion(history)
        name = champion.model_id[:SHORT_ID_LENGTH] if champion else "a model"
        raise GroupError(
            group_key, f"pinned to {name}, and so left alone; `spinney why` says by whom, `spinney unpin` frees it"
        )
