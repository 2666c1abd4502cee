"""A tiny fleet for tests against a real broker: shops that sell, six models, four shards; and what was sent to it.

Nothing is by chance: a shop's true sales are a line in `x` of its own, so every answer can be checked by hand.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from confluent_kafka import Consumer, Producer, TopicPartition
from new_tables import create_tables

from schemas.contract import Contract
from spinney.core.config import Config
from spinney.storage.config_file import read_config
from spinney.storage.layout import FleetStore
from spinney.tables import delta

FLEET = """
[fleet]
name = "shops"
group = ["region", "shop"]
parents = [["region"], []]
event_id = "event_id"
event_time = "at"
target = "sales"
task = "regression"
loss = "absolute"
features = ["x", "promo"]
label_delay = "1h"
clock = "event"
shards = 4

[fleet.columns]
region = "string"
shop = "int"
x = "double"
promo = "boolean"
stock = "int"
opened = "date"
checked = "timestamp"
note = "string"
sales = "double"

[fleet.ranges]
x = [{low}, {high}]
stock = [0, 2147483647]

[recipe]
estimator = "ridge"
params = {{ alpha = 0.001 }}
min_rows = 10
window = "365d"

[staleness]
max_age = "365d"
new_rows = 8
error_rise = {{ patience = "36500d" }}

[budget]
seconds = 60

[gate]
evidence = 3

[intervals]
coverage = 0.75                        # six held-out rows of a group suffice, if it is alone in its shard

[kafka]
bootstrap_servers = "{broker}"
events = "{name}.events"
outcomes = "{name}.outcomes"
predictions = "{name}.predictions"
duplicates_within = "2h"
label_horizon = "24h"

[storage]
root = "{root}"

[tracking]
mode = "off"

[spark]
"spark.driver.extraJavaOptions" = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=160m"
"spark.sql.streaming.pollingDelay" = "20ms"
"""
START = datetime(2024, 3, 1, tzinfo=UTC)
SECONDS_TO_SEND = 60.0
EVENTS_FIELDS = ("event_id", "at", "region", "shop", "x", "promo", "stock", "opened", "checked", "note")


@dataclass(frozen=True)
class Sent:
    """One acknowledged record.

    bad: why it must be rejected whatever the ranges are; None for a good one. edits: of the ranges, before it was sent.
    """

    topic: str
    partition: int
    offset: int
    value: bytes | None
    event_id: str | None
    key: str | None
    x: float | None = None
    bad: str | None = None
    edits: int = 0

    @property
    def position(self) -> tuple[str, int, int]:
        return (self.topic, self.partition, self.offset)

    @property
    def identity(self) -> tuple[str | None, str | None]:
        return (self.key, self.event_id)


@dataclass
class Shops:
    """A fleet in a folder of its own with topics of its own, and the ledger of what the broker acknowledged."""

    folder: Path
    broker: str
    ranges: tuple[float, float] = (-100.0, 100.0)
    root_name: str = "root"
    name: str = field(default_factory=lambda: f"shops-{uuid.uuid4().hex[:8]}")
    ledger: list[Sent] = field(default_factory=list)
    edits: int = -1

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.edit(*self.ranges)
        self._producer = Producer({"bootstrap.servers": self.broker, "message.max.bytes": 16_000_000, "log_level": 0})

    @property
    def file(self) -> Path:
        return self.folder / "fleet.toml"

    @property
    def root(self) -> Path:
        return self.folder / self.root_name

    def edit(self, low: float, high: float) -> None:
        """Write fleet.toml with these limits for `x`."""
        self.ranges, self.edits = (low, high), self.edits + 1
        self.file.write_text(
            FLEET.format(low=low, high=high, broker=self.broker, name=self.name, root=self.root), encoding="utf-8"
        )

    @property
    def config(self) -> Config:
        return read_config(self.file, {})

    def init(self, partitions: int = 2) -> None:
        """What `spinney init` does: topics, tables, the signing key."""
        from spinney.kafka.client import ensure_topics
        from spinney.storage.signing_key import ensure_key

        ensure_topics(self.config.kafka, partitions=partitions)
        create_tables(FleetStore.of(self.config))
        ensure_key(FleetStore.of(self.config), {})

    def events(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            self.event(text(row), row)
        self._flush()

    def event(self, value: bytes, row: Mapping[str, Any]) -> None:
        """One event, with bytes of one's own. row: what is to be known of it."""
        known = {"event_id": row["event_id"], "key": group_key(row), "x": row.get("x")}
        self._send(f"{self.name}.events", value, **known)

    def outcomes(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Rows of events with `sales`, each observed an hour after its event."""
        topic = f"{self.name}.outcomes"
        for row in rows:
            self._send(topic, text(outcome(row)), event_id=row["event_id"], key=group_key(row))
        self._flush()

    def bad(self, records: Iterable[tuple[bytes | None, str]], *, outcomes: bool = False) -> None:
        """Records that must be rejected, each with its reason."""
        for value, reason in records:
            self._send(f"{self.name}.{'outcomes' if outcomes else 'events'}", value, bad=reason)
        self._flush()

    def _send(self, topic: str, value: bytes | None, **known: Any) -> None:
        row = {"event_id": None, "key": None, "edits": self.edits, **known}

        def acknowledged(error: Any, message: Any) -> None:
            assert error is None, error
            self.ledger.append(Sent(topic, message.partition(), message.offset(), value, **row))

        key = (row["key"] or "").encode()
        self._producer.produce(topic, value, key, on_delivery=acknowledged)
        self._producer.poll(0)

    def _flush(self) -> None:
        assert self._producer.flush(SECONDS_TO_SEND) == 0

    def table(self, contract: Contract, *, streamed: bool = False) -> pd.DataFrame:
        """A table as it stands. streamed: without what `spinney load` brought."""
        rows = delta.read_table(FleetStore.of(self.config), contract).to_pandas()
        return rows[~rows["topic"].str.startswith("load:")] if streamed else rows

    def predictions(self) -> list[bytes]:
        """Every record of the predictions topic, copies too."""
        consumer = Consumer({"bootstrap.servers": self.broker, "group.id": self.name, "log_level": 0})
        topic = f"{self.name}.predictions"
        try:
            partitions = [
                TopicPartition(topic, each, 0) for each in consumer.list_topics(topic).topics[topic].partitions
            ]
            ends = {each.partition: consumer.get_watermark_offsets(each)[1] for each in partitions}
            consumer.assign(partitions)
            left, found = sum(ends.values()), []
            while left:
                messages = consumer.consume(left, timeout=SECONDS_TO_SEND)
                assert messages, f"{left} records of {topic} did not come"
                found += [message.value() for message in messages]
                left -= len(messages)
        finally:
            consumer.close()
        return found

    def versions(self) -> dict[str, int]:
        """Every directory's Delta version."""
        config = self.config
        return {each.name: delta.current_version(each) for each in FleetStore.of(config).every_directory()}

    def copy(self, root_name: str) -> Shops:
        """The same topics and ledger with a copy of everything stored, as it is now."""
        shutil.copytree(self.root, self.folder / root_name)
        made = replace(self, root_name=root_name, folder=self.folder / f"of-{root_name}", ledger=list(self.ledger))
        shutil.move(self.folder / root_name, made.root)
        made.edits = self.edits
        return made

    def history(self, rows: Iterable[Mapping[str, Any]], name: str = "history") -> Path:
        """Rows with their labels as a Parquet file for `spinney load`."""
        file = self.folder / f"{name}.parquet"
        frame = pd.DataFrame(list(rows))
        frame["at"] = pd.to_datetime(frame["at"], utc=True).astype("datetime64[us, UTC]")
        frame.to_parquet(file)
        return file


def slope(region: str, shop: int) -> float:
    """Every shop has its own, so that an answer of another shop's model is seen."""
    return 10.0 * shop + (3.0 if region == "north" else 0.0)


def sale(event_id: str, region: str, shop: int, x: float, minutes: float) -> dict[str, Any]:
    """An event with its true label. minutes: after START."""
    return {
        "event_id": event_id,
        "at": START + timedelta(minutes=minutes),
        "region": region,
        "shop": shop,
        "x": x,
        "promo": False,
        "stock": 5,
        "sales": slope(region, shop) * x + shop,
    }


def outcome(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{name: row[name] for name in ("event_id", "region", "shop", "sales")},
        "observed_at": row["at"] + timedelta(hours=1),
    }


def text(row: Mapping[str, Any]) -> bytes:
    """The message of an event (without its label, which comes late) or of an outcome."""
    fields = {name: row[name] for name in row if name in EVENTS_FIELDS or "observed_at" in row}
    return json.dumps(fields, default=iso, ensure_ascii=False).encode()


def iso(value: datetime) -> str:
    return value.isoformat().replace("+00:00", "Z")


def group_key(row: Mapping[str, Any]) -> str:
    return json.dumps([str(row["region"]), str(row["shop"])], separators=(",", ":"), ensure_ascii=False)
