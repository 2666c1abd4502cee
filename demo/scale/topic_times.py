"""When each event was written to a topic, by Kafka's own timestamps."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from demo.scale.synthetic_fleet import Floats, Numbers
from spinney.core.config import Kafka
from spinney.core.errors import StoreError
from spinney.kafka.client_options import consumer_settings
from spinney.local.topics import topic_records

CONSUMER_GROUP = "spinney-demo-scale"


@dataclass(frozen=True)
class TopicTimes:
    """The records of the events ``e0``, ``e1``, … in a topic; index n of each array is event ``eN``.

    at: timestamp of the event's first record, seconds since 1970; NaN without one. records: number of its records.
    """

    at: Floats
    records: Numbers

    @property
    def repeated(self) -> int:
        """Records beyond the first of each event."""
        return int(np.maximum(self.records - 1, 0).sum())


def read_times(kafka: Kafka, topic: str, field: str, total: int) -> TopicTimes:
    """Read the times of `total` events from a topic. Records of other ids than ``eN`` are ignored.

    field: the message's field with the event's id. Raises StoreError: an event that was not sent.
    """
    at, records = np.full(total, np.nan), np.zeros(total, np.int64)
    for timestamp_ms, value in topic_records.read_records(consumer_settings(kafka, CONSUMER_GROUP), topic):
        name = json.loads(value)[field]
        if not name.startswith("e"):
            continue
        number = int(name[1:])
        if number >= total:
            raise StoreError(f"topic {topic}: expected events e0 to e{total - 1}; got {name}")
        at[number] = np.fmin(at[number], timestamp_ms / 1000)
        records[number] += 1
    return TopicTimes(at, records)


def count_records(kafka: Kafka, topic: str) -> int:
    """Return how many records a topic has now."""
    return topic_records.count_records(consumer_settings(kafka, CONSUMER_GROUP), topic)
