"""What must not count twice, or at all, and what must not be missed.

The same id again: within the memory of duplicates, after a silence, and after that. Records of aborted transactions. A
topic that was deleted and made again.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
import shop
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from shop import Shops

from schemas import tables
from schemas.contract import Contract
from spinney.core.errors import StoreError
from spinney.core.records.recent_ids import SLOTS
from spinney.kafka import client as kafka
from spinney.kafka import topic_ids
from spinney.storage.layout import FleetStore
from streaming.app import Application

SECONDS = 12
SECONDS_TO_SEND = 60
COMMITTED = {"committed0", "committed1", "committed2"}
AGAIN = {f"a{each}" for each in range(60)}
KEY = '["north","1"]'


class Story:
    """One shop, an id that comes five times, another event in between."""

    def __init__(self, spark: Any, shops: Shops) -> None:
        self.spark, self.shops = spark, shops
        text = shops.file.read_text().replace('duplicates_within = "2h"', f'duplicates_within = "{SECONDS}s"')
        shops.file.write_text(text)
        shops.init()
        self.send("twice", 1.0, sales=10.0)
        self.send("twice", 2.0, sales=20.0)
        self.drain()
        self.wait_until_remembered_long_enough()
        self.send("twice", 3.0, sales=30.0)
        self.drain()
        self.send("other", 4.0, sales=40.0)
        self.drain()
        self.send("twice", 5.0, sales=50.0)
        self.transactions()
        self.drain()
        self.before = set(self.table(tables.EVENTS)["event_id"])
        self.make_events_again()
        with pytest.raises(StoreError) as refused:
            self.drain()
        self.refusal = str(refused.value)
        self.accepted = topic_ids.accept_topic(
            FleetStore.of(self.shops.config), self.shops.config.kafka, f"{self.shops.name}.events"
        )
        Application(spark, self.shops.config, ("ingest", "score")).drain()

    def send(self, event_id: str, x: float, sales: float) -> None:
        row = {**shop.sale(event_id, "north", 1, x, 0.0), "sales": sales}
        self.shops.events([row])
        self.shops.outcomes([row])

    def transactions(self) -> None:
        """Five events that are taken back, three that stand, two that are taken back: so the log ends in no record."""
        client = Producer({"bootstrap.servers": self.shops.broker, "transactional.id": self.shops.name, "log_level": 0})
        client.init_transactions(SECONDS_TO_SEND)
        for name, count, end in (
            ("aborted", 5, client.abort_transaction),
            ("committed", 3, client.commit_transaction),
            ("last", 2, client.abort_transaction),
        ):
            client.begin_transaction()
            for each in range(count):
                row = shop.sale(f"{name}{each}", "south", 2, 1.0, 0.0)
                client.produce(f"{self.shops.name}.events", shop.text(row), shop.group_key(row))
            client.flush(SECONDS_TO_SEND)
            end(SECONDS_TO_SEND)

    def make_events_again(self) -> None:
        """More records than the old topic had, in more partitions."""
        topic = f"{self.shops.name}.events"
        client = AdminClient({"bootstrap.servers": self.shops.broker})
        client.delete_topics([topic], operation_timeout=SECONDS_TO_SEND)[topic].result()
        while topic in kafka.existing_topics(self.shops.config.kafka):
            time.sleep(0.05)
        self.shops.init(partitions=3)
        producer = Producer({"bootstrap.servers": self.shops.broker, "log_level": 0})
        for name in sorted(AGAIN):
            row = shop.sale(name, "south", int(name[1:]) % 9, 1.0, 0.0)
            producer.produce(topic, shop.text(row), shop.group_key(row))
        assert producer.flush(SECONDS_TO_SEND) == 0

    def drain(self) -> None:
        Application(self.spark, self.shops.config, ("ingest", "score", "labels")).drain()

    def wait_until_remembered_long_enough(self) -> None:
        arrived = max(self.table(tables.EVENTS)["ingested_at"].max(), self.table(tables.PREDICTIONS)["scored_at"].max())
        while datetime.now(UTC) < arrived + timedelta(seconds=SECONDS * (1 + 1 / SLOTS)):
            time.sleep(0.1)

    def table(self, contract: Contract) -> pd.DataFrame:
        return self.shops.table(contract)

    def copies(self, contract: Contract) -> list[int]:
        """Which of the copies are stored. One key, one partition: offsets count from the first."""
        rows = self.table(contract)
        return sorted(rows.loc[rows["event_id"] == "twice", "kafka_offset"] + 1)


@pytest.fixture(scope="module")
def story(spark: Any, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Story:
    return Story(spark, Shops(tmp_path_factory.mktemp("duplicates"), broker))


@pytest.mark.parametrize("contract", [tables.EVENTS, tables.PREDICTIONS, tables.OUTCOMES], ids=lambda each: each.name)
def test_a_copy_is_dropped_within_the_time_and_through_a_silence_and_is_a_second_event_after_the_next_batch(
    story: Story, contract: Contract
) -> None:
    assert story.copies(contract) == [1, 5]


def test_nothing_that_came_on_time_was_dropped_and_no_aborted_record_is_stored_or_answered(story: Story) -> None:
    assert story.before == {"twice", "other", *COMMITTED}
    assert set(story.table(tables.PREDICTIONS)["event_id"]) - AGAIN == story.before
    assert story.table(tables.DEAD_LETTERS).empty


def test_a_topic_that_was_made_again_is_refused_and_then_read_from_its_start(story: Story) -> None:
    assert "with 60 records, none of them read" in story.refusal
    assert f"`spinney stream --accept-topic {story.shops.name}.events`" in story.refusal
    assert story.accepted == topic_ids.Acceptance.REWOUND
    assert set(story.table(tables.EVENTS)["event_id"]) == story.before | AGAIN
    assert set(story.table(tables.PREDICTIONS)["event_id"]) == story.before | AGAIN
    # What was read of the other topic is not read again.
    assert len(story.table(tables.OUTCOMES)) == len(story.copies(tables.OUTCOMES)) + 1


def test_a_label_that_came_again_is_counted_once_for_each_answer(story: Story) -> None:
    health = story.table(tables.HEALTH)
    mine = health[health["group_key"] == KEY]
    assert (mine["rows"].sum(), mine["labelled"].sum()) == (3, 3)
