"""Read topics by Kafka's own client: ends of partitions, headers of records. Commits no offsets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from spinney.core.config import Kafka
from spinney.core.errors import Busy, StoreError
from spinney.kafka import client
from spinney.kafka.client_options import consumer_settings

TIMEOUT_S = 10.0
RECORDS_AT_ONCE = 500

GROUP = "spinney-reads-only"

Offsets = Mapping[str, Mapping[int, int]]
"""topic -> partition -> offset."""


def end_offsets(kafka: Kafka, topics: Iterable[str]) -> dict[str, dict[int, int]]:
    """Return topic -> partition -> the offset of the next record.

    Raises Busy: no broker. StoreError: a topic that does not exist.
    """
    partitions_of = client.existing_topics(kafka)
    found: dict[str, dict[int, int]] = {}
    consumer = _consumer(kafka)
    try:
        for topic in sorted(topics):
            if topic not in partitions_of:
                raise StoreError(f"topic {topic}: expected to exist; it does not. Create it: spinney init")
            partitions = [TopicPartition(topic, number) for number in range(partitions_of[topic])]
            found[topic] = {partition.partition: _watermarks(consumer, partition)[1] for partition in partitions}
    finally:
        consumer.close()
    return found


def _watermarks(consumer: Consumer, partition: TopicPartition) -> tuple[int, int]:
    """Return the offset of the first record and that of the next one."""
    try:
        first, end = consumer.get_watermark_offsets(partition, timeout=TIMEOUT_S)
    except KafkaException as error:
        raise Busy(f"topic {partition.topic}: its offsets cannot be read: {error.args[0].str()}. Try again") from error
    return int(first), int(end)


def topics_with_lost_records(kafka: Kafka, start_offsets: Offsets) -> set[str]:
    """Return the topics that may have lost records from these offsets on, by retention or by deletion of the topic.

    Raises Busy: no broker.
    """
    partitions_of = client.existing_topics(kafka)
    topics = set()
    consumer = _consumer(kafka)
    try:
        for partition in _partitions(start_offsets):
            if partition.partition >= partitions_of.get(partition.topic, 0):
                topics.add(partition.topic)
                continue
            first, end = _watermarks(consumer, partition)
            if not first <= partition.offset <= end:
                topics.add(partition.topic)
    finally:
        consumer.close()
    return topics


def read_headers(kafka: Kafka, start_offsets: Offsets, name: str) -> Iterator[str]:
    """Yield the values of a header in all records from these offsets to the current end.

    Partitions that no longer exist yield nothing. Records of open or aborted transactions are read too, since committed
    records may follow an open transaction. Raises Busy: a partition cannot be read.
    """
    partitions_of = client.existing_topics(kafka)
    partitions = [
        partition
        for partition in _partitions(start_offsets)
        if partition.partition < partitions_of.get(partition.topic, 0)
    ]
    open_ = {(partition.topic, partition.partition) for partition in partitions}
    consumer = _consumer(kafka, "read_uncommitted")
    try:
        consumer.assign(partitions)
        while open_:
            messages = consumer.consume(RECORDS_AT_ONCE, timeout=TIMEOUT_S)
            if not messages:
                raise Busy(f"topics {', '.join(start_offsets)}: no answer for {TIMEOUT_S:g} s; try again")
            for message in messages:
                error = message.error()
                if error is None:
                    yield from (value.decode() for key, value in message.headers() or () if key == name and value)
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's name of a public code
                    open_.discard((message.topic(), message.partition()))
                else:
                    raise Busy(f"topic {message.topic()}: cannot be read: {error.str()}. Try again")
    finally:
        consumer.close()


def _partitions(offsets: Offsets) -> list[TopicPartition]:
    return [
        TopicPartition(topic, at, start) for topic, partitions in offsets.items() for at, start in partitions.items()
    ]


def _consumer(kafka: Kafka, isolation: str = "read_committed") -> Consumer:
    settings = {**consumer_settings(kafka, GROUP), "isolation.level": isolation}
    return Consumer({**settings, "auto.offset.reset": "earliest", "log_level": 0})
