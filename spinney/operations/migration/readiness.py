"""Check whether a fleet can be migrated now: a repeated batch must see the columns that it started with."""

from __future__ import annotations

from collections.abc import Iterator

from schemas.vocabulary import QueryName
from spinney.storage import checkpoints
from spinney.storage.layout import FleetStore

_QUERIES = (QueryName.INGEST, QueryName.SCORE, QueryName.LABELS, QueryName.RETRAIN)


def find_obstacles(store: FleetStore) -> Iterator[str]:
    """Yield what must be done first, one sentence each."""
    for query in _QUERIES:
        begun = checkpoints.newest_started_batch(store.checkpoint(query))
        if begun is not None and not begun.is_committed:
            yield (
                f"query {query}: batch {begun.batch_id} is unfinished; it will be repeated, and must see the columns "
                "and the loss that it started with. Run `spinney stream --once` with the previous configuration"
            )
