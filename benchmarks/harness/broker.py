"""A broker for one benchmark, its topics, and what stands in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from spinney.core.config import Config
from spinney.kafka.client import ensure_topics
from spinney.local.broker import Broker

PARTITIONS = 4
RECORDS_A_READ = 20_000


@contextmanager
def serving(folder: Path, given: str) -> Iterator[str]:
    """The bootstrap servers: `given`, or an embedded broker's that stops at the end."""
    if given:
        yield given
        return
    with Broker(folder / "kafka") as broker:
        yield broker.bootstrap_servers


def make_topics(config: Config, *others: str) -> None:
    ensure_topics(config.kafka, PARTITIONS, topics=[config.kafka.events, config.kafka.predictions or "", *others])


def records(servers: str, topic: str) -> Iterator[tuple[int, bytes]]:
    """All that a topic holds now: (timestamp in ms, value), in order within a partition."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "benchmark", "enable.auto.commit": False})
    try:
        parts = [TopicPartition(topic, part, 0) for part in consumer.list_topics(topic).topics[topic].partitions]
        ends = {part.partition: consumer.get_watermark_offsets(part)[1] for part in parts}
        left = {part for part, end in ends.items() if end}
        consumer.assign([part for part in parts if part.partition in left])
        while left:
            for message in consumer.consume(RECORDS_A_READ, 2.0):
                if message.error():
                    raise RuntimeError(f"topic {topic}: {message.error()}")
                if message.offset() < ends[message.partition()]:
                    yield message.timestamp()[1], message.value()
                if message.offset() >= ends[message.partition()] - 1:
                    left.discard(message.partition())
    finally:
        consumer.close()


def answers(servers: str, topic: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The records of a topic as (timestamp in ms, JSON object)."""
    for at, value in records(servers, topic):
        yield at, json.loads(value)


def count(servers: str, topic: str) -> int:
    """Records that a topic holds now. Exact while nothing is deleted and nothing transactional is written."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "benchmark", "enable.auto.commit": False})
    try:
        parts = consumer.list_topics(topic).topics[topic].partitions
        return sum(consumer.get_watermark_offsets(TopicPartition(topic, part))[1] for part in parts)
    finally:
        consumer.close()
