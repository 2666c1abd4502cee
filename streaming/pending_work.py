"""Whether `stream --once` would find anything to do: asked of checkpoints, topics and logs, without Java.

Spark takes half a minute to find out that there is nothing. What is not surely read counts as unread.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from deltalake import DeltaTable

from schemas.vocabulary import QueryName
from spinney.core.config import Config, Kafka
from spinney.kafka import client, topic_ids, topics
from spinney.storage import charter, checkpoints, leases
from spinney.storage.layout import Directory, FleetStore
from spinney.storage.stream_sources import readers
from spinney.tables import delta
from spinney.tables.table_log import appended
from streaming.clock import refuse_the_past, tolerance

BASE_INDEX = -1
"""Of an offset in a Delta table: nothing of its version is read yet."""

Tables = dict[str, tuple[Directory, DeltaTable]]
"""Delta's own id of a table -> the table."""


def unread(config: Config, names: Sequence[str]) -> str | None:
    """Return the first thing that these queries have left to do, in words; None where there is nothing.

    names: as `names.named` gives them. Raises what their start would: StoreError, Busy.
    """
    store = FleetStore.of(config)
    if found := next(_unfinished(store, names), None):
        return found
    with leases.held(store, names):
        charter.ensure_kept(config)
        try:
            return next(_left(config, names), None)
        except (OSError, ValueError, KeyError, IndexError) as error:
            return f"what was read cannot be told without Spark ({type(error).__name__}: {error})"


def _unfinished(store: FleetStore, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        location = store.checkpoint(name)
        newest, ended = (checkpoints.newest(location, log) for log in ("offsets", "commits"))
        if newest is None:
            yield f"query {name} has not begun"
        elif newest != ended:
            yield f"query {name}: batch {newest} has not ended"


def _left(config: Config, names: Sequence[str]) -> Iterator[str]:
    store = FleetStore.of(config)
    for name in names:
        refuse_the_past(name, store.checkpoint(name), datetime.now(UTC), tolerance(config.kafka))
    found = topics.require_topics(config.kafka, client.topics_of(config.kafka))
    topic_ids.ensure_same(config, found)
    for name in names:
        for topic in _topics(config.kafka, name):
            yield from _records(config, name, found[topic])
    opened = _opened(store, names)
    for name in names:
        yield from _rows(store, name, opened)


def _topics(kafka: Kafka, name: str) -> tuple[str, ...]:
    """The topics that a query reads."""
    if name == QueryName.SCORE:
        return (kafka.events,)
    return client.topics_read(kafka) if name == QueryName.INGEST else ()


def _records(config: Config, name: str, topic: topics.Topic) -> Iterator[str]:
    read = checkpoints.kafka_offsets(FleetStore.of(config).checkpoint(name), topic.name)
    end = topics.topic_extent(config.kafka, topic).end
    if read != end:
        # The markers of transactions have offsets too, so how many records they are is not said.
        yield f"topic {topic.name}: read by {name} up to {read}, ends at {end}"


def _opened(store: FleetStore, names: Sequence[str]) -> Tables:
    """The tables that these queries read as streams. Raises StoreError: one was never made."""
    found: Tables = {}
    for directory in (each for each in store.every_directory() if set(readers(each)) & set(names)):
        table = delta.opened(directory)
        if table is None:
            raise delta.not_made(directory)
        found[str(table.metadata().id)] = (directory, table)
    return found


def _rows(store: FleetStore, name: str, opened: Tables) -> Iterator[str]:
    location = store.checkpoint(name)
    newest = checkpoints.newest(location, "offsets")
    lines = checkpoints.offsets(location, newest) if newest is not None else []
    reached = [offset for line in lines if line is not None and "reservoirId" in (offset := json.loads(line))]
    for offset in reached:
        yield from _rows_of(name, offset, opened)
    if None in lines:
        # A source that has given nothing yet does not say which one it is.
        known = {str(offset["reservoirId"]) for offset in reached}
        for table_id, (directory, table) in opened.items():
            if table_id not in known and table.file_uris() and name in readers(directory):
                yield f"table {directory.name} was empty when {name} read it last"


def _rows_of(name: str, offset: dict[str, Any], opened: Tables) -> Iterator[str]:
    """offset: of the next thing to read in one table."""
    if offset["reservoirId"] not in opened:
        yield f"query {name} has read a table that is none of the fleet's now"
        return
    directory, table = opened[offset["reservoirId"]]
    if offset["index"] != BASE_INDEX or offset["isStartingVersion"]:
        yield f"table {directory.name}: {name} has read a part of version {offset['reservoirVersion']}"
        return
    for commit in appended(directory, int(offset["reservoirVersion"]), int(table.version())):
        yield f"table {directory.name}: version {commit.version} is not read by {name}"
