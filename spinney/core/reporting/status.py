"""Where each group stands: exactly one state a group, from what the tables say of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from schemas.vocabulary import Decision, ModelStatus, Staleness
from spinney.core.champions.champion_selection import is_pinned, select_champion
from spinney.core.champions.promotion import Promotion
from spinney.core.recipes.display_name import recipe_display_name


class State(StrEnum):
    """Every group is in exactly one."""

    FRESH = "fresh"  # its own model answers, and no policy asks for another
    STALE = "stale"  # found stale, waiting for its round
    REFUSED = "refused"  # the last challenger was refused; it waits for new evidence
    HELD = "held"  # pinned by a person
    FAILED = "failed"  # the last fit failed; an older model answers, if there is one
    PARENT = "parent"  # no model of its own: a parent answers
    NONE = "none"  # nobody answers


@dataclass(frozen=True)
class Last:
    """What was said last of one group; None where nothing was.

    outcome: a Decision, or the ModelStatus of an attempt that gave no model, whichever came later. verdict: a
    Staleness; None, too, once an outcome of its round or a later one has settled it. pinned: by a person, whatever was
    said since.
    """

    champion_id: str | None = None
    ancestor_answers: bool = False
    pinned: bool = False
    verdict: str | None = None
    outcome: str | None = None


@dataclass(frozen=True)
class Standing:
    """One group at a glance.

    Of its champion: recipe: what fitted it, as `recipe_name.shown` has it; trained_through, in event time; rows: it was
    fitted on.
    """

    group_key: str
    state: State
    model_id: str | None
    recipe: str | None
    trained_through: datetime | None
    fitted_at: datetime | None
    rows: int | None
    loss: float | None
    reason: str | None
    error: str | None


UNFITTED = frozenset({ModelStatus.FAILED, ModelStatus.TIMED_OUT})


def state(last: Last) -> State:
    """The state of a group."""
    if last.outcome in UNFITTED:
        return State.FAILED
    if last.champion_id is None:
        return State.PARENT if last.ancestor_answers else State.NONE
    if last.pinned:
        return State.HELD
    if last.verdict in (Staleness.FIT, Staleness.DEFERRED):
        return State.STALE
    refused = last.outcome == Decision.REFUSED if last.verdict is None else last.verdict == Staleness.REFUSED
    return State.REFUSED if refused else State.FRESH


def standing(
    group_key: str,
    promotions: Iterable[Mapping[str, Any]],
    verdicts: Iterable[Mapping[str, Any]],
    attempts: Iterable[Mapping[str, Any]],
    *,
    ancestor_answers: bool,
    estimators: Mapping[str, str],
) -> Standing:
    """Where one group stands, by all of its own rows of these tables, in any order. estimators: by recipe_id.

    The rules that `spinney.core.reporting.fleet_status` follows for a whole fleet.
    """
    attempts = [*attempts]
    decided = sorted(promotions, key=lambda row: row["decided_at"])
    history = [Promotion.from_row(row) for row in decided]
    current = select_champion(history)
    verdict = max(reversed([*verdicts]), key=lambda row: row["judged_at"], default=None)
    attempt = max(reversed(attempts), key=lambda row: row["fitted_at"], default=None)
    said, outcome = _said_last(verdict, decided, attempt)
    model_id = current.model_id if current else None
    # A row that only keeps or pins a model does not say again what it was fitted on.
    of_champion = (row for row in reversed(decided) if row["model_id"] == model_id and row["fitted_at"] is not None)
    row: Mapping[str, Any] = next(of_champion, {}) if current else {}
    return Standing(
        group_key=group_key,
        state=state(Last(model_id, ancestor_answers, is_pinned(history), said, outcome)),
        model_id=model_id,
        recipe=recipe_display_name(
            next((each["recipe_id"] for each in attempts if each["model_id"] == model_id), None), estimators
        )
        if current
        else None,
        trained_through=row.get("trained_through"),
        fitted_at=row.get("fitted_at"),
        rows=row.get("rows"),
        loss=row.get("challenger_loss"),
        reason=verdict["reason"] if verdict else None,
        error=attempt["error"] if attempt else None,
    )


def _said_last(
    verdict: Mapping[str, Any] | None, promotions: Sequence[Mapping[str, Any]], attempt: Mapping[str, Any] | None
) -> tuple[str | None, str | None]:
    """The verdict and the outcome of a `Last`. promotions: oldest first; attempt: the newest."""
    outcomes = [(row["decided_at"], row["round_id"], row["decision"]) for row in promotions[-1:]]
    if attempt and attempt["status"] != ModelStatus.FITTED:
        outcomes.append((attempt["fitted_at"], attempt["round_id"], attempt["status"]))
    at, round_id, outcome = max(outcomes, key=lambda each: each[0], default=(None, None, None))
    if verdict is None or (at is not None and (round_id == verdict["round_id"] or at > verdict["judged_at"])):
        return None, outcome
    return verdict["decision"], outcome
