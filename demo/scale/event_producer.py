"""The producer of the stream. It is a separate process, so that its CPU time and memory are not counted with the
queries.

``python -m demo.scale.event_producer FLEET_TOML GROUPS SECONDS SEED`` sends EVENTS_PER_SECOND for SECONDS. Each event
has its label inside and the current time as its event time. Then it prints the number of events and the seconds as
JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from demo.scale.synthetic_fleet import FEATURES, LabelModel, Numbers, device_name, group_key
from demo.scale.traffic_plan import EVENTS_PER_SECOND, SLICES_PER_SECOND, TrafficPlan
from spinney.core.errors import SpinneyError, StoreError, exit_code
from spinney.kafka import client
from spinney.storage.config_file import read_config

QUEUED_RECORDS = 500_000
FLUSH_TIMEOUT_S = 60
MESSAGE_FORMAT = '{"device":"%s","id":"%s","at":"%s",' + "".join(f'"{name}":%r,' for name in FEATURES) + '"y":%r}'


def event_messages(
    label_model: LabelModel, group: Numbers, ids: Sequence[str], random: np.random.Generator, *, changed: Any
) -> Iterator[tuple[str, str]]:
    """Yield (key, value) of an event per group, with the current time. changed: one for each event, or one for all."""
    x = random.normal(size=(len(group), len(FEATURES))).round(4)
    y = label_model.labels(group, x, random.normal(size=len(group)), changed=changed).round(4)
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    for number, name, row, label in zip(group.tolist(), ids, x.tolist(), y.tolist(), strict=True):
        yield group_key(number), MESSAGE_FORMAT % (device_name(number), name, now, *row, label)


def message_slices(traffic: TrafficPlan) -> Iterator[Iterator[tuple[str, str]]]:
    """Yield the messages of the stream in slices of 1 / SLICES_PER_SECOND seconds. Event n has the id ``eN``."""
    label_model, random = LabelModel(traffic.groups, traffic.seed), np.random.default_rng([traffic.seed, 5])
    size = EVENTS_PER_SECOND // SLICES_PER_SECOND
    for first in range(0, traffic.events, size):
        group = traffic.group[first : first + size]
        changed = np.isin(group, traffic.changed) & (first >= traffic.events_before)
        yield event_messages(label_model, group, [f"e{first + at}" for at in range(size)], random, changed=changed)


class TopicSender:
    """Sends to one topic and counts acknowledged records in `sent`."""

    def __init__(self, producer: Any, topic: str) -> None:
        self._producer, self._topic = producer, topic
        self._failed: list[str] = []
        self.sent = 0

    def send(self, block: Iterator[tuple[str, str]]) -> None:
        """Hand (key, value) pairs to the client."""
        for key, value in block:
            self._producer.produce(self._topic, key=key, value=value, on_delivery=self._delivered)
        self._producer.poll(0)

    def finish(self) -> None:
        """Wait for the acknowledgements. Raises StoreError: one is missing."""
        left = self._producer.flush(FLUSH_TIMEOUT_S)
        if left or self._failed:
            raise StoreError(f"topic {self._topic}: {left} records not acknowledged; refused: {self._failed[:1]}")

    def _delivered(self, error: Any, _: Any) -> None:
        if error is not None:
            self._failed.append(str(error))
        else:
            self.sent += 1


def main(arguments: Sequence[str]) -> int:
    """Send the stream. Returns the exit code."""
    traffic = TrafficPlan(*map(int, arguments[1:4]))
    try:
        config = read_config(arguments[0])
        producer = client.producer(config.kafka, {"queue.buffering.max.messages": QUEUED_RECORDS, "linger.ms": 5})
        sender = TopicSender(producer, config.kafka.events)
        began = time.monotonic()
        for number, block in enumerate(message_slices(traffic)):
            # The events of a slice are created when it is due, so that their time is right.
            time.sleep(max(0.0, began + number / SLICES_PER_SECOND - time.monotonic()))
            sender.send(block)
        sender.finish()
    except SpinneyError as error:
        sys.stderr.write(f"spinney: {error}\n")
        return exit_code(error)
    sys.stdout.write(json.dumps({"sent": sender.sent, "seconds": time.monotonic() - began}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
