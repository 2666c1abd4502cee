"""A topic that was deleted and made again: recognised, refused, and read from its start when it is accepted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spinney.core.config import Config
from spinney.core.errors import Busy, StoreError
from spinney.kafka import topic_ids
from spinney.kafka.topic_ids import Acceptance, accept_topic, accept_topics, ensure_same, known_ids
from spinney.kafka.topic_metadata import Topic, TopicExtent
from spinney.storage import charter
from spinney.storage.checkpoints import kafka_end_offsets
from spinney.storage.layout import FleetStore
from spinney.storage.leases import held

READ = {"ingest": ['{"sales":{"0":10,"1":4}}', '{"sold":{"0":7}}'], "score": ['{"sales":{"0":8,"1":4}}']}


def topic(name: str, known_as: str | None) -> Topic:
    return Topic(name, known_as, 2, frozenset())


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> dict[str, Topic]:
    """The topics that there are now; each holds 25 records, of which retention has taken three."""
    there = {"sales": topic("sales", "first"), "sold": topic("sold", "other")}
    monkeypatch.setattr(topic_ids, "require_topics", lambda config, names: {name: there[name] for name in names})
    monkeypatch.setattr(topic_ids, "topic_extent", lambda config, of: TopicExtent({"0": 3, "1": 0}, {"0": 20, "1": 8}))
    return there


@pytest.fixture
def read(configured: Any, broker: dict[str, Topic]) -> Config:
    """A fleet whose queries have read both topics."""
    config = configured(ranges="price = [0, 10]")
    charter.amend_charter(FleetStore.of(config))
    for query, sources in READ.items():
        place = Path(FleetStore.of(config).checkpoint(query)) / "offsets"
        place.mkdir(parents=True)
        (place / "6").write_text("\n".join(["v1", "{}", *sources]))
    ensure_same(FleetStore.of(config), config.kafka, broker)
    return config


def test_ids_are_kept_when_a_topic_is_first_read(read: Config, tmp_path: Path) -> None:
    assert known_ids(FleetStore.of(read)) == {"sales": "first", "sold": "other"}
    (file,) = tmp_path.rglob("topics.json")
    assert json.loads(file.read_text()) == {"format": 2, "topics": known_ids(FleetStore.of(read))}


def test_the_same_topic_goes_on(read: Config, broker: dict[str, Topic]) -> None:
    ensure_same(FleetStore.of(read), read.kafka, broker)
    assert accept_topic(FleetStore.of(read), read.kafka, "sales") == Acceptance.SAME
    assert kafka_end_offsets(FleetStore.of(read).checkpoint("ingest"), "sales") == {"0": 10, "1": 4}


def test_a_topic_made_again_is_refused_with_what_was_read_what_is_there_and_what_to_do(
    read: Config, broker: dict[str, Topic]
) -> None:
    broker["sales"] = topic("sales", "second")
    with pytest.raises(StoreError) as caught:
        ensure_same(FleetStore.of(read), read.kafka, broker)
    text = str(caught.value)
    assert "id first; ingest up to offset 10 of partition 0, offset 4 of partition 1; score up to offset 8" in text
    assert "id second), with 25 records, none of them read" in text
    assert "`spinney stream --accept-topic sales`" in text
    assert known_ids(FleetStore.of(read))["sales"] == "first"


def test_an_accepted_topic_is_read_from_its_first_record_and_the_other_one_goes_on(
    read: Config, broker: dict[str, Topic]
) -> None:
    broker["sales"] = topic("sales", "second")
    assert accept_topic(FleetStore.of(read), read.kafka, "sales") == Acceptance.REWOUND
    for query in READ:
        assert kafka_end_offsets(FleetStore.of(read).checkpoint(query), "sales") == {"0": 3, "1": 0}
    assert kafka_end_offsets(FleetStore.of(read).checkpoint("ingest"), "sold") == {"0": 7}
    ensure_same(FleetStore.of(read), read.kafka, broker)
    assert known_ids(FleetStore.of(read)) == {"sales": "second", "sold": "other"}


def test_what_became_of_each_accepted_topic_is_reported(read: Config, broker: dict[str, Topic]) -> None:
    broker["sales"] = topic("sales", "second")
    assert list(accept_topics(FleetStore.of(read), read.kafka, ["sales", "sold"])) == [
        "topic sales: is read from its start",
        "topic sold: is the one that was read before; nothing changed",
    ]


def test_the_newest_ranges_hold_for_all_of_an_accepted_topic(
    read: Config, broker: dict[str, Topic], configured: Any
) -> None:
    edited = configured(ranges="price = [0, 20]")
    since = charter.amend_charter(FleetStore.of(edited)).editions[-1].since
    assert since == {"sales": {"0": 10, "1": 4}, "sold": {"0": 7}}
    broker["sales"] = topic("sales", "second")
    accept_topic(FleetStore.of(edited), edited.kafka, "sales")
    assert [each.since for each in charter.amend_charter(FleetStore.of(edited)).editions] == [{}, {"sold": {"0": 7}}]


def test_a_topic_is_not_accepted_while_a_query_reads_it(read: Config, broker: dict[str, Topic]) -> None:
    broker["sales"] = topic("sales", "second")
    with held(FleetStore.of(read), ["score"]), pytest.raises(Busy, match="query score"):
        accept_topic(FleetStore.of(read), read.kafka, "sales")
    assert kafka_end_offsets(FleetStore.of(read).checkpoint("ingest"), "sales") == {"0": 10, "1": 4}


def test_a_topic_that_nobody_reads_is_not_accepted(read: Config) -> None:
    with pytest.raises(StoreError, match="--accept-topic slaes: expected a topic that the fleet reads: sales, sold"):
        accept_topic(FleetStore.of(read), read.kafka, "slaes")


def test_a_topic_made_again_before_it_was_read_and_one_without_an_id_are_no_loss(
    configured: Any, broker: dict[str, Topic]
) -> None:
    config = configured()
    ensure_same(FleetStore.of(config), config.kafka, broker)
    ensure_same(FleetStore.of(config), config.kafka, {**broker, "sales": topic("sales", "second")})
    assert known_ids(FleetStore.of(config))["sales"] == "second"
    ensure_same(FleetStore.of(config), config.kafka, {**broker, "sales": topic("sales", None)})  # a broker before 2.8
    assert known_ids(FleetStore.of(config))["sales"] == "second"


def test_a_topic_that_was_read_before_ids_were_kept_is_read_from_its_start_once(
    read: Config, tmp_path: Path, broker: dict[str, Topic]
) -> None:
    (file,) = tmp_path.rglob("topics.json")
    file.unlink()
    assert accept_topic(FleetStore.of(read), read.kafka, "sales") == Acceptance.REWOUND
    assert kafka_end_offsets(FleetStore.of(read).checkpoint("ingest"), "sales") == {"0": 3, "1": 0}
    assert known_ids(FleetStore.of(read)) == {"sales": "first"}
    assert accept_topic(FleetStore.of(read), read.kafka, "sales") == Acceptance.SAME


def test_a_topic_without_an_id_or_that_was_never_read_is_not_reported_as_the_same(
    read: Config, tmp_path: Path, broker: dict[str, Topic]
) -> None:
    broker["sales"] = topic("sales", None)
    (reported,) = accept_topics(FleetStore.of(read), read.kafka, ["sales"])
    assert reported.startswith(
        "topic sales: has no id (Kafka before 2.8), so whether it is the one that was read before is "
    )
    assert kafka_end_offsets(FleetStore.of(read).checkpoint("ingest"), "sales") == {"0": 10, "1": 4}
    for query in READ:
        Path(FleetStore.of(read).checkpoint(query)).rename(tmp_path / query)
    assert accept_topic(FleetStore.of(read), read.kafka, "sales") == Acceptance.NOT_READ
