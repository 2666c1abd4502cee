"""A file to a topic: as fast as it goes, at a rate, or as time went by when it was recorded."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import KafkaException, Message, Producer

from schemas import messages
from spinney.core import keys
from spinney.core.config import Config, Kafka
from spinney.core.errors import SetupError, SpinneyError, StoreError
from spinney.core.records.rules import build_rules
from spinney.kafka import client
from spinney.sources.rejections import RejectionLimit, Rejections
from spinney.sources.row_batch import Source
from spinney.sources.row_validation import ValidRow, valid_rows
from spinney.storage import charter

SHOW_SECONDS = 0.5
LAST_ANSWERS_SECONDS = 120.0


@dataclass(frozen=True)
class Pace:
    """How fast to send. rate: records per second; None is no limit.

    by_event_time: at the distances of the event times, `speed` times faster; records then carry those times.
    """

    rate: float | None = None
    by_event_time: bool = False
    speed: float = 3600.0

    def due(self, number: int, since_first: float) -> float:
        """Seconds after the start at which a record is to go. number: from 0. since_first: seconds of event time."""
        by_rate = number / self.rate if self.rate else 0.0
        return max(by_rate, since_first / self.speed if self.by_event_time else 0.0)


@dataclass
class Sent:
    """What became of the rows so far.

    total: of the file; None if not known. handed_over: valid rows given to the client. rejections: the other rows.
    first_failure: why, of the first that the broker did not take. finished: nothing is under way any more.
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
        return self.acknowledged / self.seconds if self.seconds else 0.0

    def fail(self, why: str) -> None:
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

    source: opened with `open_for`. show: called now and then, and at the end, also where reading ends with an error.

    Raises ContractError: the file is damaged, or more rows than `most` are not valid; what was valid before is sent.
    SetupError: the topic would drop records this old. StoreError: no such topic, or the configuration has columns that
    the fleet does not have.
    """
    charter.check_unchanged(config)
    if topic not in client.existing_topics(config.kafka):
        raise StoreError(f"topic {topic}: expected to exist; it does not. Make it: spinney init")
    rules = build_rules(config, messages.OUTCOME if is_outcomes(config.kafka, topic) else messages.EVENT)
    sent = Sent(source.rows if source.is_exact else None, Rejections(most))
    sender = _Sender(config, topic, pace or Pace(), sent, show)
    try:
        for row in valid_rows(source, rules, sent.rejections):
            sender.take(row, row.values[rules.time])
    except SpinneyError:
        sender.finish()
        raise
    sender.finish()
    return sent


@dataclass
class _Sender:
    config: Config
    topic: str
    pace: Pace
    sent: Sent
    show: Callable[[Sent], None]

    def __post_init__(self) -> None:
        self.producer: Producer = client.producer(self.config.kafka)
        self.started = time.monotonic()
        self.shown = 0.0
        self.first: datetime | None = None

    def take(self, row: ValidRow, at: datetime) -> None:
        if self.pace.by_event_time and self.first is None:
            _refuse_records_too_old(self.config.kafka, self.topic, at)
        self.first = self.first or at
        self.wait_until(self.pace.due(self.sent.handed_over, (at - self.first).total_seconds()))
        self.sent.handed_over += 1
        self.hand_over(row, at)

    def hand_over(self, row: ValidRow, at: datetime) -> None:
        stamp = {"timestamp": round(at.timestamp() * 1000)} if self.pace.by_event_time else {}
        key = keys.encode([row.values[name] for name in self.config.fleet.group]).encode()
        while True:
            try:
                self.producer.produce(self.topic, row.message, key, on_delivery=self.answered, **stamp)
            except BufferError:  # the client's queue is full: let it send
                self.producer.poll(0.1)
                continue
            except (KafkaException, ValueError) as error:
                self.sent.fail(f"{row.file} row {row.number:,}: {error}")
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
            self.producer.poll(min(left, SHOW_SECONDS))
            self.progress()
        self.producer.poll(0)

    def progress(self) -> None:
        self.sent.seconds = time.monotonic() - self.started
        if self.sent.seconds - self.shown >= SHOW_SECONDS:
            self.shown = self.sent.seconds
            self.show(self.sent)

    def finish(self) -> None:
        deadline = time.monotonic() + LAST_ANSWERS_SECONDS
        while len(self.producer) and time.monotonic() < deadline:
            self.producer.flush(SHOW_SECONDS)
            self.progress()
        for _ in range(self.sent.handed_over - self.sent.acknowledged - self.sent.failed):
            self.sent.fail(f"no answer from the broker within {LAST_ANSWERS_SECONDS:g} s")
        self.sent.seconds = time.monotonic() - self.started
        self.sent.finished = True
        self.show(self.sent)


def _refuse_records_too_old(kafka: Kafka, topic: str, first: datetime) -> None:
    """A broker deletes by the records' own time: those of last year are gone before they are read."""
    kept = client.retention_ms(kafka, topic)
    age_ms = (datetime.now(UTC) - first).total_seconds() * 1000
    if 0 <= kept < age_ms:
        days = 86_400_000
        raise SetupError(
            f"topic {topic}: keeps records {kept / days:.3g} days by their own time; the first is "
            f"{age_ms / days:.0f} days old and would be deleted at once. Make the topic with "
            "`spinney init --retention-ms -1`, or send without --by-event-time"
        )
