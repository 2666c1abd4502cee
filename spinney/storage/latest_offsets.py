"""The newest Kafka offsets that a streaming query has seen, as it reported them: how far a topic reaches beyond it.

The offsets that a query has read are in its checkpoint. The end of a topic is known to Spark at the start of each batch
and is stored nowhere, so the running stream writes it into a small file per query. A reader of the lag needs no Kafka
client and no credentials.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from spinney.core.stored_formats import KEY, OFFSETS
from spinney.storage import checkpoints
from spinney.storage.atomic_files import replace_file
from spinney.storage.layout import FleetStore

FOLDER = "offsets"

Offsets = Mapping[str, Mapping[str, int]]
"""Topic -> partition -> offset."""


@dataclass(frozen=True)
class SeenOffsets:
    """The ends of the topics that a query reads. seen_at: when Spark looked at them last, by the wall clock."""

    seen_at: datetime
    ends: Offsets


@dataclass(frozen=True)
class TopicLag:
    """Records of a topic that a query has not processed, as far as its stream has seen the topic.

    records: up to the topic's end when Spark looked last. They include a batch that has begun and not ended, but no
    records that came after that look. seen_at: of that look; None if no stream has reported one.
    """

    topic: str
    records: int
    seen_at: datetime | None


def write_seen_offsets(store: FleetStore, query: str, seen: SeenOffsets) -> None:
    """Write what a query has seen, replacing what it saw before."""
    content = {KEY: OFFSETS.version, "seen_at": seen.seen_at.isoformat(), "ends": seen.ends}
    replace_file(store.folder / FOLDER / f"{query}.json", json.dumps(content).encode())


def read_seen_offsets(store: FleetStore, query: str) -> SeenOffsets | None:
    """Return what a query has seen; None if no stream has reported it. Raises UnknownFormat."""
    file = store.folder / FOLDER / f"{query}.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    OFFSETS.check_object(content, file)
    return SeenOffsets(datetime.fromisoformat(content["seen_at"]), content["ends"])


def read_lag(store: FleetStore, query: str) -> tuple[TopicLag, ...]:
    """Return the lag of a query in each topic that it reads, by name; none before its first batch has ended.

    Raises UnknownFormat.
    """
    location, seen = store.checkpoint(query), read_seen_offsets(store, query)
    ended = checkpoints.newest_kafka_offsets(location, "commits")
    begun = checkpoints.newest_kafka_offsets(location, "offsets")
    ends, seen_at = ({}, None) if seen is None else (seen.ends, seen.seen_at)
    return tuple(
        TopicLag(topic, _records(ends.get(topic, {}), begun.get(topic, {}), offsets), seen_at)
        for topic, offsets in sorted(ended.items())
    )


def _records(seen: Mapping[str, int], begun: Mapping[str, int], ended: Mapping[str, int]) -> int:
    """The records from what has ended to the greatest known end. Each: partition -> offset."""
    return sum(max(seen.get(partition, 0), begun.get(partition, 0), end) - end for partition, end in ended.items())
