"""What is read of topics that are not any more as they were; the broker is a dictionary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from confluent_kafka import KafkaError, TopicPartition

from spinney.core.config import Config
from spinney.kafka import client as kafka
from spinney.kafka import topic_reading
from spinney.kafka.topic_reading import read_headers, topics_with_lost_records

EXTENTS = {("sales", 0): (3, 20), ("sales", 1): (0, 8)}
"""(topic, partition) -> the offsets of its first record and of the next one."""


@dataclass
class Answer:
    """A record with a header, or the end of a partition."""

    place: tuple[str, int]
    header: bytes | None = None

    def error(self) -> KafkaError | None:
        return KafkaError(KafkaError._PARTITION_EOF) if self.header is None else None

    def headers(self) -> list[tuple[str, bytes | None]]:
        return [("name", self.header)]

    def topic(self) -> str:
        return self.place[0]

    def partition(self) -> int:
        return self.place[1]


@dataclass
class Client:
    """A consumer of EXTENTS; each partition has one record, and says its end. Others never answer."""

    settings: dict[str, Any]
    assigned: list[tuple[str, int, int]] = field(default_factory=list)

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        self.assigned = [(each.topic, each.partition, each.offset) for each in partitions]

    def consume(self, *_: Any, **__: Any) -> list[Answer]:
        places = [(topic, at) for topic, at, _ in self.assigned if (topic, at) in EXTENTS]
        found = [(Answer(place, f"{place[0]}/{place[1]}".encode()), Answer(place)) for place in places]
        return [each for pair in found for each in pair]

    def get_watermark_offsets(self, partition: TopicPartition, **_: Any) -> tuple[int, int]:
        return EXTENTS[partition.topic, partition.partition]

    def close(self) -> None:
        pass


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> list[Client]:
    """Those that were made."""
    made: list[Client] = []

    def client(settings: dict[str, Any]) -> Client:
        made.append(Client(settings))
        return made[-1]

    monkeypatch.setattr(topic_reading, "Consumer", client)
    monkeypatch.setattr(kafka, "existing_topics", lambda config: {"sales": 2})
    return made


@pytest.fixture
def config(configured: Any) -> Config:
    found: Config = configured()
    return found


def test_partitions_and_topics_that_are_gone_are_not_waited_for(config: Config, clients: list[Client]) -> None:
    beginnings = {"sales": {0: 5, 1: 2, 2: 7}, "gone": {0: 1}}
    assert list(read_headers(config.kafka, beginnings, "name")) == ["sales/0", "sales/1"]
    assert clients[0].assigned == [("sales", 0, 5), ("sales", 1, 2)]
    assert list(read_headers(config.kafka, {"gone": {0: 1}}, "name")) == []


def test_records_behind_an_open_transaction_are_read(config: Config, clients: list[Client]) -> None:
    list(read_headers(config.kafka, {"sales": {0: 5}}, "name"))
    assert clients[0].settings["isolation.level"] == "read_uncommitted"


@pytest.mark.usefixtures("clients")
@pytest.mark.parametrize(
    ("beginnings", "lost"),
    [
        ({"sales": {0: 3, 1: 0}}, set()),
        ({"sales": {0: 20, 1: 8}}, set()),
        ({"sales": {0: 2, 1: 0}}, {"sales"}),  # retention has removed one
        ({"sales": {0: 21, 1: 8}}, {"sales"}),  # made again, with fewer records
        ({"sales": {0: 3, 1: 0, 2: 0}}, {"sales"}),  # made again, with fewer partitions
        ({"sales": {0: 3}, "gone": {0: 0}}, {"gone"}),
    ],
)
def test_a_topic_shows_whether_records_may_be_gone(
    config: Config, beginnings: dict[str, dict[int, int]], lost: set[str]
) -> None:
    assert topics_with_lost_records(config.kafka, beginnings) == lost
