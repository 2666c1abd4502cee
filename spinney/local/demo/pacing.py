"""Sends a timeline to Kafka, never further ahead of the loop than it would be in real life.

At the speed of life the loop's ten seconds are nothing against a day. A replay a hundred thousand times as fast would
turn them into a week and make every fleet look stale. So the producer waits: its event time stays within `max_ahead`
of what the loop has finished with.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from spinney.core.config import Config
from spinney.core.errors import StoreError
from spinney.local.demo.replay import Timeline
from spinney.stores import kafka

LOOK_SECONDS = 0.05


class Sender(threading.Thread):
    """Sends in the background. finished: the event time that the loop is done with; None before its first batch."""

    def __init__(
        self, config: Config, timeline: Timeline, max_ahead: timedelta, finished: Callable[[], datetime | None]
    ) -> None:
        super().__init__(name="sender", daemon=True)
        self._config = config
        self._timeline = timeline
        self._max_ahead = max_ahead
        self._finished = finished
        self._stopping = threading.Event()
        self.sent = 0
        self.at: datetime | None = None
        self.error: BaseException | None = None
        self._refused: list[str] = []

    def run(self) -> None:
        try:
            self._send()
        except BaseException as error:
            self.error = error

    def stop(self) -> None:
        self._stopping.set()

    @property
    def done(self) -> bool:
        """Everything is sent and acknowledged. Raises what ended the sending otherwise."""
        if self.error is not None:
            raise self.error
        return not self.is_alive() and not self._stopping.is_set()

    def _send(self) -> None:
        producer = kafka.producer(self._config)
        last_event: datetime | None = None
        for message in self._timeline:
            while not self._may_send(message.due, last_event):
                # What was sent must not wait in the client while we do.
                producer.flush()
                if self._stopping.wait(LOOK_SECONDS):
                    return
            producer.produce(
                message.topic, message.value, message.key, timestamp=message.timestamp_ms, on_delivery=self._delivered
            )
            producer.poll(0)
            self.sent += 1
            self.at = message.due
            if message.topic == self._config.kafka.events:
                last_event = message.due
        producer.flush()
        if self._refused:
            raise StoreError(f"{len(self._refused)} records were not acknowledged; the first: {self._refused[0]}")

    def _may_send(self, due: datetime, last_event: datetime | None) -> bool:
        if last_event is None:
            return True
        finished = self._finished()
        # A night without events must not stop the clock: when all that was sent is finished, time may pass.
        return finished is not None and (due <= finished + self._max_ahead or finished >= last_event)

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self._refused.append(f"{message.topic()}: {error}")
