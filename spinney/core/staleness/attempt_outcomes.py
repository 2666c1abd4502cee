"""What attempts to fit, and people, leave behind in what is known of a group.

=====================  ==========  ============  ============================================================
outcome                age, rows   stale_since   the next attempt waits for
=====================  ==========  ============  ============================================================
promoted, unproven     from here   forgotten     a policy
kept                   from here   forgotten     a policy, and a new row
refused, withdrawn     from here   forgotten     a policy, and new rows, twice as many each time
held                   from here   forgotten     a policy
too few rows           from here   goes on       a policy, and the rows that were missing, or time: see STORED_AFTER
failed, timed out      go on       goes on       time, twice as long each time: what was stale stays stale
=====================  ==========  ============  ============================================================
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from schemas.vocabulary import Decision, ModelStatus
from spinney.core.champions.promotion import PROMOTING_DECISIONS, Promotion
from spinney.core.champions.shard_champions import Champions
from spinney.core.staleness.group_state import NEVER, Groups

SECOND = 1_000_000
FIRST_RETRY = 300 * SECOND
LONGEST_RETRY = 86_400 * SECOND
MOST_DOUBLINGS = 10

STORED_AFTER = 10 * SECOND
"""After an attempt that found too few rows. They are counted by the query that scores them and stored by another one,
which may be some seconds behind: the attempt is repeated after this time, and after four times as much as long as it
finds no more, at most LONGEST_RETRY. It is never given up: the table may be many hours behind, and a group may get no
new row."""


@dataclass(frozen=True)
class Decided:
    """One row of `promotions` as the judge reads it.

    clock: the fleet's at the decision, microseconds. loss: the model's mean on its held-out rows; NaN if not known.
    fit_ms: NaN if nothing was fitted.
    """

    group_key: str
    promotion: Promotion
    by_machine: bool
    clock: int
    loss: float
    fit_ms: float


@dataclass(frozen=True)
class Unfitted:
    """One row of `models` whose attempt gave no model. at: wall clock, clock: the fleet's; microseconds."""

    group_key: str
    status: str
    rows: int
    at: int
    clock: int


def take_attempts(groups: Groups, champions: Champions, attempts: Iterable[Decided | Unfitted], min_rows: int) -> None:
    """Write into `groups` what these leave behind, in the order of time, since each depends on the one before.

    champions: with the decisions among the attempts seen. min_rows: the recipe's.
    """
    for row in sorted(attempts, key=in_time):
        at = int(groups.rows_of([row.group_key])[0])
        if isinstance(row, Unfitted):
            _take_unfitted(groups, at, row, min_rows)
        elif row.by_machine:
            _take_machine(groups, at, row)
            _take_decision(groups, at, _as_it_stands(row, champions), min_rows)
        else:
            _take_person(groups, at, row)


def in_time(row: Decided | Unfitted) -> tuple[int | str, ...]:
    """A total order of what happened to a group: by time, then by name, so that nothing depends on how rows arrive."""
    if isinstance(row, Unfitted):
        return (row.at, "", row.clock, row.status, row.rows)
    told = row.promotion
    numbers = f"{row.fit_ms} {row.loss}"
    return (told.decided_at, told.model_id, row.clock, told.decision, told.revision, numbers, row.by_machine)


def _as_it_stands(row: Decided, champions: Champions) -> str:
    """The decision; a promotion of a model that was withdrawn before is none: that model will not answer."""
    told = row.promotion
    struck = any(
        each.decision == Decision.WITHDRAWN and each.model_id == told.model_id and each.decided_at <= told.decided_at
        for each in champions.promotions.get(row.group_key, ())
    )
    return Decision.REFUSED if struck and told.decision in PROMOTING_DECISIONS else told.decision


def _take_machine(groups: Groups, at: int, row: Decided) -> None:
    _forget_hindrances(groups, at)
    _age_from(groups, at, row.clock)
    groups["stale_since"][at] = NEVER
    if np.isfinite(row.fit_ms):
        groups["fit_ms"][at] = row.fit_ms


def _take_decision(groups: Groups, at: int, decision: str, min_rows: int) -> None:
    """A refusal waits for new rows, twice as many each time; a model that stands starts afresh."""
    if decision in (Decision.REFUSED, Decision.WITHDRAWN):
        groups["refusals"][at] += 1
        doublings = min(int(groups["refusals"][at]) - 1, MOST_DOUBLINGS)
        groups["wait_rows"][at] = max(1, min_rows // 2) * 2**doublings
    elif decision in PROMOTING_DECISIONS:
        groups["refusals"][at] = 0
    elif decision == Decision.KEPT:
        groups["wait_rows"][at] = 1


def _take_person(groups: Groups, at: int, row: Decided) -> None:
    """Whoever steps in by hand is not made to wait for what machines tried before. No attempt: the age goes on."""
    _forget_hindrances(groups, at)
    groups["refusals"][at] = 0
    if groups["attempted_at"][at] == NEVER:
        # A model from elsewhere ages from its arrival.
        _age_from(groups, at, row.clock)


def _take_unfitted(groups: Groups, at: int, row: Unfitted, min_rows: int) -> None:
    """Too few rows waits for those missing; a failure settles nothing and waits for time, twice as long each time."""
    failures, missing = int(groups["failures"][at]), int(groups["wait_rows"][at])
    _forget_hindrances(groups, at)
    if row.status == ModelStatus.TOO_FEW_ROWS:
        _age_from(groups, at, row.clock)
        groups["labelled"][at] = max(int(groups["labelled"][at]), row.rows)
        groups["wait_rows"][at] = max(1, min_rows - row.rows)
        looks = failures if groups["wait_rows"][at] == missing else 0
        groups["failures"][at] = min(looks + 1, MOST_DOUBLINGS)
        groups["retry_at"][at] = row.at + min(STORED_AFTER * 4**looks, LONGEST_RETRY)
    else:
        failures = 0 if missing else failures  # attempts that found too few rows were none
        groups["failures"][at] = failures + 1
        groups["retry_at"][at] = row.at + min(FIRST_RETRY * 2 ** min(failures, MOST_DOUBLINGS), LONGEST_RETRY)


def _age_from(groups: Groups, at: int, clock: int) -> None:
    groups["attempted_at"][at] = max(int(groups["attempted_at"][at]), clock)
    groups["rows_since"][at] = 0


def _forget_hindrances(groups: Groups, at: int) -> None:
    for name in ("wait_rows", "failures"):
        groups[name][at] = 0
    groups["retry_at"][at] = NEVER
    # The same verdict after an attempt is news again.
    groups["decision"][at] = ""
