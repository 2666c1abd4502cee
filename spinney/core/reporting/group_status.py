"""The status of a group: exactly one state, derived from its rows in the tables."""

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
    """The state of a group. Every group is in exactly one."""

    FRESH = "fresh"  # its own model answers, and no policy calls it stale
    STALE = "stale"  # stale, waiting for a round
    REFUSED = "refused"  # the last challenger was refused; it waits for new rows
    HELD = "held"  # pinned by a person, or the gate held its last challenger until a person decides
    FAILED = "failed"  # the last fit failed; an older model answers, if there is one
    PARENT = "parent"  # no model of its own: a parent answers
    NONE = "none"  # no model answers


@dataclass(frozen=True)
class LatestRecords:
    """The latest records of one group; None where there is none.

    champion_id: model_id of its champion. ancestor_answers: whether a parent has a champion. pinned: by a person.
    verdict: a Staleness; also None once there is an outcome of the same round or of a later one. outcome: a Decision,
    or the ModelStatus of an attempt that gave no model; the later of the two.
    """

    champion_id: str | None = None
    ancestor_answers: bool = False
    pinned: bool = False
    verdict: str | None = None
    outcome: str | None = None


@dataclass(frozen=True)
class GroupStatus:
    """The status of one group. The field names are those of `spinney fleet --json`.

    Of its champion, None without one: model_id; recipe (display name); trained_through (event time of its newest
    training row); fitted_at (wall clock); rows (it was fitted on); loss (mean on its held-out rows); loss_name (of that
    loss). reason: of the last verdict. error: of the last attempt.
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
    loss_name: str | None = None


FAILED_STATUSES = frozenset({ModelStatus.FAILED, ModelStatus.TIMED_OUT})


def derive_state(last: LatestRecords) -> State:
    """Return the state of a group."""
    if last.outcome in FAILED_STATUSES:
        return State.FAILED
    if last.champion_id is None:
        return State.PARENT if last.ancestor_answers else State.NONE
    if last.pinned:
        return State.HELD
    if last.verdict in (Staleness.FIT, Staleness.DEFERRED):
        return State.STALE
    if last.outcome == Decision.HELD:
        return State.HELD
    refused = last.outcome == Decision.REFUSED if last.verdict is None else last.verdict == Staleness.REFUSED
    return State.REFUSED if refused else State.FRESH


def derive_status(
    group_key: str,
    promotions: Iterable[Mapping[str, Any]],
    verdicts: Iterable[Mapping[str, Any]],
    attempts: Iterable[Mapping[str, Any]],
    *,
    ancestor_answers: bool,
    estimators: Mapping[str, str],
) -> GroupStatus:
    """Return the status of one group.

    promotions, verdicts, attempts (rows of `models`): all rows of the group, in any order. ancestor_answers: whether a
    parent has a champion. estimators: recipe_id -> estimator. `fleet_status` applies the same rules to a whole fleet.
    """
    attempts = [*attempts]
    # A round that withdraws a champion decides about a challenger too: that is the outcome of the attempt.
    decided = sorted(promotions, key=lambda row: (row["decided_at"], row["decision"] != Decision.WITHDRAWN))
    history = [Promotion.from_row(row) for row in decided]
    champion = select_champion(history)
    verdict = max(reversed([*verdicts]), key=lambda row: row["judged_at"], default=None)
    attempt = max(reversed(attempts), key=lambda row: row["fitted_at"], default=None)
    open_verdict, outcome = _latest_verdict_and_outcome(verdict, decided, attempt)
    model_id = champion.model_id if champion else None
    # Rows that keep or pin a model do not repeat what it was fitted on.
    of_champion = (row for row in reversed(decided) if row["model_id"] == model_id and row["fitted_at"] is not None)
    row: Mapping[str, Any] = next(of_champion, {}) if champion else {}
    return GroupStatus(
        group_key=group_key,
        state=derive_state(LatestRecords(model_id, ancestor_answers, is_pinned(history), open_verdict, outcome)),
        model_id=model_id,
        recipe=recipe_display_name(_recipe_id(attempts, model_id), estimators) if champion else None,
        trained_through=row.get("trained_through"),
        fitted_at=row.get("fitted_at"),
        rows=row.get("rows"),
        loss=row.get("challenger_loss"),
        reason=verdict["reason"] if verdict else None,
        error=attempt["error"] if attempt else None,
        loss_name=row.get("loss_name"),
    )


def _recipe_id(attempts: Iterable[Mapping[str, Any]], model_id: str | None) -> str | None:
    """The recipe that fitted a model; None where its attempt is not stored."""
    return next((row["recipe_id"] for row in attempts if row["model_id"] == model_id), None)


def _latest_verdict_and_outcome(
    verdict: Mapping[str, Any] | None, promotions: Sequence[Mapping[str, Any]], attempt: Mapping[str, Any] | None
) -> tuple[str | None, str | None]:
    """Verdict and outcome of LatestRecords. promotions: oldest first. verdict, attempt: the newest."""
    outcomes = [(row["decided_at"], row["round_id"], row["decision"]) for row in promotions[-1:]]
    if attempt and attempt["status"] != ModelStatus.FITTED:
        outcomes.append((attempt["fitted_at"], attempt["round_id"], attempt["status"]))
    at, round_id, outcome = max(outcomes, key=lambda latest: latest[0], default=(None, None, None))
    if verdict is None or (at is not None and (round_id == verdict["round_id"] or at > verdict["judged_at"])):
        return None, outcome
    return verdict["decision"], outcome
