from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from mlflow_server import serving
from new_tables import create_tables

from schemas import tables
from schemas.contract import Contract
from spinney.core import keys
from spinney.core.config import Config, parse
from spinney.core.models.signing import Signer
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.arrow_schemas import arrow_schema

START = datetime(2024, 5, 1, tzinfo=UTC)
TEXT = """\
[fleet]
name = "shops"
group = ["shop", "dept"]
parents = [["dept"], []]
event_id = "sale"
event_time = "at"
target = "sold"
features = ["price", "stock"]
label_delay = "1h"
shards = 4
[fleet.columns]
shop = "string"
dept = "int"
price = "double"
stock = "int"
sold = "double"
[recipe]
min_rows = 8
window_rows = 30
window = "10d"
[recipe.parents]
max_rows = 40
[gate]
evidence = 3
[kafka]
events = "sales"
outcomes = "sold"
[storage]
root = "{root}"
"""


@dataclass
class World:
    """A fleet of shops in tables of its own, written to behind everyone's back."""

    config: Config
    signer: Signer = field(default_factory=lambda: Signer(b"k" * 32))

    def put(self, base: Contract, rows: Iterable[Mapping[str, Any]], part: str = "") -> None:
        """Append rows; columns not named are null."""
        place = FleetStore.of(self.config).directory(base, part)
        schema = arrow_schema(place.contract)
        whole = [{name: row.get(name) for name in schema.names} for row in rows]
        write_deltalake(place.uri, pa.Table.from_pylist(whole, schema=schema), mode="append")

    def rows(self, base: Contract) -> list[dict[str, Any]]:
        return delta.read_table(FleetStore.of(self.config), base).to_pylist()

    def event(self, shop: str, dept: int, event_id: str, at: datetime, **values: Any) -> dict[str, Any]:
        key = keys.encode([shop, dept])
        row = {"shard": keys.shard_of(key, 4), "group_key": key, "event_id": event_id, "event_time": at}
        row |= {"shop": shop, "dept": dept, "ingested_on": START.date(), "ingested_at": START, "batch_id": 0}
        return row | {"topic": "sales", "kafka_partition": 0, "kafka_offset": 0, **values}

    def outcome(self, event: Mapping[str, Any], label: float, observed_at: datetime) -> dict[str, Any]:
        mine = {name: event[name] for name in ("shard", "group_key", "event_id", "topic", "kafka_partition")}
        return {**mine, "kafka_offset": 1, "label": label, "observed_at": observed_at, "batch_id": 0}

    def sell(self, shop: str, dept: int, count: int, *, since: datetime = START, slope: float = 3.0) -> None:
        """An event an hour and its label two hours later: slope x price - stock, with some noise."""
        random = np.random.default_rng([dept, count, *shop.encode()])
        events, outcomes = [], []
        for n in range(count):
            at, price, stock = since + timedelta(hours=n), float(random.normal()), int(random.integers(0, 5))
            row = self.event(shop, dept, f"{shop}{dept}-{since:%d}-{n:03}", at, price=price, stock=stock)
            events.append(row)
            label = slope * price - stock + 0.1 * float(random.normal())
            outcomes.append(self.outcome(row, label, at + timedelta(hours=2)))
        self.put(tables.EVENTS, events)
        self.put(tables.OUTCOMES, outcomes)


@pytest.fixture
def configured(tmp_path: Path) -> Callable[..., Config]:
    def configure(*changes: tuple[str, str]) -> Config:
        text = TEXT.format(root=tmp_path / "root")
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        return parse(text, "fleet.toml", {})

    return configure


@pytest.fixture
def world(configured) -> Callable[..., World]:
    """Makes the tables of a fleet; changes as for `configured`."""

    def make(*changes: tuple[str, str]) -> World:
        made = World(configured(*changes))
        create_tables(FleetStore.of(made.config))
        return made

    return make


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> Path:
    """MLflow takes seconds to make its tables: once for all tests."""
    from mlflow import MlflowClient

    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture(scope="session")
def _server(tmp_path_factory, empty_store):
    folder = tmp_path_factory.mktemp("served")
    shutil.copy(empty_store, folder / "mlflow.db")
    with serving(folder) as found:
        yield found


@pytest.fixture
def server(_server):
    """The address of MLflow's server, and the layer before it."""
    import mlflow

    _server[1].reset()
    yield _server
    _server[1].reset()
    mlflow.set_registry_uri("")  # the server sets its own for the whole process, and for those that it starts
    os.environ.pop("MLFLOW_REGISTRY_URI", None)
