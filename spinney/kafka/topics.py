"""Topics as the broker describes them: which one stands behind a name, and what this user may do with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import OffsetSpec, TopicDescription

from spinney.core.config import Kafka
from spinney.core.errors import StoreError
from spinney.kafka.client import SECONDS, admin, unreachable

_NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"
"""Sixteen zero bytes: what a broker before Kafka 2.8 has for a topic's id."""


class Absence(Enum):
    """Why a topic has no description."""

    MISSING = "missing"
    UNAUTHORISED = "unauthorised"


@dataclass(frozen=True)
class Topic:
    """id: made with the topic, so that one of the same name that was made again has another; None before Kafka 2.8.

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


def described(kafka: Kafka, names: Iterable[str], seconds: float = SECONDS) -> dict[str, Topic | Absence]:
    """Return each topic's description, or why there is none; no topic is made by asking.

    Raises Busy: no broker answered within `seconds`.
    """
    client = admin(kafka)  # kept by name: its futures die with it
    wanted = list(names)
    asked = client.describe_topics(TopicCollection(wanted), include_authorized_operations=True, request_timeout=seconds)
    found: dict[str, Topic | Absence] = {}
    for name in wanted:
        try:
            found[name] = _topic(asked[name].result())
        except KafkaException as error:
            absence = _ABSENT.get(error.args[0].code())
            if absence is None:
                raise unreachable(kafka, error) from error
            found[name] = absence
    return found


def required(kafka: Kafka, names: Iterable[str]) -> dict[str, Topic]:
    """Return each topic's description.

    Raises StoreError: a topic that does not exist or that this user may not see. Busy: as `described`.
    """
    found: dict[str, Topic] = {}
    for name, topic in described(kafka, names).items():
        servers = kafka.bootstrap_servers
        if topic is Absence.UNAUTHORISED:
            raise StoreError(f"topic {name} on {servers}: this user may not see it; let it Describe and Read the topic")
        if isinstance(topic, Absence):
            raise StoreError(f"topic {name}: not on {servers}; run `spinney init`")
        found[name] = topic
    return found


@dataclass(frozen=True)
class Extent:
    """What a topic holds now, by partition: the offsets of its first record and after its last one."""

    first: dict[str, int]
    end: dict[str, int]

    @property
    def records(self) -> int:
        """Markers of transactions are counted too."""
        return sum(self.end[partition] - first for partition, first in self.first.items())


def extent(kafka: Kafka, topic: Topic) -> Extent:
    """Return what a topic holds; records of open transactions do not count. Raises Busy: the broker does not answer."""
    first, end = (_offsets(kafka, topic, spec) for spec in (OffsetSpec.earliest(), OffsetSpec.latest()))
    return Extent(first, end)


def _offsets(kafka: Kafka, topic: Topic, spec: OffsetSpec) -> dict[str, int]:
    client = admin(kafka)  # kept by name: its futures die with it
    parts = {TopicPartition(topic.name, partition): spec for partition in range(topic.partitions)}
    asked = client.list_offsets(parts, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=SECONDS)
    try:
        return {str(part.partition): future.result().offset for part, future in asked.items()}
    except KafkaException as error:
        raise unreachable(kafka, error) from error


def _topic(said: TopicDescription) -> Topic:
    known = str(said.topic_id)
    operations = frozenset(operation.name for operation in said.authorized_operations or ())
    return Topic(said.name, None if known == _NO_ID else known, len(said.partitions), operations)
