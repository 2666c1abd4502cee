"""Sends a timeline to Kafka in steps, each when the loop has finished with the one before.

At the speed of life the loop's ten seconds are nothing against a day. A replay a hundred thousand times as fast would
turn them into a week and make every fleet look stale. So the producer sends `max_ahead` of event time, then waits until
all of it is stored, scored, joined with its labels, judged, and what it made stale is refitted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from demo.replay import Message, Timeline
from spinney.core.config import Config
from spinney.core.errors import StoreError
from spinney.kafka import client

LOOK_SECONDS = 0.25
Settled = Callable[[dict[str, int]], bool]


class Sender(threading.Thread):
    """Sends in the background.

    settled: whether the loop has finished with everything sent so far; it is given the records sent by topic.
    """

    def __init__(self, config: Config, timeline: Timeline, step: timedelta, settled: Settled) -> None:
        super().__init__(name="sender", daemon=True)
        self._config = config
        self._timeline = timeline
        self._step = step
        self._settled = settled
        self._stopping = threading.Event()
        self.sent: dict[str, int] = {}
        self.at: datetime | None = None
        self.finished: datetime | None = None
        self._error: BaseException | None = None
        self._refused: list[str] = []

    def run(self) -> None:
        try:
            for part in steps(self._timeline, self._step):
                if not self._send(part):
                    return
        except BaseException as error:
            self._error = error

    def stop(self) -> None:
        self._stopping.set()

    @property
    def done(self) -> bool:
        """Everything is sent, and the loop has finished with it. Raises what ended the sending otherwise."""
        if self._error is not None:
            raise self._error
        return self.ident is not None and not self.is_alive() and not self._stopping.is_set()

    def _send(self, part: list[Message]) -> bool:
        """Send one step and wait for the loop; False when a stop was asked for meanwhile."""
        producer = client.producer(self._config.kafka)
        for message in part:
            producer.produce(
                message.topic, message.value, message.key, timestamp=message.timestamp_ms, on_delivery=self._delivered
            )
            producer.poll(0)
            self.sent[message.topic] = self.sent.get(message.topic, 0) + 1
            self.at = message.due
        producer.flush()
        if self._refused:
            raise StoreError(f"{len(self._refused)} records were not acknowledged; the first: {self._refused[0]}")
        while not self._settled(self.sent):
            if self._stopping.wait(LOOK_SECONDS):
                return False
        self.finished = self.at
        return True

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self._refused.append(f"{message.topic()}: {error}")


def steps(timeline: Timeline, step: timedelta) -> Iterator[list[Message]]:
    """The messages in order, cut where another `step` of event time has passed since the part's first."""
    part: list[Message] = []
    for message in timeline:
        if part and message.due >= part[0].due + step:
            yield part
            part = []
        part.append(message)
    if part:
        yield part
