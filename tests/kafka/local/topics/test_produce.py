from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import NewTopic
from kafka_fleet import fleet_with

from spinney.cli import main
from spinney.core.config import Config
from spinney.core.errors import Busy, ConfigError, SetupError, StoreError
from spinney.kafka import client as kafka
from spinney.kafka.topic_metadata import Topic, describe_topics
from spinney.local.checks import fleet_checks
from spinney.local.topics.produce import Pace, Sent, send
from spinney.sources import ReadOptions
from spinney.sources.fleet_files import open_fleet_file
from spinney.storage.layout import FleetStore

FIRST = datetime(2013, 1, 1, tzinfo=UTC)
NO_BROKER = 'bootstrap_servers = "127.0.0.1:1"'


@pytest.fixture
def config(broker: str) -> Config:
    name = uuid4().hex
    return fleet_with(f'bootstrap_servers = "{broker}"', f'events = "{name}.events"', f'outcomes = "{name}.outcomes"')


def lines(folder: Path, count: int, **more: object) -> Path:
    rows = [
        {"id": f"e{row}", "at": (FIRST + timedelta(hours=row)).isoformat(), "shop": f"s{row % 7}", "price": row, **more}
        for row in range(count)
    ]
    file = folder / "rows.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return file


def send_file(config: Config, file: Path, topic: str, *how: Any) -> Sent:
    return send(
        config,
        open_fleet_file(config.record_schema, file, ReadOptions(), outcomes=topic == config.kafka.outcomes),
        topic,
        *how,
    )


def records(config: Config, topic: str, count: int) -> list[Message]:
    consumer = Consumer(
        {"bootstrap.servers": config.kafka.bootstrap_servers, "group.id": uuid4().hex, "enable.auto.commit": False}
    )
    partitions = range(kafka.existing_topics(config.kafka)[topic])
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    try:
        found = consumer.consume(count, timeout=60) if count else []
        return found + consumer.consume(1, timeout=2)  # none is too many
    finally:
        consumer.close()


def test_topics_are_made_once_and_left_alone_after(config: Config) -> None:
    events, outcomes = config.kafka.events, config.kafka.outcomes
    assert kafka.ensure_topics(config.kafka, partitions=3) == {events: True, outcomes: True}
    assert kafka.ensure_topics(config.kafka, partitions=5) == {events: False, outcomes: False}
    assert kafka.existing_topics(config.kafka)[events] == 3


def test_a_topic_keeps_its_records_as_long_as_asked(config: Config) -> None:
    kafka.ensure_topics(config.kafka, retention_ms=60_000)
    assert kafka.retention_ms(config.kafka, config.kafka.events) == 60_000


def make(config: Config, topic: str, **settings: str) -> None:
    client = kafka.admin(config.kafka)  # kept by name: its futures die with it
    dotted = {name.replace("_", "."): value for name, value in settings.items()}
    client.create_topics([NewTopic(topic, 1, 1, config=dotted)], operation_timeout=30)[topic].result()
    while not isinstance(describe_topics(config.kafka, [topic])[topic], Topic):
        time.sleep(0.05)


def test_a_topic_made_here_takes_no_record_dated_years_ahead_whatever_the_broker_would(config: Config) -> None:
    kafka.ensure_topics(config.kafka)
    assert kafka.topic_settings(config.kafka, config.kafka.events)["message.timestamp.after.max.ms"] == "3600000"
    ahead = round((datetime.now(UTC) + timedelta(hours=2)).timestamp() * 1000)
    answers: list[Any] = []
    client = kafka.producer(config.kafka)
    client.produce(config.kafka.events, b"{}", timestamp=ahead, on_delivery=lambda error, _: answers.append(error))
    client.flush(30)
    assert [error.name() for error in answers] == ["INVALID_TIMESTAMP"]
    assert [found.state for found in fleet_checks.topics(FleetStore.of(config), config.kafka)] == ["ok"]


def test_a_topic_that_takes_records_dated_years_ahead_is_a_finding(config: Config) -> None:
    events, outcomes, ever = config.kafka.events, config.kafka.outcomes, str(2**63 - 1)
    make(config, events, message_timestamp_after_max_ms=ever, message_timestamp_type="LogAppendTime")
    make(config, outcomes, message_timestamp_after_max_ms=ever)
    (found,) = fleet_checks.topics(FleetStore.of(config), config.kafka)  # events have the broker's own clock
    assert found.state == "finding"
    assert found.text.endswith(f"now: {outcomes}")
    assert "message.timestamp.after.max.ms=3600000" in found.remedy


def test_every_row_arrives_once_keyed_by_its_group(config: Config, tmp_path: Path) -> None:
    kafka.ensure_topics(config.kafka)
    shown: list[tuple[int, bool]] = []

    def show(sent: Sent) -> None:
        shown.append((sent.acknowledged, sent.finished))

    sent = send_file(config, lines(tmp_path, 500), config.kafka.events, Pace(), show)
    assert (sent.handed_over, sent.acknowledged, sent.failed, sent.rejections.rejected) == (500, 500, 0, 0)
    assert shown[-1] == (500, True)
    found = records(config, config.kafka.events, 500)
    values = [json.loads(message.value()) for message in found]
    assert sorted(value["id"] for value in values) == sorted(f"e{row}" for row in range(500))
    assert all(
        message.key().decode() == json.dumps([value["shop"]]) for message, value in zip(found, values, strict=True)
    )


def test_by_event_time_records_carry_it_and_come_at_its_distances(config: Config, tmp_path: Path) -> None:
    kafka.ensure_topics(config.kafka, partitions=1, retention_ms=-1)
    sent = send_file(config, lines(tmp_path, 5), config.kafka.events, Pace(by_event_time=True, speed=36_000.0))
    assert sent.acknowledged == 5
    assert sent.seconds >= 0.4  # four hours, ten hours a second
    stamps = [message.timestamp()[1] for message in records(config, config.kafka.events, 5)]
    assert stamps == [round((FIRST + timedelta(hours=row)).timestamp() * 1000) for row in range(5)]


def test_a_rate_is_kept(config: Config, tmp_path: Path) -> None:
    kafka.ensure_topics(config.kafka)
    assert send_file(config, lines(tmp_path, 11), config.kafka.events, Pace(rate=20.0)).seconds >= 0.5


def test_a_topic_that_would_delete_records_that_old_is_refused(config: Config, tmp_path: Path) -> None:
    kafka.ensure_topics(config.kafka, retention_ms=7 * 86_400_000)
    with pytest.raises(SetupError, match="--retention-ms -1"):
        send_file(config, lines(tmp_path, 1), config.kafka.events, Pace(by_event_time=True))


def test_a_topic_that_is_not_there_is_refused(config: Config, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="spinney init"):
        send_file(config, lines(tmp_path, 1), config.kafka.events)


def test_a_row_that_is_not_valid_is_not_sent_and_the_others_are(config: Config, tmp_path: Path) -> None:
    kafka.ensure_topics(config.kafka)
    file = lines(tmp_path, 3)
    file.write_text(f'{file.read_text()}\n{{"id": "x"}}\n{{"shop": "a", "price": Infinity}}\n')
    sent = send_file(config, file, config.kafka.events)
    assert (sent.handed_over, sent.acknowledged, sent.failed) == (3, 3, 0)
    assert sent.rejections.counts == {("missing_field", "at"): 1, ("not_json", None): 1}


def test_a_record_too_large_is_not_sent_and_the_others_are(config: Config, tmp_path: Path) -> None:
    kafka.ensure_topics(config.kafka)
    file = lines(tmp_path, 1)
    file.write_text(f"{file.read_text()}\n{json.dumps({'shop': 'a', 'note': 'x' * 2_000_000})}\n")
    sent = send_file(config, file, config.kafka.events)
    assert (sent.acknowledged, sent.rejections.counts) == (1, {("too_large", None): 1})


def test_the_command_ends_with_1_when_a_row_was_not_sent_and_says_which(config: Config, tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(config.text)
    kafka.ensure_topics(config.kafka)
    file = lines(tmp_path, 2, sold=1, observed_at="2024-05-01")
    words = ["produce", str(file), "--config", str(tmp_path / "fleet.toml"), "--topic", "outcomes"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0
    assert "2 sent, 0 failed" in done.stderr
    file.write_text(file.read_text() + '\n{"id": "x"}')
    failed = CliRunner().invoke(main, words)
    assert failed.exit_code == 1
    assert "rows.jsonl row 3: shop: expected string; got nothing" in failed.stderr


def test_check_sees_the_broker_and_misses_the_topics(config: Config) -> None:
    assert fleet_checks.kafka(config.kafka).state == "ok"
    (missing,) = fleet_checks.topics(FleetStore.of(config), config.kafka)
    assert (missing.state, missing.remedy) == ("finding", "Make them: spinney init")
    kafka.ensure_topics(config.kafka)
    assert [found.state for found in fleet_checks.topics(FleetStore.of(config), config.kafka)] == ["ok"]


def test_check_finds_what_a_topic_would_lose(config: Config) -> None:
    make(config, config.kafka.events, cleanup_policy="compact", max_message_bytes="1000000")
    make(config, config.kafka.outcomes, retention_ms="60000")
    found = fleet_checks.topics(FleetStore.of(config), config.kafka)
    assert {result.state for result in found} == {"finding"}
    assert [result.text.partition(": ")[2].split()[0] for result in found[:3]] == [
        "cleanup.policy=compact",
        "max.message.bytes=1000000",
        "keeps",
    ]


def test_a_broker_that_is_not_there_is_busy() -> None:
    config = fleet_with(NO_BROKER, 'events = "sales"')
    with pytest.raises(Busy, match="expected a broker"):
        kafka.existing_topics(config.kafka, timeout_s=1)


def test_an_option_that_the_client_does_not_know_is_a_wrong_configuration() -> None:
    config = fleet_with(NO_BROKER, 'events = "sales"', 'options = { "max.poll.cats" = "1" }')
    with pytest.raises(ConfigError, match=r"kafka\.options"):
        kafka.producer(config.kafka)
