"""What topics hold, read by Kafka's own client: ends of partitions, headers of records. Commits no offsets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from spinney.core.config import Config
from spinney.core.errors import Busy, StoreError
from spinney.stores import kafka
from spinney.stores.kafka_options import consumer_settings

SECONDS = 10.0
RECORDS_AT_ONCE = 500

GROUP = "spinney-reads-only"


def ends(config: Config, topics: Iterable[str]) -> dict[str, dict[int, int]]:
    """Return topic -> partition -> the offset that the next record gets.

    Raises Busy: no broker. StoreError: a topic that does not exist.
    """
    there = kafka.existing_topics(config)
    found: dict[str, dict[int, int]] = {}
    consumer = _consumer(config)
    try:
        for topic in sorted(topics):
            if topic not in there:
                raise StoreError(f"topic {topic}: expected to exist; it does not. Make it: spinney init")
            partitions = [TopicPartition(topic, number) for number in range(there[topic])]
            found[topic] = {each.partition: _end(consumer, each) for each in partitions}
    finally:
        consumer.close()
    return found


def _end(consumer: Consumer, partition: TopicPartition) -> int:
    try:
        return int(consumer.get_watermark_offsets(partition, timeout=SECONDS)[1])
    except KafkaException as error:
        raise Busy(f"topic {partition.topic}: its end cannot be read: {error.args[0].str()}. Try again") from error


def headers_since(config: Config, beginnings: Mapping[str, Mapping[int, int]], name: str) -> Iterator[str]:
    """The values of a header in all records from these offsets on (topic -> partition -> offset), to the end as it is.

    Raises Busy: a partition cannot be read.
    """
    partitions = [TopicPartition(topic, at, start) for topic, each in beginnings.items() for at, start in each.items()]
    open_ = {(each.topic, each.partition) for each in partitions}
    consumer = _consumer(config)
    try:
        consumer.assign(partitions)
        while open_:
            messages = consumer.consume(RECORDS_AT_ONCE, timeout=SECONDS)
            if not messages:
                raise Busy(f"topics {', '.join(beginnings)}: no answer for {SECONDS:g} s; try again")
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


def _consumer(config: Config) -> Consumer:
    return Consumer({**consumer_settings(config, GROUP), "auto.offset.reset": "earliest", "log_level": 0})
