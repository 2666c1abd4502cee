"""Topics as the broker describes them: their ids, partitions, and what this user may do with them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import OffsetSpec, TopicDescription

from spinney.core.config import Kafka
from spinney.core.errors import StoreError
from spinney.kafka.client import TIMEOUT_S, admin, unreachable_error

_NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"
"""Sixteen zero bytes: what a broker before Kafka 2.8 has for a topic's id."""


class Absence(Enum):
    """Why a topic has no description."""

    MISSING = "missing"
    UNAUTHORISED = "unauthorised"


@dataclass(frozen=True)
class Topic:
    """A topic. id: created with the topic, so a recreated topic of the same name has another; None before Kafka 2.8.

    operations: what this user may do (READ, WRITE, DESCRIBE_CONFIGS …).
    """

    name: str
    id: str | None
    partitions: int
    operations: frozenset[str]


_ABSENT = {
    KafkaError.UNKNOWN_TOPIC_OR_PART: Absence.MISSING,
    KafkaError.TOPIC_AUTHORIZATION_FAILED: Absence.UNAUTHORISED,
}


def describe_topics(kafka: Kafka, names: Iterable[str], timeout_s: float = TIMEOUT_S) -> dict[str, Topic | Absence]:
    """Return each topic's description, or whether it is missing or may not be seen.

    Never creates a topic. Raises Busy: the request failed for another reason, such as no broker within `timeout_s`.
    """
    client = admin(kafka)  # kept by name: its futures die with it
    wanted = list(names)
    futures = client.describe_topics(
        TopicCollection(wanted), include_authorized_operations=True, request_timeout=timeout_s
    )
    found: dict[str, Topic | Absence] = {}
    for name in wanted:
        try:
            found[name] = _topic_of(futures[name].result())
        except KafkaException as error:
            absence = _ABSENT.get(error.args[0].code())
            if absence is None:
                raise unreachable_error(kafka, error) from error
            found[name] = absence
    return found


def require_topics(kafka: Kafka, names: Iterable[str]) -> dict[str, Topic]:
    """Return each topic's description.

    Raises StoreError: a topic that does not exist or that this user may not see.
    Busy: no answer from the broker.
    """
    found: dict[str, Topic] = {}
    for name, topic in describe_topics(kafka, names).items():
        servers = kafka.bootstrap_servers
        if topic is Absence.UNAUTHORISED:
            raise StoreError(
                f"topic {name} on {servers}: this user may not see it; give it the rights Describe and Read"
            )
        if isinstance(topic, Absence):
            raise StoreError(f"topic {name}: not on {servers}; run `spinney init`")
        found[name] = topic
    return found


@dataclass(frozen=True)
class TopicExtent:
    """The extent of a topic, by partition: the offset of its first record and the one after its last."""

    first: dict[str, int]
    end: dict[str, int]

    @property
    def records(self) -> int:
        """Number of records; transaction markers are counted too."""
        return sum(self.end[partition] - first for partition, first in self.first.items())


def topic_extent(kafka: Kafka, topic: Topic) -> TopicExtent:
    """Return the extent of a topic, without records of open transactions. Raises Busy: the broker does not answer."""
    first, end = (_offsets(kafka, topic, spec) for spec in (OffsetSpec.earliest(), OffsetSpec.latest()))
    return TopicExtent(first, end)


def _offsets(kafka: Kafka, topic: Topic, spec: OffsetSpec) -> dict[str, int]:
    client = admin(kafka)  # kept by name: its futures die with it
    parts = {TopicPartition(topic.name, partition): spec for partition in range(topic.partitions)}
    futures = client.list_offsets(parts, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=TIMEOUT_S)
    try:
        return {str(part.partition): future.result().offset for part, future in futures.items()}
    except KafkaException as error:
        raise unreachable_error(kafka, error) from error


def _topic_of(description: TopicDescription) -> Topic:
    topic_id = str(description.topic_id)
    operations = frozenset(operation.name for operation in description.authorized_operations or ())
    return Topic(description.name, None if topic_id == _NO_ID else topic_id, len(description.partitions), operations)
