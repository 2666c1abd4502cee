"""Rounds that are planned and not recorded: under way, or interrupted until their process starts again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from schemas import tables
from schemas.vocabulary import RoundKind
from spinney.retraining.round_request import RoundRequest
from spinney.storage.layout import FleetStore
from spinney.tables import delta, lookup
from spinney.tables.lookup import HasText


@dataclass(frozen=True)
class UnfinishedRound:
    """A round that is planned and not recorded. planned_at: wall clock. groups: number of groups to fit."""

    round_id: str
    planned_at: datetime
    groups: int


def read_unfinished_round(store: FleetStore, kind: RoundKind) -> UnfinishedRound | None:
    """Return the round of a path, stream or batch, that is planned and not recorded; None if there is none.

    A path begins a round when the one before has ended, so only its newest plan can be carried out: an earlier plan
    without a record was given up. Raises StoreError if a table does not exist, UnknownFormat.
    """
    plan = delta.read_last_step(store.directory(tables.VERDICTS, kind.value))
    if plan is None:
        return None
    request = RoundRequest.of_notes(plan.notes)
    groups = request.groups_in - request.deferred
    if groups == 0 or _is_recorded(store, request.round_id):
        return None
    return UnfinishedRound(request.round_id, request.now, groups)


def _is_recorded(store: FleetStore, round_id: str) -> bool:
    return bool(lookup.read_where(store, tables.ROUNDS, ["round_id"], HasText("round_id", round_id)).num_rows)
