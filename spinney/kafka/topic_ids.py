"""The Kafka ids of the topics that a fleet reads, stored in `topics.json` below its root.

A topic that was deleted and created again under the same name has another id, and its offsets name other records. A
query that continued from its checkpoint would silently skip as many of them as it had read of the old topic.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path

from schemas.vocabulary import QueryName
from spinney.core.config import Kafka
from spinney.core.errors import StoreError
from spinney.core.stored_formats import KEY, TOPICS
from spinney.kafka import client
from spinney.kafka.topic_metadata import Absence, Topic, require_topics, topic_extent
from spinney.storage import atomic_files, charter, checkpoints, leases
from spinney.storage.layout import FleetStore

FILE = "topics.json"
READERS = (QueryName.INGEST, QueryName.SCORE)
"""The queries that read Kafka."""


class Acceptance(StrEnum):
    """The outcome for a topic that a person accepts, as text."""

    REWOUND = "is read from its start"
    SAME = "is the one that was read before; nothing changed"
    NOT_READ = "was not read before; nothing changed"
    NO_ID = "has no id (Kafka before 2.8), so whether it is the one that was read before is not known; nothing changed"


def known_ids(store: FleetStore) -> dict[str, str]:
    """Return topic -> the id that it had when the fleet last read it."""
    file = _file(store)
    if not file.exists():
        return {}
    content = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(content.get(KEY), int):  # the first version was the ids alone; a topic may be named as the key is
        return dict(content)
    TOPICS.check_object(content, file)
    return dict(content["topics"])


def recreated_topics(store: FleetStore, kafka: Kafka, found: Mapping[str, Topic | Absence]) -> list[Topic]:
    """Return the topics whose id differs from when they were read. Kafka before 2.8 has no ids, so none is returned."""
    before = known_ids(store)
    topics = (found.get(name) for name in client.topics_read(kafka))
    return [
        topic
        for topic in topics
        if isinstance(topic, Topic) and _has_other_id(before, topic) and _was_read(store, topic)
    ]


def ensure_same(store: FleetStore, kafka: Kafka, found: Mapping[str, Topic]) -> None:
    """Store the ids of the topics that the fleet reads, if they are the same as before.

    Raises StoreError if a topic was deleted and created again since it was read.
    """
    for topic in recreated_topics(store, kafka, found):
        raise StoreError(explain_recreated(store, kafka, topic))
    _store_ids(store, {name: found[name] for name in client.topics_read(kafka) if name in found})


def accept_topic(store: FleetStore, kafka: Kafka, name: str) -> Acceptance:
    """Let the queries read a recreated topic from its start. Safe to repeat after a crash.

    This also works for a topic that was read before ids were stored, since only the person who accepts it knows that it
    is another one. The queries keep their state and what they have read of the old topic. Raises StoreError: not a
    topic that the fleet reads. Busy: a query that reads it runs.
    """
    read = client.topics_read(kafka)
    if name not in read:
        raise StoreError(f"--accept-topic {name}: expected a topic that the fleet reads: {', '.join(read)}")
    topic = require_topics(kafka, [name])[name]
    with leases.held(store, READERS):
        if not _was_read(store, topic):
            return Acceptance.NOT_READ
        if topic.id is None:
            return Acceptance.NO_ID
        if known_ids(store).get(name) == topic.id:
            return Acceptance.SAME
        first = topic_extent(kafka, topic).first
        for query in READERS:
            checkpoints.rewind(store.checkpoint(query), name, first)
        charter.restart_topic(store, name)
        _store_ids(store, {name: topic})  # last: until then a start is refused
    return Acceptance.REWOUND


def accept_topics(store: FleetStore, kafka: Kafka, names: Iterable[str]) -> Iterator[str]:
    """Accept these topics one by one; yield the outcome of each as text. Raises the errors of `accept_topic`."""
    for name in names:
        yield f"topic {name}: {accept_topic(store, kafka, name)}"


def explain_recreated(store: FleetStore, kafka: Kafka, topic: Topic) -> str:
    """Return what happened to a recreated topic, and what to do."""
    name, now = topic.name, topic_extent(kafka, topic)
    read = {query: checkpoints.kafka_end_offsets(store.checkpoint(query), name) for query in READERS}
    until = "; ".join(
        f"{query} up to {_describe_offsets(offsets)}" for query, offsets in read.items() if offsets is not None
    )
    return (
        f"topic {name} on {kafka.bootstrap_servers}: expected the one that was read before (id "
        f"{known_ids(store)[name]}; {until}); found another of that name, made since (id {topic.id}), with "
        f"{now.records} records, none of them read. What the old topic held beyond those offsets is lost. To read the "
        f"new one from its start: `spinney stream --accept-topic {name}` (an event whose id came within "
        "kafka.duplicates_within is a duplicate)"
    )


def _describe_offsets(offsets: Mapping[str, int]) -> str:
    return ", ".join(f"offset {offset} of partition {partition}" for partition, offset in offsets.items())


def _has_other_id(before: Mapping[str, str], topic: Topic) -> bool:
    return topic.id is not None and before.get(topic.name, topic.id) != topic.id


def _was_read(store: FleetStore, topic: Topic) -> bool:
    locations = [store.checkpoint(query) for query in READERS]
    return any(checkpoints.kafka_end_offsets(location, topic.name) is not None for location in locations)


def _store_ids(store: FleetStore, topics: Mapping[str, Topic]) -> None:
    before = known_ids(store)
    now = before | {name: topic.id for name, topic in topics.items() if topic.id is not None}
    if now != before:
        atomic_files.replace_file(_file(store), json.dumps({KEY: TOPICS.version, "topics": now}, indent=1).encode())


def _file(store: FleetStore) -> Path:
    return store.folder / FILE
