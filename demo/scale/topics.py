"""What stands in the fleet's topics, with Kafka's own timestamps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from confluent_kafka import Consumer, TopicPartition

from demo.scale.fleet import Floats, Numbers
from spinney.core.config import Config
from spinney.core.errors import StoreError
from spinney.kafka.client_options import consumer_settings

RECORDS_A_READ = 20_000
SECONDS_A_READ = 2.0
SECONDS_TO_CONNECT = 30


@dataclass(frozen=True)
class Times:
    """Of each event ``eN``, N the place: when it first stood in the topic, seconds since the epoch; NaN: never.

    records: how many the topic holds of it, repeats among them.
    """

    at: Floats
    records: Numbers

    @property
    def repeated(self) -> int:
        """Records beyond the first of each event."""
        return int(np.maximum(self.records - 1, 0).sum())


def times(config: Config, topic: str, field: str, total: int) -> Times:
    """field: that holds the event's id. Raises StoreError: an event that nobody sent."""
    at, records = np.full(total, np.nan), np.zeros(total, np.int64)
    for timestamp_ms, value in _records(config, topic):
        name = json.loads(value)[field]
        if not name.startswith("e"):
            continue
        number = int(name[1:])
        if number >= total:
            raise StoreError(f"topic {topic}: expected events e0 to e{total - 1}; got {name}")
        at[number] = np.fmin(at[number], timestamp_ms / 1000)
        records[number] += 1
    return Times(at, records)


def count(config: Config, topic: str) -> int:
    """Records that a topic holds now."""
    with _consumer(config) as consumer:
        return sum(consumer.get_watermark_offsets(part)[1] for part in _partitions(consumer, topic))


def _records(config: Config, topic: str) -> Iterator[tuple[int, bytes]]:
    """All that a topic holds now: (timestamp in ms, value), in order within a partition."""
    with _consumer(config) as consumer:
        parts = _partitions(consumer, topic)
        ends = {part.partition: consumer.get_watermark_offsets(part)[1] for part in parts}
        left = {partition for partition, end in ends.items() if end}
        consumer.assign([part for part in parts if part.partition in left])
        while left:
            for message in consumer.consume(RECORDS_A_READ, SECONDS_A_READ):
                if message.error() and message.error().name() == "_PARTITION_EOF":
                    left.discard(message.partition())
                    continue
                if message.error():
                    raise StoreError(f"topic {topic}: {message.error()}")
                if message.offset() < ends[message.partition()]:
                    yield message.timestamp()[1], message.value()
                if message.offset() >= ends[message.partition()] - 1:
                    left.discard(message.partition())


@contextmanager
def _consumer(config: Config) -> Iterator[Any]:
    consumer = Consumer(consumer_settings(config.kafka, "spinney-demo-scale"))
    try:
        yield consumer
    finally:
        consumer.close()


def _partitions(consumer: Any, topic: str) -> list[Any]:
    found = consumer.list_topics(topic, timeout=SECONDS_TO_CONNECT).topics[topic].partitions
    return [TopicPartition(topic, partition, 0) for partition in found]
