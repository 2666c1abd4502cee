"""Read or count all records of a topic, for demos and benchmarks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from spinney.core.errors import StoreError

RECORDS_PER_READ = 20_000
READ_TIMEOUT_S = 2.0
CONNECT_TIMEOUT_S = 30

Settings = Mapping[str, str | int | bool]
"""librdkafka's settings of a consumer, as `spinney.kafka.client_options.consumer_settings` returns them."""


def read_records(settings: Settings, topic: str) -> Iterator[tuple[int, bytes]]:
    """Yield (timestamp in ms, value) of all records that the topic has now, in order within a partition.

    Raises StoreError: a partition cannot be read.
    """
    with _consumer(settings) as consumer:
        partitions = _partitions(consumer, topic)
        ends = {part.partition: consumer.get_watermark_offsets(part)[1] for part in partitions}
        unread = {partition for partition, end in ends.items() if end}
        consumer.assign([part for part in partitions if part.partition in unread])
        while unread:
            for message in consumer.consume(RECORDS_PER_READ, READ_TIMEOUT_S):
                if message.error() and message.error().name() == "_PARTITION_EOF":
                    unread.discard(message.partition())
                    continue
                if message.error():
                    raise StoreError(f"topic {topic}: {message.error()}")
                if message.offset() < ends[message.partition()]:
                    yield message.timestamp()[1], message.value()
                if message.offset() >= ends[message.partition()] - 1:
                    unread.discard(message.partition())


def count_records(settings: Settings, topic: str) -> int:
    """Return the sum of the end offsets: the number of records, if none were deleted or written in transactions."""
    with _consumer(settings) as consumer:
        return sum(consumer.get_watermark_offsets(part)[1] for part in _partitions(consumer, topic))


@contextmanager
def _consumer(settings: Settings) -> Iterator[Any]:
    consumer = Consumer(dict(settings))
    try:
        yield consumer
    finally:
        consumer.close()


def _partitions(consumer: Any, topic: str) -> list[Any]:
    partitions = consumer.list_topics(topic, timeout=CONNECT_TIMEOUT_S).topics[topic].partitions
    return [TopicPartition(topic, partition, 0) for partition in partitions]
