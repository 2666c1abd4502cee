"""Topics as the broker describes them: which one stands behind a name, and what this user may do with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import TopicDescription

from spinney.core.config import Config
from spinney.stores import kafka

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


def described(config: Config, names: Iterable[str], seconds: float = kafka.SECONDS) -> dict[str, Topic | Absence]:
    """Return each topic's description, or why there is none; no topic is made by asking.

    Raises Busy: no broker answered within `seconds`.
    """
    client = kafka.admin(config)  # kept by name: its futures die with it
    wanted = list(names)
    asked = client.describe_topics(TopicCollection(wanted), include_authorized_operations=True, request_timeout=seconds)
    found: dict[str, Topic | Absence] = {}
    for name in wanted:
        try:
            found[name] = _topic(asked[name].result())
        except KafkaException as error:
            absence = _ABSENT.get(error.args[0].code())
            if absence is None:
                raise kafka.unreachable(config, error) from error
            found[name] = absence
    return found


def _topic(said: TopicDescription) -> Topic:
    known = str(said.topic_id)
    operations = frozenset(operation.name for operation in said.authorized_operations or ())
    return Topic(said.name, None if known == _NO_ID else known, len(said.partitions), operations)
