"""Kafka clients: a producer and an admin client. Spark reads and writes by its own connector, not by these."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from schemas.messages import MAX_FUTURE_SECONDS
from spinney.core.config import Kafka
from spinney.core.errors import Busy, ConfigError, Finding, StoreError
from spinney.kafka.client_options import client_settings, producer_settings

__all__ = [
    "admin",
    "ensure_topics",
    "existing_topics",
    "producer",
    "producer_settings",
    "retention_ms",
    "topic_settings",
    "topics_of",
    "topics_read",
    "unreachable_error",
]

C = TypeVar("C")
TIMEOUT_S = 10.0
MAX_FUTURE_MS = MAX_FUTURE_SECONDS * 1000
"""Longest time that a record's own timestamp may be ahead of the broker; events are validated against it."""

_MAX_FUTURE_OPTION = "message.timestamp.after.max.ms"
_QUIET = {"log_level": 0}
"""librdkafka writes to standard error by itself. This turns it off; relevant errors are raised as exceptions."""


def admin(kafka: Kafka) -> AdminClient:
    """Return a client that creates and describes topics; it connects on first use.

    Raises ConfigError: an option that librdkafka does not know.
    """
    return _client(AdminClient, {**client_settings(kafka), **_QUIET})


def producer(kafka: Kafka, settings: Mapping[str, Any] | None = None) -> Producer:
    """Return an idempotent producer. settings: librdkafka's, which override ours.

    Raises ConfigError: an option that librdkafka does not know.
    """
    return _client(Producer, {**producer_settings(kafka), **_QUIET, **(settings or {})})


def topics_of(kafka: Kafka) -> tuple[str, ...]:
    """Return the topics that a configuration names: those that the fleet reads and the topic of predictions."""
    named = (kafka.events, kafka.outcomes, kafka.predictions)
    return tuple(topic for topic in named if topic is not None)


def topics_read(kafka: Kafka) -> tuple[str, ...]:
    """Return the topics that the fleet reads."""
    return tuple(topic for topic in (kafka.events, kafka.outcomes) if topic is not None)


def existing_topics(kafka: Kafka, timeout_s: float = TIMEOUT_S) -> dict[str, int]:
    """Return topic -> number of partitions, for all topics of the cluster.

    Raises Busy: no broker answered within `timeout_s`.
    """
    try:
        metadata = admin(kafka).list_topics(timeout=timeout_s)
    except KafkaException as error:
        raise unreachable_error(kafka, error) from error
    return {name: len(topic.partitions) for name, topic in metadata.topics.items() if topic.error is None}


def ensure_topics(
    kafka: Kafka, partitions: int = 4, retention_ms: int | None = None, topics: Iterable[str] | None = None
) -> dict[str, bool]:
    """Create missing topics; return topic -> whether it was created now. Safe to repeat.

    retention_ms: of created topics; -1 keeps records for ever; None uses the broker's default. Created topics refuse
    records dated more than MAX_FUTURE_MS ahead. Raises Busy: no broker; StoreError: the broker refuses.
    """
    wanted = tuple(topics_of(kafka) if topics is None else topics)
    existing = existing_topics(kafka)
    settings = {_MAX_FUTURE_OPTION: str(MAX_FUTURE_MS)} | (
        {} if retention_ms is None else {"retention.ms": str(retention_ms)}
    )
    missing = [
        NewTopic(topic, num_partitions=partitions, replication_factor=-1, config=settings)
        for topic in wanted
        if topic not in existing
    ]
    created = dict.fromkeys(wanted, False)
    if not missing:
        return created
    client = admin(kafka)  # kept by name: its futures die with it
    for topic, future in client.create_topics(missing, operation_timeout=TIMEOUT_S).items():
        created[topic] = _is_created(topic, future)
    _wait_until_listed(kafka, [topic for topic, new in created.items() if new])
    return created


def retention_ms(kafka: Kafka, topic: str) -> int:
    """Return how long a topic keeps its records, in milliseconds; -1 for ever. Raises StoreError."""
    return int(topic_settings(kafka, topic)["retention.ms"])


def topic_settings(kafka: Kafka, topic: str) -> dict[str, str]:
    """Return a topic's settings in effect, including the broker's defaults: name -> value. Raises StoreError."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    client = admin(kafka)  # kept by name: its futures die with it
    try:
        entries = client.describe_configs([resource], request_timeout=TIMEOUT_S)[resource].result()
    except KafkaException as error:
        raise StoreError(f"topic {topic}: its settings cannot be read: {error.args[0].str()}") from error
    return {name: str(entry.value) for name, entry in entries.items()}


def _is_created(topic: str, future: Any) -> bool:
    try:
        future.result()
    except KafkaException as error:
        reason = error.args[0]
        if reason.code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return False
        advice = ". Before Kafka 3.6: make it yourself, with message.timestamp.type=LogAppendTime in place of "
        remedy = f"{advice}{_MAX_FUTURE_OPTION}" if _MAX_FUTURE_OPTION in str(reason.str()) else ""
        raise StoreError(f"topic {topic}: the broker does not create it: {reason.str()}{remedy}") from error
    return True


def _wait_until_listed(kafka: Kafka, topics: Sequence[str]) -> None:
    """Wait until the broker lists the topics: a topic just created is not known to every broker at once."""
    deadline = time.monotonic() + TIMEOUT_S
    while not set(topics) <= existing_topics(kafka).keys():
        if time.monotonic() > deadline:
            names = ", ".join(topics)
            raise Busy(f"topics {names}: created, but after {TIMEOUT_S:g} s not yet listed by the broker. Try again.")
        time.sleep(0.1)


def _client(kind: Callable[[dict[str, Any]], C], settings: dict[str, Any]) -> C:
    """Create a client. Raises ConfigError for an option that librdkafka does not know, which it reports only on
    creation.
    """
    try:
        return kind(settings)
    except KafkaException as error:
        got = str(error.args[0].str())
        remedy = "Remove it here; an option of Spark alone belongs to [spark]."
        expected = "options that librdkafka knows"
        raise ConfigError([Finding("fleet.toml", None, "kafka.options", expected, got, remedy)]) from error


def unreachable_error(kafka: Kafka, error: KafkaException) -> Busy:
    """Return the error for a cluster that does not answer."""
    servers = kafka.bootstrap_servers
    return Busy(
        f"Kafka at {servers}: expected a broker, got {error.args[0].str()}. "
        "Start one (`spinney kafka`), or correct kafka.bootstrap_servers"
    )
