"""Messages to a topic by Kafka's own client, from the driver: at least once, all acknowledged before it returns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from confluent_kafka import KafkaException, Producer

from spinney.core.config import Kafka
from spinney.core.errors import StoreError
from spinney.kafka import client

POLL_SECONDS = 0.1

_SETTINGS = {
    "linger.ms": 5,
    "queue.buffering.max.messages": 500_000,
}


class Publisher:
    """Publishes to one topic. The connection is made at the first message and kept until a batch fails.

    After a failure the next batch has a client of its own: what the failed one still had queued is neither sent among
    the next batch's messages nor counted as theirs.
    """

    def __init__(self, kafka: Kafka, topic: str) -> None:
        self._kafka, self._topic = kafka, topic
        self._producer: Producer | None = None
        self._refused: list[str] = []

    def publish(self, messages: Iterable[tuple[bytes, bytes]]) -> None:
        """Send (key, value) pairs and wait for the broker to have them all. Raises StoreError when it has not."""
        try:
            self._publish(messages)
        except BaseException:
            self._producer = None
            raise

    def _publish(self, messages: Iterable[tuple[bytes, bytes]]) -> None:
        producer = self._connected()
        try:
            for key, value in messages:
                while True:
                    try:
                        producer.produce(self._topic, value, key)
                        break
                    except BufferError:  # the client's queue is full: let it send
                        producer.poll(POLL_SECONDS)
            left = producer.flush()
        except KafkaException as error:
            raise self._not_published(str(error.args[0].str())) from error
        if left or self._refused:
            raise self._not_published(self._refused[0] if self._refused else f"{left} messages without an answer")

    def _connected(self) -> Producer:
        if self._producer is None:
            # A list of its own for each client: a late answer to a failed batch says nothing of a later one.
            refused: list[str] = []

            def answered(error: Any, message: Any) -> None:
                del message
                if error is not None:
                    refused.append(str(error.str()))

            # Compressed only if asked for: not every consumer knows the codec that our own records are sent with.
            compression = self._kafka.options.get("compression.type", "none")
            only_errors = {"delivery.report.only.error": True, "on_delivery": answered}
            self._producer = client.producer(self._kafka, {**_SETTINGS, **only_errors, "compression.type": compression})
            self._refused = refused
        return self._producer

    def _not_published(self, got: str) -> StoreError:
        return StoreError(
            f"topic {self._topic}: expected the broker to take every message of the batch; got {got}. Nothing of the "
            "batch was stored: it is answered again at the next start"
        )
