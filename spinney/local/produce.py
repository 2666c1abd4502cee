"""A file to a topic: as fast as it goes, at a rate, or as time went by when it was recorded."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException, Message, Producer

from spinney.core.config import Config
from spinney.core.errors import ContractError, SetupError, StoreError
from spinney.local import records
from spinney.stores import kafka

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
    """What became of the records so far.

    total: None if not known. first_failure: why, of the first that failed. finished: nothing is under way any more.
    """

    total: int | None
    read: int = 0
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


def send(
    config: Config, source: Path, topic: str, pace: Pace | None = None, show: Callable[[Sent], None] = lambda _: None
) -> Sent:
    """Send every row, keyed by group, and wait until each is acknowledged or has failed.

    show: called now and then, and at the end.

    Raises ContractError: the file cannot be read. SetupError: the topic would drop records this old.
    StoreError: no such topic.
    """
    if topic not in kafka.existing_topics(config):
        raise StoreError(f"topic {topic}: expected to exist; it does not. Make it: spinney init")
    sender = _Sender(config, topic, pace or Pace(), Sent(records.count(source) if source.is_file() else None), show)
    time_column = "observed_at" if topic == config.kafka.outcomes else config.fleet.event_time
    for row in records.rows(source, config):
        sender.take(row, time_column)
    sender.finish()
    return sender.sent


@dataclass
class _Sender:
    config: Config
    topic: str
    pace: Pace
    sent: Sent
    show: Callable[[Sent], None]

    def __post_init__(self) -> None:
        self.producer: Producer = kafka.producer(self.config)
        self.started = time.monotonic()
        self.shown = 0.0
        self.first: datetime | None = None

    def take(self, row: dict[str, Any], time_column: str) -> None:
        number = self.sent.read
        self.sent.read += 1
        try:
            record = records.record(row, self.config, time_column)
        except (ContractError, ValueError) as error:
            self.sent.fail(f"row {self.sent.read}: {error}")
            return
        if self.pace.by_event_time and self.first is None and record.time is not None:
            self.first = record.time
            _refuse_records_too_old(self.config, self.topic, record.time)
        since = (record.time - self.first).total_seconds() if record.time and self.first else 0.0
        self.wait_until(self.pace.due(number, since))
        self.hand_over(record)

    def hand_over(self, record: records.Record) -> None:
        stamp = {}
        if self.pace.by_event_time and record.time is not None:
            stamp = {"timestamp": round(record.time.timestamp() * 1000)}
        while True:
            try:
                self.producer.produce(self.topic, record.value, record.key, on_delivery=self.answered, **stamp)
            except BufferError:  # the client's queue is full: let it send
                self.producer.poll(0.1)
                continue
            except (KafkaException, ValueError) as error:
                self.sent.fail(f"row {self.sent.read}: {error}")
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
        for _ in range(self.sent.read - self.sent.acknowledged - self.sent.failed):
            self.sent.fail(f"no answer from the broker within {LAST_ANSWERS_SECONDS:g} s")
        self.sent.seconds = time.monotonic() - self.started
        self.sent.finished = True
        self.show(self.sent)


def _refuse_records_too_old(config: Config, topic: str, first: datetime) -> None:
    """A broker deletes by the records' own time: those of last year are gone before they are read."""
    kept = kafka.retention_ms(config, topic)
    age_ms = (datetime.now(UTC) - first).total_seconds() * 1000
    if 0 <= kept < age_ms:
        days = 86_400_000
        raise SetupError(
            f"topic {topic}: keeps records {kept / days:.3g} days by their own time; the first is "
            f"{age_ms / days:.0f} days old and would be deleted at once. Make the topic with "
            "`spinney init --retention-ms -1`, or send without --by-event-time"
        )
