"""Whether a fleet may get other columns now: a batch that is repeated must see the columns that it began with."""

from __future__ import annotations

from collections.abc import Iterator

from schemas.vocabulary import QueryName
from spinney.storage import checkpoints
from spinney.storage.layout import FleetStore

_QUERIES = (QueryName.INGEST, QueryName.SCORE, QueryName.LABELS, QueryName.RETRAIN)


def find_obstacles(store: FleetStore) -> Iterator[str]:
    """What has to be done first, each in a sentence."""
    for query in _QUERIES:
        begun = checkpoints.newest_started_batch(store.checkpoint(query))
        if begun is not None and not begun.is_committed:
            yield (
                f"query {query}: batch {begun.batch_id} was begun and has not ended; it will be repeated, and must see "
                "the columns that it began with. Run `spinney stream --once` with the configuration as it was before"
            )
