"""Publish messages to a topic from the driver: at least once, all acknowledged before the call returns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from confluent_kafka import KafkaException, Producer

from spinney.core.config import Kafka
from spinney.core.errors import StoreError
from spinney.kafka import client

POLL_TIMEOUT_S = 0.1

_SETTINGS = {
    "linger.ms": 5,
    "queue.buffering.max.messages": 500_000,
}


class Publisher:
    """Publishes to one topic. Connects at the first message and stays connected until a batch fails.

    After a failure, the next batch uses a new client: messages that the failed one still had queued are neither sent
    with the next batch nor counted for it.
    """

    def __init__(self, kafka: Kafka, topic: str) -> None:
        self._kafka, self._topic = kafka, topic
        self._producer: Producer | None = None
        self._errors: list[str] = []

    def publish(self, messages: Iterable[tuple[bytes, bytes]]) -> None:
        """Send (key, value) pairs and wait until the broker has all of them. Raises StoreError if it does not."""
        try:
            self._publish(messages)
        except BaseException:
            self._producer = None
            raise

    def _publish(self, messages: Iterable[tuple[bytes, bytes]]) -> None:
        producer = self._connect()
        try:
            for key, value in messages:
                while True:
                    try:
                        producer.produce(self._topic, value, key)
                        break
                    except BufferError:  # the client's queue is full: let it send
                        producer.poll(POLL_TIMEOUT_S)
            unsent = producer.flush()
        except KafkaException as error:
            raise self._error(str(error.args[0].str())) from error
        if unsent or self._errors:
            raise self._error(self._errors[0] if self._errors else f"{unsent} messages without an answer")

    def _connect(self) -> Producer:
        if self._producer is None:
            # Each client has its own list: a late answer to a failed batch is not about a later one.
            errors: list[str] = []

            def on_delivery(error: Any, message: Any) -> None:
                del message
                if error is not None:
                    errors.append(str(error.str()))

            # Compressed only if asked for: not every consumer knows the codec that our own records are sent with.
            compression = self._kafka.options.get("compression.type", "none")
            only_errors = {"delivery.report.only.error": True, "on_delivery": on_delivery}
            self._producer = client.producer(self._kafka, {**_SETTINGS, **only_errors, "compression.type": compression})
            self._errors = errors
        return self._producer

    def _error(self, got: str) -> StoreError:
        return StoreError(
            f"topic {self._topic}: expected the broker to take every message of the batch; got {got}. Nothing of the "
            "batch was stored: it is answered again at the next start"
        )
