"""The newest Kafka offsets that a streaming query has reported, from which its lag is computed.

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
    """The ends of the topics that a query reads. seen_at: when Spark last looked at them, by the wall clock."""

    seen_at: datetime
    ends: Offsets


@dataclass(frozen=True)
class TopicLag:
    """Number of records of a topic that a query has not processed.

    records: up to the end of the topic when Spark last looked. A batch that is still running is included, records that
    came later are not. seen_at: time of that look; None if no stream has reported one.
    """

    topic: str
    records: int
    seen_at: datetime | None


def write_seen_offsets(store: FleetStore, query: str, seen: SeenOffsets) -> None:
    """Write the offsets that a query saw last, in place of the earlier ones."""
    content = {KEY: OFFSETS.version, "seen_at": seen.seen_at.isoformat(), "ends": seen.ends}
    replace_file(store.folder / FOLDER / f"{query}.json", json.dumps(content).encode())


def read_seen_offsets(store: FleetStore, query: str) -> SeenOffsets | None:
    """Return the offsets that a query reported last; None if no stream has reported any. Raises UnknownFormat."""
    file = store.folder / FOLDER / f"{query}.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    OFFSETS.check_object(content, file)
    return SeenOffsets(datetime.fromisoformat(content["seen_at"]), content["ends"])


def read_lag(store: FleetStore, query: str) -> tuple[TopicLag, ...]:
    """Return the lag of a query in each topic that it reads, by name; empty before its first batch has ended.

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
    """Return the number of records from the last ended batch to the greatest known end of the topic.

    seen: ends of the topic when Spark last looked. begun, ended: end offsets of the newest batch that has begun, and of
    the newest that has ended. Each: partition -> offset.
    """
    return sum(max(seen.get(partition, 0), begun.get(partition, 0), end) - end for partition, end in ended.items())
