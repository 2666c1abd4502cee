"""Send a file to a topic: as fast as possible, at a rate, or at the speed at which it was recorded."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import KafkaException, Message, Producer

from schemas import messages
from spinney.core import keys
from spinney.core.config import Config, Kafka, RecordSchema
from spinney.core.errors import SetupError, StoreError
from spinney.core.records.rules import build_rules
from spinney.kafka import client
from spinney.sources.rejections import RejectionLimit, Rejections
from spinney.sources.row_batch import Source
from spinney.sources.row_validation import ValidRow, valid_rows
from spinney.storage import charter
from spinney.storage.layout import FleetStore

SHOW_INTERVAL_S = 0.5
FLUSH_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Pace:
    """The speed of sending.

    rate: records per second; None: no limit. by_event_time: whether records are sent at the distances of their event
    times, `speed` times faster, and carry these times as timestamps.
    """

    rate: float | None = None
    by_event_time: bool = False
    speed: float = 3600.0

    def due(self, number: int, since_first: float) -> float:
        """Return when a record is due, in seconds after the start.

        number: counts the records from 0. since_first: event time since the first record, in seconds.
        """
        by_rate = number / self.rate if self.rate else 0.0
        return max(by_rate, since_first / self.speed if self.by_event_time else 0.0)


@dataclass
class Sent:
    """The progress of sending a file.

    total: rows of the file; None if not known. handed_over: valid rows given to the client. rejections: invalid rows.
    first_failure: error of the first record that the broker refused. finished: no record is in flight any more.
    """

    total: int | None
    rejections: Rejections = field(default_factory=Rejections)
    handed_over: int = 0
    acknowledged: int = 0
    failed: int = 0
    seconds: float = 0.0
    first_failure: str = ""
    finished: bool = False

    @property
    def per_second(self) -> float:
        """Acknowledged records per second."""
        return self.acknowledged / self.seconds if self.seconds else 0.0

    def fail(self, why: str) -> None:
        """Count a record that was not acknowledged."""
        self.failed += 1
        self.first_failure = self.first_failure or why


def is_outcomes(kafka: Kafka, topic: str) -> bool:
    """Whether a topic's records are outcomes; those of any other topic are events."""
    return topic == kafka.outcomes


def send(
    config: Config,
    source: Source,
    topic: str,
    pace: Pace | None = None,
    show: Callable[[Sent], None] = lambda _: None,
    most: RejectionLimit | None = None,
) -> Sent:
    """Send every valid row, keyed by group, and wait until each is acknowledged or has failed.

    source: as `open_fleet_file` returns it. pace: the speed; None: as fast as possible. show: called twice a second and
    at the end, even if reading ends with an error or is interrupted.

    Raises ContractError if the file is damaged or more rows than `most` are invalid; the valid rows before that are
    sent. Raises SetupError if the topic would drop records this old, StoreError if the topic does not exist or the
    configuration has columns that the fleet does not have.
    """
    charter.check_unchanged(FleetStore.of(config))
    if topic not in client.existing_topics(config.kafka):
        raise StoreError(f"topic {topic}: expected to exist; it does not. Create it: spinney init")
    rules = build_rules(config.record_schema, messages.OUTCOME if is_outcomes(config.kafka, topic) else messages.EVENT)
    sent = Sent(source.rows if source.is_exact else None, Rejections(most))
    sender = _Sender(config.record_schema, config.kafka, topic, pace or Pace(), sent, show)
    try:
        for row in valid_rows(source, rules, sent.rejections):
            sender.take(row, row.values[rules.time])
    finally:  # after Ctrl-C too: what was handed over is sent, and counted
        sender.finish()
    return sent


@dataclass
class _Sender:
    schema: RecordSchema
    kafka: Kafka
    topic: str
    pace: Pace
    sent: Sent
    show: Callable[[Sent], None]

    def __post_init__(self) -> None:
        self.producer: Producer = client.producer(self.kafka)
        self.started = time.monotonic()
        self.shown = 0.0
        self.first: datetime | None = None

    def take(self, row: ValidRow, at: datetime) -> None:
        if self.pace.by_event_time and self.first is None:
            _refuse_records_too_old(self.kafka, self.topic, at)
        self.first = self.first or at
        self.wait_until(self.pace.due(self.sent.handed_over, (at - self.first).total_seconds()))
        self.hand_over(row, at)

    def hand_over(self, row: ValidRow, at: datetime) -> None:
        stamp = {"timestamp": round(at.timestamp() * 1000)} if self.pace.by_event_time else {}
        key = keys.encode([row.values[name] for name in self.schema.fleet.group]).encode()
        while True:
            try:
                self.producer.produce(self.topic, row.message, key, on_delivery=self.answered, **stamp)
            except BufferError:  # the client's queue is full: let it send
                self.producer.poll(0.1)
                continue
            except (KafkaException, ValueError) as error:
                self.sent.fail(f"{row.file} row {row.number:,}: {error}")
            self.sent.handed_over += 1
            self.progress()
            return

    def answered(self, error: Any, message: Message) -> None:
        del message
        if error is None:
            self.sent.acknowledged += 1
        else:
            self.sent.fail(str(error.str()))

    def wait_until(self, due: float) -> None:
        while (left := due - (time.monotonic() - self.started)) > 0:
            self.producer.poll(min(left, SHOW_INTERVAL_S))
            self.progress()
        self.producer.poll(0)

    def progress(self) -> None:
        self.sent.seconds = time.monotonic() - self.started
        if self.sent.seconds - self.shown >= SHOW_INTERVAL_S:
            self.shown = self.sent.seconds
            self.show(self.sent)

    def finish(self) -> None:
        deadline = time.monotonic() + FLUSH_TIMEOUT_S
        while len(self.producer) and time.monotonic() < deadline:
            self.producer.flush(SHOW_INTERVAL_S)
            self.progress()
        for _ in range(self.sent.handed_over - self.sent.acknowledged - self.sent.failed):
            self.sent.fail(f"no answer from the broker within {FLUSH_TIMEOUT_S:g} s")
        self.sent.seconds = time.monotonic() - self.started
        self.sent.finished = True
        self.show(self.sent)


def _refuse_records_too_old(kafka: Kafka, topic: str, first: datetime) -> None:
    """Raise SetupError if the topic's retention would delete records of this time before they are read."""
    kept = client.retention_ms(kafka, topic)
    age_ms = (datetime.now(UTC) - first).total_seconds() * 1000
    if 0 <= kept < age_ms:
        days = 86_400_000
        raise SetupError(
            f"topic {topic}: keeps records {kept / days:.3g} days by their own time; the first is "
            f"{age_ms / days:.0f} days old and would be deleted at once. Make the topic with "
            "`spinney init --retention-ms -1`, or send without --by-event-time"
        )
