"""Send a schedule to Kafka in steps; each waits until the queries have processed the step before.

In production, the ten seconds that an event takes through the queries are short compared with a day. In a replay that
is a hundred thousand times as fast they would be a week of event time. So the producer sends `max_ahead` of event
time and waits until all of it is stored, scored, joined with its labels and judged, and stale groups are refitted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from demo.message_schedule import Message, MessageSchedule
from spinney.core.config import Config
from spinney.core.errors import StoreError
from spinney.kafka import client

POLL_INTERVAL_S = 0.25
IsFinished = Callable[[dict[str, int]], bool]


class PacedSender(threading.Thread):
    """Sends a schedule in its own thread.

    has_finished: takes topic -> number of records sent so far, and returns whether the queries have processed all of
    them. sent_until: event time of the last record sent. finished_until: event time up to which all records are
    processed.
    """

    def __init__(self, config: Config, schedule: MessageSchedule, step: timedelta, has_finished: IsFinished) -> None:
        super().__init__(name="sender", daemon=True)
        self._config = config
        self._timeline = schedule
        self._step = step
        self._has_finished = has_finished
        self._stopping = threading.Event()
        self.sent: dict[str, int] = {}
        self.sent_until: datetime | None = None
        self.finished_until: datetime | None = None
        self._error: BaseException | None = None
        self._failed: list[str] = []

    def run(self) -> None:
        """Send all steps. An error ends the thread; `is_done` raises it."""
        try:
            for part in split_into_steps(self._timeline, self._step):
                if not self._send(part):
                    return
        except BaseException as error:
            self._error = error

    def stop(self) -> None:
        """Ask the thread to end after the step that it sends now."""
        self._stopping.set()

    @property
    def is_done(self) -> bool:
        """Whether everything is sent and processed. Raises the error that ended the sending, if any."""
        if self._error is not None:
            raise self._error
        return self.ident is not None and not self.is_alive() and not self._stopping.is_set()

    def _send(self, part: list[Message]) -> bool:
        """Send one step and wait until it is processed. Returns False if `stop` was called meanwhile."""
        producer = client.producer(self._config.kafka)
        for message in part:
            producer.produce(
                message.topic, message.value, message.key, timestamp=message.timestamp_ms, on_delivery=self._delivered
            )
            producer.poll(0)
            self.sent[message.topic] = self.sent.get(message.topic, 0) + 1
            self.sent_until = message.due
        producer.flush()
        if self._failed:
            raise StoreError(f"{len(self._failed)} records were not acknowledged; the first: {self._failed[0]}")
        while not self._has_finished(self.sent):
            if self._stopping.wait(POLL_INTERVAL_S):
                return False
        self.finished_until = self.sent_until
        return True

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self._failed.append(f"{message.topic()}: {error}")


def split_into_steps(schedule: MessageSchedule, step: timedelta) -> Iterator[list[Message]]:
    """Yield the messages in order, in parts that each span less than `step` of event time."""
    part: list[Message] = []
    for message in schedule:
        if part and message.due >= part[0].due + step:
            yield part
            part = []
        part.append(message)
    if part:
        yield part
