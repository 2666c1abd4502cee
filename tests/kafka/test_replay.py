"""Dead letters sent to a real topic again: the same bytes, each at most once, whatever happened in between."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from handwritten_history import Past, fleet_toml, hour

from schemas import tables
from spinney.core.config import parse
from spinney.core.errors import StoreError
from spinney.kafka import client as kafka
from spinney.kafka import topic_reading
from spinney.operations.dead_letters import ledger, replay
from spinney.operations.dead_letters.letters import DeadLetters, LetterFilter, group_letters
from spinney.storage.layout import FleetStore

Record = tuple[bytes | None, bytes | None]


@pytest.fixture
def past(tmp_path: Path, broker: str) -> Past:
    text = fleet_toml(tmp_path / "root", kafka=f'bootstrap_servers = "{broker}"')
    made = Past(parse(text.replace('"sales"', f'"sales-{uuid.uuid4().hex[:8]}"'), "fleet.toml", {}))
    kafka.ensure_topics(made.config.kafka, partitions=2)
    return made


def reject(past: Past, offset: int, key: bytes | None, value: bytes | None) -> None:
    """A dead letter of the events topic."""
    row = {
        "key": key, "value": value, "topic": past.config.kafka.events, "kafka_partition": 0, "kafka_offset": offset,
        "reason": "out_of_range", "detail": "x", "ingested_at": hour(offset), "batch_id": 0,
    }  # fmt: skip
    past.put(tables.DEAD_LETTERS, "", row)


def letters(past: Past) -> DeadLetters:
    return DeadLetters.opened(FleetStore.of(past.config), LetterFilter())


def received(past: Past) -> list[Record]:
    """Every record of the events topic, in any order of partitions."""
    return [(message.key(), message.value()) for message in _messages(past)]


def _messages(past: Past) -> Iterator[Any]:
    topic = past.config.kafka.events
    ends = topic_reading.end_offsets(past.config.kafka, [topic])[topic]
    left = sum(ends.values())
    consumer = Consumer({"bootstrap.servers": past.config.kafka.bootstrap_servers, "group.id": "test", "log_level": 0})
    consumer.assign([TopicPartition(topic, number, 0) for number in ends])
    while left:
        for message in consumer.consume(left, timeout=60.0):
            assert message.error() is None
            left -= 1
            yield message
    consumer.close()


def sale(number: int, more: str = "") -> bytes:
    """A record that is valid by now."""
    at = f"{hour(0):%Y-%m-%dT%H:%M:%SZ}"
    text = f'{{ "sale":"{number}", "at":"{at}","shop":"a", "dept":1,"price":1.50,"sold":2e0{more}}}'
    return text.encode()


def test_key_and_value_are_sent_as_they_came_and_only_once(past: Past) -> None:
    odd = sale(1, ',"note":"\\u00e9"')
    sent: list[Record] = [(b'["a","1"]', sale(0)), (None, odd), (b"f\xff\x00", sale(2) + b"\n")]
    for at, record in enumerate(sent):
        reject(past, at, *record)
    reject(past, 3, b"k", None)
    assert replay.carry_out_replay(FleetStore.of(past.config), past.config.kafka, letters(past)).count == 3
    again = replay.carry_out_replay(FleetStore.of(past.config), past.config.kafka, letters(past))
    assert (again.count, again.left) == (0, {replay.REPLAYED: 3, "would be rejected again: null_value": 1})
    assert sorted(received(past), key=str) == sorted(sent, key=str)
    assert [
        kind.replayed for kind in group_letters(letters(past), ledger.read_replayed(FleetStore.of(past.config)))
    ] == [3]


def test_of_a_replay_that_was_killed_only_what_the_topic_does_not_have_is_sent(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Record] = [(b"k", sale(at)) for at in range(10)]
    for at, record in enumerate(sent):
        reject(past, at, *record)
    produced = replay._produce

    def killed(producer: Any, row: Any, *more: Any) -> str | None:
        if row["kafka_offset"] == 6:
            producer.flush()
            raise KeyboardInterrupt
        return produced(producer, row, *more)

    monkeypatch.setattr(replay, "_produce", killed)
    with pytest.raises(KeyboardInterrupt):
        replay.carry_out_replay(FleetStore.of(past.config), past.config.kafka, letters(past))
    monkeypatch.undo()
    arrived = len(received(past))
    assert 0 < arrived < 10
    assert len(ledger.unfinished_replays(FleetStore.of(past.config))) == 1
    assert replay.carry_out_replay(FleetStore.of(past.config), past.config.kafka, letters(past)).count == 10 - arrived
    assert sorted(received(past), key=str) == sorted(sent, key=str)


def test_a_record_that_the_broker_refuses_is_reported_and_the_others_are_not_sent_again(past: Past) -> None:
    topic = ConfigResource(ResourceType.TOPIC, past.config.kafka.events)
    topic.add_incremental_config(ConfigEntry("max.message.bytes", "1000", incremental_operation=AlterConfigOpType.SET))
    client = kafka.admin(past.config.kafka)  # kept by name: its futures die with it
    client.incremental_alter_configs([topic])[topic].result()
    # No codec makes these small.
    large = sale(1, f',"note":"{os.urandom(2_000).hex()}"')
    reject(past, 0, b"k", sale(0))
    reject(past, 1, b"other", large)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"to take all \d; got .*[Ss]ize.*Run the replay again"):
            replay.carry_out_replay(FleetStore.of(past.config), past.config.kafka, letters(past))
    assert received(past) == [(b"k", sale(0))]
