"""Update the state of a group after attempts to fit and interventions by people.

=====================  ==========  ============  ============================================================
outcome                age, rows   stale_since   next attempt waits for
=====================  ==========  ============  ============================================================
promoted, unproven     restart     cleared       a policy
kept                   restart     cleared       a policy, and a new row
refused, withdrawn     restart     cleared       a policy, and new rows, twice as many each time
held                   restart     cleared       a policy
too few rows           restart     kept          a policy, and the rows that were missing, or time: see STORED_AFTER
failed, timed out      kept        kept          time, twice as long each time; the group stays stale
=====================  ==========  ============  ============================================================

A round withdraws a champion beside its decision about the challenger, which alone determines what to wait for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from schemas.vocabulary import Decision, ModelStatus
from spinney.core.champions.champion_selection import decided_until
from spinney.core.champions.promotion import PROMOTING_DECISIONS, Promotion
from spinney.core.champions.shard_champions import Champions
from spinney.core.champions.withdrawals import withdrawn_model_ids
from spinney.core.staleness.evidence.error_evidence import LIMIT
from spinney.core.staleness.group_state import NEVER, GroupStates

SECOND = 1_000_000
FIRST_RETRY = 300 * SECOND
LONGEST_RETRY = 86_400 * SECOND
MOST_DOUBLINGS = 10

STORED_AFTER = 10 * SECOND
"""Wait after an attempt with too few rows, microseconds.

Rows are counted by the query that scores them and stored by another, which may be some seconds behind. The attempt is
repeated after this time, then after four times as long while no more rows are found, at most LONGEST_RETRY. It is
always repeated, since the table may be hours behind and the group may never get another row."""


SAMPLE_COLUMNS = ("heldout_losses", "training_predictions", "heldout_predictions")
"""Columns of `promotions` with samples of a model's losses and predictions: lists of numbers."""


@dataclass(frozen=True)
class DecisionRecord:
    """One row of `promotions` as the judge reads it.

    clock: the fleet's at the decision, microseconds. loss: mean on the model's held-out rows; NaN if not known.
    fit_ms: NaN if nothing was fitted. heldout_losses, training_predictions, heldout_predictions: stored with the model;
    empty if not known. rows: that the model was fitted on; 0 if not known.
    """

    group_key: str
    promotion: Promotion
    by_machine: bool
    clock: int
    loss: float
    fit_ms: float
    heldout_losses: tuple[float, ...] = ()
    training_predictions: tuple[float, ...] = ()
    rows: int = 0
    heldout_predictions: tuple[float, ...] = ()

    @property
    def usual_loss(self) -> float:
        """The loss to expect of the model: the mean of its stored losses, which are of more rows than `loss`; `loss`
        without them.
        """
        return float(np.mean(self.heldout_losses)) if self.heldout_losses else self.loss


@dataclass(frozen=True)
class UnfittedAttempt:
    """One row of `models` for an attempt that gave no model. at: wall clock, clock: the fleet's; microseconds."""

    group_key: str
    status: str
    rows: int
    at: int
    clock: int


def apply_attempts(
    groups: GroupStates, champions: Champions, attempts: Iterable[DecisionRecord | UnfittedAttempt], min_rows: int
) -> None:
    """Update `groups` in place with these attempts, in the order of time, since each depends on the one before.

    champions: already with the decisions among the attempts. min_rows: of the recipe.
    """
    ordered = sorted(attempts, key=time_order)
    with_challenger = {_moment(row) for row in ordered if _is_about_challenger(row)}
    for row in ordered:
        at = int(groups.positions_of([row.group_key])[0])
        if isinstance(row, UnfittedAttempt):
            _apply_unfitted(groups, at, row, min_rows)
        elif row.by_machine:
            if row.promotion.decision == Decision.WITHDRAWN and _moment(row) in with_challenger:
                continue
            _apply_machine_decision(groups, at, row)
            _apply_back_off(groups, at, _effective_decision(row, champions), min_rows)
        else:
            _apply_intervention(groups, at, row)


def _is_about_challenger(row: DecisionRecord | UnfittedAttempt) -> bool:
    return isinstance(row, DecisionRecord) and row.by_machine and row.promotion.decision != Decision.WITHDRAWN


def _moment(row: DecisionRecord | UnfittedAttempt) -> tuple[str, int]:
    """The group and the time of an attempt: the same for all decisions of one round."""
    return row.group_key, row.at if isinstance(row, UnfittedAttempt) else row.promotion.decided_at


def time_order(row: DecisionRecord | UnfittedAttempt) -> tuple[int | str, ...]:
    """Sort key: by time, then by the other fields, so that the order of arrival does not matter."""
    if isinstance(row, UnfittedAttempt):
        return (row.at, "", row.clock, row.status, row.rows)
    promotion = row.promotion
    numbers = f"{row.fit_ms} {row.loss}"
    return (
        promotion.decided_at,
        promotion.model_id,
        row.clock,
        promotion.decision,
        promotion.revision,
        numbers,
        row.by_machine,
    )


def _effective_decision(row: DecisionRecord, champions: Champions) -> str:
    """The decision of a machine; a promotion of a model that is withdrawn counts as refused (`withdrawals`)."""
    promotion = row.promotion
    earlier = decided_until(champions.promotions.get(row.group_key, ()), promotion.decided_at)
    is_withdrawn = promotion.model_id in withdrawn_model_ids((row.model_id, row.decision) for row in earlier)
    return Decision.REFUSED if is_withdrawn and promotion.decision in PROMOTING_DECISIONS else promotion.decision


def _apply_machine_decision(groups: GroupStates, at: int, row: DecisionRecord) -> None:
    _clear_waits(groups, at)
    _restart_age(groups, at, row.clock)
    groups["stale_since"][at] = NEVER
    spend_evidence(groups, at)
    if np.isfinite(row.fit_ms):
        groups["fit_ms"][at] = row.fit_ms
    if row.rows:
        groups["fitted_rows"][at] = row.rows


def _apply_back_off(groups: GroupStates, at: int, decision: str, min_rows: int) -> None:
    """After a refusal wait for new rows, twice as many each time; a promotion ends the series."""
    if decision in (Decision.REFUSED, Decision.WITHDRAWN):
        groups["refusals"][at] += 1
        doublings = min(int(groups["refusals"][at]) - 1, MOST_DOUBLINGS)
        groups["wait_rows"][at] = max(1, min_rows // 2) * 2**doublings
    elif decision in PROMOTING_DECISIONS:
        groups["refusals"][at] = 0
    elif decision == Decision.KEPT:
        groups["wait_rows"][at] = 1


def _apply_intervention(groups: GroupStates, at: int, row: DecisionRecord) -> None:
    """An intervention ends all waits. It is not an attempt, so the age is kept."""
    _clear_waits(groups, at)
    groups["refusals"][at] = 0
    if groups["attempted_at"][at] == NEVER:
        # The age of an imported model counts from its import.
        _restart_age(groups, at, row.clock)


def _apply_unfitted(groups: GroupStates, at: int, row: UnfittedAttempt, min_rows: int) -> None:
    """After too few rows wait for the missing ones or for time; after a failure for time, twice as long each time."""
    failures, missing = int(groups["failures"][at]), int(groups["wait_rows"][at])
    _clear_waits(groups, at)
    if row.status == ModelStatus.TOO_FEW_ROWS:
        _restart_age(groups, at, row.clock)
        groups["labelled"][at] = max(int(groups["labelled"][at]), row.rows)
        groups["wait_rows"][at] = max(1, min_rows - row.rows)
        repeats = failures if groups["wait_rows"][at] == missing else 0
        groups["failures"][at] = min(repeats + 1, MOST_DOUBLINGS)
        groups["retry_at"][at] = row.at + min(STORED_AFTER * 4**repeats, LONGEST_RETRY)
    else:
        failures = 0 if missing else failures  # attempts with too few rows are not failures
        groups["failures"][at] = failures + 1
        groups["retry_at"][at] = row.at + min(FIRST_RETRY * 2 ** min(failures, MOST_DOUBLINGS), LONGEST_RETRY)


def _restart_age(groups: GroupStates, at: int, clock: int) -> None:
    groups["attempted_at"][at] = max(int(groups["attempted_at"][at]), clock)
    groups["rows_since"][at] = 0


def spend_evidence(groups: GroupStates, at: int) -> None:
    """Reset the evidence of a raised error, or of drift, that caused an attempt. Evidence below the limit is kept."""
    for name in ("evidence", "drift"):
        if groups[name][at] >= LIMIT:
            groups[name][at] = 0


def _clear_waits(groups: GroupStates, at: int) -> None:
    for name in ("wait_rows", "failures"):
        groups[name][at] = 0
    groups["retry_at"][at] = NEVER
    # The same verdict after an attempt is reported again.
    groups["decision"][at] = ""
