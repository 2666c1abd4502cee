"""Whether a fleet may get other columns now: no record may be judged by the old ones here and by the new ones there."""

from __future__ import annotations

import json
from collections.abc import Iterator

from schemas.vocabulary import QueryName
from spinney.core.config import Config
from spinney.stores import charter, checkpoints, layout

_QUERIES = (QueryName.INGEST, QueryName.SCORE, QueryName.LABELS, QueryName.RETRAIN)
_FIRST = "Run `spinney stream --once` with the configuration as it was before"


def obstacles(config: Config) -> Iterator[str]:
    """What has to be done first, each in a sentence."""
    for query in _QUERIES:
        begun = checkpoints.newest_begun(layout.checkpoint(config, query))
        if begun is not None and not begun.ended:
            yield (
                f"query {query}: batch {begun.batch_id} was begun and has not ended; it will be repeated, and must see "
                f"the columns that it began with. {_FIRST}"
            )
    topic = config.kafka.events
    read = {query: _positions(config, query, topic) for query in charter.JUDGING}
    if len({json.dumps(each, sort_keys=True) for each in read.values()}) > 1:
        said = " and ".join(f"{query} {json.dumps(each) if each else 'nothing'}" for query, each in read.items())
        yield (
            f"topic {topic}: expected that {' and '.join(charter.JUDGING)} have read to the same offsets; got {said}: "
            f"records between would be judged by two sets of columns. {_FIRST}, while nothing is sent to the topic"
        )


def _positions(config: Config, query: str, topic: str) -> dict[str, int]:
    """Partition -> the offset that the query has read to; without partitions that it has read nothing of."""
    return {at: offset for at, offset in charter.begun_by(config, query).get(topic, {}).items() if offset}
