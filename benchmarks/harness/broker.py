"""A broker for a benchmark, its topics, and their records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spinney.core.config import Config
from spinney.kafka.client import ensure_topics
from spinney.local.broker import Broker
from spinney.local.topics import topic_records

PARTITIONS = 4


@contextmanager
def serving(folder: Path, given: str) -> Iterator[str]:
    """Yield bootstrap servers: `given`, or those of an embedded broker that stops at the end."""
    if given:
        yield given
        return
    with Broker(folder / "kafka") as broker:
        yield broker.bootstrap_servers


def make_topics(config: Config, *others: str) -> None:
    """Create the topics of events and predictions, and others by name."""
    ensure_topics(config.kafka, PARTITIONS, topics=[config.kafka.events, config.kafka.predictions or "", *others])


def records(servers: str, topic: str) -> Iterator[tuple[int, bytes]]:
    """Yield (timestamp in ms, value) of all records that a topic has now, in order within a partition."""
    return topic_records.read_records(_settings(servers), topic)


def answers(servers: str, topic: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (timestamp in ms, JSON object) of all records that a topic has now."""
    for at, value in records(servers, topic):
        yield at, json.loads(value)


def count(servers: str, topic: str) -> int:
    """Return how many records a topic has now."""
    return topic_records.count_records(_settings(servers), topic)


def _settings(servers: str) -> dict[str, str | int | bool]:
    return {
        "bootstrap.servers": servers,
        "group.id": "benchmark",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
    }
