"""Find out whether `stream --once` has anything to do, from checkpoints, topics and logs, without Java.

Spark takes half a minute to find that there is nothing. Rows that have not certainly been read count as pending.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from deltalake import DeltaTable

from schemas.vocabulary import QueryName
from spinney.core.config import Config, Kafka
from spinney.kafka import client, topic_ids, topic_metadata
from spinney.storage import charter, checkpoints, leases, retrain_requests
from spinney.storage.layout import Directory, FleetStore
from spinney.storage.stream_readers import reading_queries
from spinney.tables import delta
from spinney.tables.stream_reading import TableOffset
from spinney.tables.table_log import read_appends
from streaming.clock_checks import clock_tolerance, refuse_clock_behind_checkpoint

TablesById = dict[str, tuple[Directory, DeltaTable]]
"""Delta's id of a table -> directory and table."""


def find_pending_work(config: Config, names: Sequence[str]) -> str | None:
    """Return the first thing that these queries have left to do, as a phrase; None if there is nothing.

    names: as `select_queries` returns them.

    Raises:
        StoreError, Busy: starting the queries would raise it too.
    """
    store = FleetStore.of(config)
    if unfinished := next(_unfinished_batches(store, names), None):
        return unfinished
    if QueryName.RETRAIN in names and (requests := len(retrain_requests.read_requests(store))):
        return f"people have asked for {requests} group{'s' if requests > 1 else ''} to be retrained"
    with leases.held(store, names):
        charter.check_unchanged(store)
        try:
            return next(_unread_sources(store, config.kafka, names), None)
        except (OSError, ValueError, KeyError, IndexError) as error:
            return f"what was read cannot be found out without Spark ({type(error).__name__}: {error})"


def _unfinished_batches(store: FleetStore, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        location = store.checkpoint(name)
        newest, ended = (checkpoints.newest_batch_id(location, log) for log in ("offsets", "commits"))
        if newest is None:
            yield f"query {name} has not begun"
        elif newest != ended:
            yield f"query {name}: batch {newest} has not ended"


def _unread_sources(store: FleetStore, kafka: Kafka, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        refuse_clock_behind_checkpoint(name, store.checkpoint(name), datetime.now(UTC), clock_tolerance(kafka))
    topic_by_name = topic_metadata.require_topics(kafka, client.topics_of(kafka))
    topic_ids.ensure_same(store, kafka, topic_by_name)
    for name in names:
        for topic in _topics(kafka, name):
            yield from _unread_records(store, kafka, name, topic_by_name[topic])
    opened = _open_source_tables(store, names)
    for name in names:
        yield from _unread_commits(store, name, opened)


def _topics(kafka: Kafka, name: str) -> tuple[str, ...]:
    """Return the topics that a query reads."""
    if name == QueryName.SCORE:
        return (kafka.events,)
    return client.topics_read(kafka) if name == QueryName.INGEST else ()


def _unread_records(store: FleetStore, kafka: Kafka, name: str, topic: topic_metadata.Topic) -> Iterator[str]:
    read = checkpoints.kafka_end_offsets(store.checkpoint(name), topic.name)
    end = topic_metadata.topic_extent(kafka, topic).end
    if read != end:
        # Markers of transactions have offsets too, so the number of records is unknown.
        yield f"topic {topic.name}: read by {name} up to {read}, ends at {end}"


def _open_source_tables(store: FleetStore, names: Sequence[str]) -> TablesById:
    """Return the tables that these queries read as streams. Raises StoreError if one was never created."""
    tables: TablesById = {}
    for directory in store.every_directory():
        if not set(reading_queries(directory)) & set(names):
            continue
        table = delta.open_existing(directory)
        tables[str(table.metadata().id)] = (directory, table)
    return tables


def _unread_commits(store: FleetStore, name: str, opened: TablesById) -> Iterator[str]:
    location = store.checkpoint(name)
    newest = checkpoints.newest_batch_id(location, "offsets")
    lines = checkpoints.end_offsets(location, newest) if newest is not None else []
    offsets = [TableOffset.parse(line) for line in lines if line is not None and "reservoirId" in json.loads(line)]
    for offset in offsets:
        yield from _unread_commits_from(name, offset, opened)
    if None in lines:
        # A source without an offset, since it was empty, does not name its table.
        known = {offset.table_id for offset in offsets}
        for table_id, (directory, table) in opened.items():
            if table_id not in known and table.file_uris() and name in reading_queries(directory):
                yield f"table {directory.name} was empty when {name} read it last"


def _unread_commits_from(name: str, offset: TableOffset, opened: TablesById) -> Iterator[str]:
    """Yield a phrase about what a query has not read of one table; nothing if it has read all."""
    if offset.table_id not in opened:
        yield f"query {name} has read a table that is none of the fleet's now"
        return
    directory, table = opened[offset.table_id]
    if offset.files or offset.is_snapshot:
        yield f"table {directory.name}: {name} has read a part of version {offset.version}"
        return
    for commit in read_appends(directory, offset.version, int(table.version())):
        yield f"table {directory.name}: version {commit.version} is not read by {name}"
