"""A stream goes on from the checkpoints that an earlier version has written."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from earlier_root import EarlierRoot

from schemas import tables
from schemas.contract import Contract
from spinney.kafka import topic_metadata
from spinney.kafka.client import ensure_topics
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from streaming.app import Application

EVENTS, OUTCOMES = "earlier.events", "earlier.outcomes"
NEWCOMER_ROWS = 12


class GoneOn:
    """The fleet with its topics, before and after a few more records."""

    def __init__(self, spark: Any, broker: str, folder: Path) -> None:
        self.root = EarlierRoot.unpack(folder)
        text = self.root.file.read_text()
        text = re.sub('bootstrap_servers = ".*"', f'bootstrap_servers = "{broker}"', text)
        # The answer that gets its label now is as old as the archive.
        self.root.file.write_text(text.replace('label_horizon = "24h"', 'label_horizon = "10000d"'))
        self.producer = Producer({"bootstrap.servers": broker})
        self.fill_topics()
        self.before = {base.name: self.rows(base) for base in (tables.EVENTS, tables.PREDICTIONS, tables.HEALTH)}
        self.send_more()
        Application(spark, self.root.config).drain()

    def fill_topics(self) -> None:
        """The topics as they were. Kafka gave them other ids, so topics.json gets those, as it was written then."""
        config = self.root.config
        delete_topics(config.kafka.bootstrap_servers)
        ensure_topics(config.kafka, partitions=1)
        for record in self.root.records:
            self.send(**record)
        assert self.producer.flush(30) == 0
        found = topic_metadata.require_topics(config.kafka, [EVENTS, OUTCOMES])
        file = FleetStore.of(config).folder / "topics.json"
        assert json.loads(file.read_text()).keys() == {EVENTS, OUTCOMES}
        file.write_text(json.dumps({name: topic.id for name, topic in found.items()}))

    def send(self, *, topic: str, value: str, key: str | None, timestamp: int, headers: list[list[str]]) -> None:
        given = [(name, text.encode()) for name, text in headers]
        self.producer.produce(topic, value.encode(), key, timestamp=timestamp, headers=given)

    def send_more(self) -> None:
        """A minute after the last record: an id that was read before, a label that came late, and new events."""
        last = max(record["timestamp"] for record in self.root.records)
        events = [sale(f"c-{n}", "south", 5, float(n % 7), 2410.0 + n) for n in range(NEWCOMER_ROWS)]
        events += [sale("c-north", "north", 2, 1.5, 2430.0), sale("a-1-0", "north", 1, 0.0, 2000.0)]
        outcomes = [outcome(row) for row in [*events[:NEWCOMER_ROWS], sale("a-4-0", "south", 4, 0.0, 2000.0)]]
        for topic, rows in ((EVENTS, events), (OUTCOMES, outcomes)):
            for row in rows:
                key = json.dumps([row["region"], str(row["shop"])], separators=(",", ":"))
                self.send(topic=topic, value=json.dumps(row), key=key, timestamp=last + 60_000, headers=[])
        assert self.producer.flush(30) == 0

    def rows(self, base: Contract) -> pd.DataFrame:
        return delta.read_table(FleetStore.of(self.root.config), base).to_pandas()

    def added(self, base: Contract) -> set[str]:
        """Ids of the rows that came, each once and none again."""
        before, after = self.before[base.name]["event_id"], self.rows(base)["event_id"]
        assert after.is_unique
        assert set(before) <= set(after)
        return set(after) - set(before)


def delete_topics(servers: str) -> None:
    """Delete what a run before this one has left on a broker that outlives it."""
    admin = AdminClient({"bootstrap.servers": servers})
    there = [name for name in admin.list_topics(timeout=30).topics if name.startswith("earlier.")]
    for deleted in admin.delete_topics(there).values() if there else ():
        deleted.result()
    until = time.monotonic() + 60
    while any(name in admin.list_topics(timeout=30).topics for name in there):
        assert time.monotonic() < until, "topics of an earlier run are still there"
        time.sleep(0.2)


def sale(event_id: str, region: str, shop: int, x: float, minutes: float) -> dict[str, Any]:
    at = (datetime(2024, 3, 1, tzinfo=UTC) + timedelta(minutes=minutes)).isoformat()
    return {"event_id": event_id, "region": region, "shop": shop, "at": at, "x": x, "promo": shop % 2 == 0}


def outcome(row: dict[str, Any]) -> dict[str, Any]:
    named = {name: row[name] for name in ("event_id", "region", "shop")}
    return {**named, "sales": 10.0 * row["shop"] * row["x"] + row["shop"], "observed_at": row["at"]}


NEW = {*(f"c-{n}" for n in range(NEWCOMER_ROWS)), "c-north"}


@pytest.fixture(scope="module")
def gone_on(spark: Any, broker: str, tmp_path_factory: pytest.TempPathFactory) -> GoneOn:
    return GoneOn(spark, broker, tmp_path_factory.mktemp("earlier"))


def test_what_was_read_before_is_not_read_again_and_the_new_records_are(gone_on: GoneOn) -> None:
    assert gone_on.added(tables.EVENTS) == NEW  # nor is a copy of an id that the state remembers


def test_nothing_is_scored_twice(gone_on: GoneOn) -> None:
    assert gone_on.added(tables.PREDICTIONS) == NEW


def test_the_champions_in_the_state_answer(gone_on: GoneOn) -> None:
    champions = {each["group_key"]: each["model_id"] for each in gone_on.root.expected["fleet"]}
    rows = gone_on.rows(tables.PREDICTIONS).set_index("event_id").loc[sorted(NEW)]
    assert set(rows["answered_by"]) == {"own"}
    assert list(rows["model_id"]) == [champions[key] for key in rows["group_key"]]


def test_a_label_finds_an_answer_that_the_query_had_read(gone_on: GoneOn) -> None:
    before, after = (
        rows[rows["group_key"] == '["south","4"]']["labelled"].sum()
        for rows in (gone_on.before[tables.HEALTH.name], gone_on.rows(tables.HEALTH))
    )
    assert after == before + 1


def test_the_judge_goes_on_from_what_it_knew(gone_on: GoneOn) -> None:
    """South 5 has 12 new labelled rows and is due after 8; the others have too few and had been fitted before."""
    rounds = gone_on.rows(tables.ROUNDS).sort_values("started_at")
    newest = rounds.iloc[-1]
    assert (newest["kind"], newest["groups_in"]) == ("stream", 1)
    models = gone_on.rows(tables.MODELS)
    assert set(models.loc[models["round_id"] == newest["round_id"], "group_key"]) == {'["south","5"]'}
