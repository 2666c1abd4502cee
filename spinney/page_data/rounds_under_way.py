"""The progress of the rounds that are planned and not recorded yet, read from the tables."""

from __future__ import annotations

from datetime import datetime

from schemas import tables
from schemas.vocabulary import RoundKind
from spinney.core.reporting.round_progress import RoundProgress
from spinney.retraining.unfinished_rounds import UnfinishedRound, read_unfinished_round
from spinney.storage.layout import FleetStore
from spinney.tables import lookup
from spinney.tables.lookup import HasText, NotBefore


def read_rounds_under_way(store: FleetStore, now: datetime) -> tuple[RoundProgress, ...]:
    """Return the rounds that are planned and not recorded, the newest first: at most one of the stream and one of
    batches.

    now: wall clock. Raises StoreError if a table does not exist.
    """
    planned = [found for kind in RoundKind if (found := read_unfinished_round(store, kind)) is not None]
    planned.sort(key=lambda found: found.planned_at, reverse=True)
    return tuple(
        RoundProgress.measured(found.round_id, found.planned_at, found.groups, _count_attempted(store, found), now)
        for found in planned
    )


def _count_attempted(store: FleetStore, planned: UnfinishedRound) -> int:
    """The number of groups with an attempt in a round."""
    # Attempts are dated at the plan of their round: files of earlier rounds are not opened.
    of_round = f"{HasText('round_id', planned.round_id)} AND {NotBefore('fitted_at', planned.planned_at)}"
    columns, what = ["round_id", "group_key", "fitted_at"], "count(DISTINCT group_key) AS groups"
    (counted,) = lookup.select(store, tables.MODELS, columns, what, f"WHERE {of_round}").to_pylist()
    return int(counted["groups"])
