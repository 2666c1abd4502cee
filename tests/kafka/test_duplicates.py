"""The same id again: within the memory of duplicates, after a silence, and after that; and records of transactions."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
import shop
from confluent_kafka import Producer
from shop import Shops

from schemas import tables
from schemas.contract import Contract
from streaming.app import Application

SECONDS = 12
SECONDS_TO_SEND = 60
COMMITTED = {"committed0", "committed1", "committed2"}
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

    def drain(self) -> None:
        Application(self.spark, self.shops.config, ("ingest", "score", "labels")).drain()

    def wait_until_remembered_long_enough(self) -> None:
        arrived = max(self.table(tables.EVENTS)["ingested_at"].max(), self.table(tables.PREDICTIONS)["scored_at"].max())
        while datetime.now(UTC) < arrived + timedelta(seconds=SECONDS):
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
    assert set(story.table(tables.EVENTS)["event_id"]) == {"twice", "other", *COMMITTED}
    assert set(story.table(tables.PREDICTIONS)["event_id"]) == {"twice", "other", *COMMITTED}
    assert story.table(tables.DEAD_LETTERS).empty


def test_a_label_that_came_again_is_counted_once_for_each_answer(story: Story) -> None:
    health = story.table(tables.HEALTH)
    mine = health[health["group_key"] == KEY]
    assert (mine["rows"].sum(), mine["labelled"].sum()) == (3, 3)
