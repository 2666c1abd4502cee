"""A fleet of stores whose recipe is edited, in tables of its own: without Spark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake
from new_tables import create_tables

from schemas import tables
from spinney.core import keys
from spinney.core.champions.champion_selection import select_champion
from spinney.core.champions.promotion import Promotion
from spinney.core.config import Config, parse
from spinney.storage import signing_key
from spinney.storage.layout import FleetStore
from spinney.tables import delta, recipe_store
from spinney.tables.arrow_schemas import arrow_schema

NOW = datetime(2024, 5, 1, tzinfo=UTC)
TEXT = """\
[fleet]
name = "stores"
group = ["store"]
parents = []
event_id = "id"
event_time = "at"
target = "sold"
features = {features}
[fleet.columns]
store = "string"
x = "double"
z = "double"
sold = "double"
[recipe]
estimator = "{estimator}"
min_rows = 5
{recipe}
[kafka]
events = "t.events"
[storage]
root = "{root}"
[tracking]
mode = "off"
"""

Edit = Callable[..., Config]


def no_spark() -> Any:
    """In place of what starts Spark."""
    raise AssertionError("Spark was started")


def editor(folder: Path) -> Edit:
    """What makes the fleet's configuration with another recipe."""

    def edit(estimator: str = "ridge", features: str = '["x"]', recipe: str = "") -> Config:
        text = TEXT.format(root=folder / "root", estimator=estimator, features=features, recipe=recipe)
        return parse(text, "fleet.toml", {})

    return edit


def sell(
    config: Config,
    stores: int | range,
    rows: int = 30,
    first: int = 0,
    *,
    labelled: bool = True,
    slope: float = 10.0,
) -> None:
    """Events of which x says the label, up to noise: of so many stores, or of these. slope: of the label over x."""
    create_tables(FleetStore.of(config))
    random = np.random.default_rng(3 + first)
    place = FleetStore.of(config).directory(tables.EVENTS)
    schema = arrow_schema(place.contract)
    reported = []
    for store in range(stores) if isinstance(stores, int) else stores:
        key = keys.encode([f"s{store:03}"])
        for at in range(first, first + rows):
            x = float(random.normal())
            reported.append(
                {
                    "shard": keys.shard_of(key, config.fleet.shards), "group_key": key, "event_id": f"e{at}",
                    "event_time": NOW + timedelta(hours=at), "store": f"s{store:03}", "x": x, "z": 0.0,
                    "sold": slope * x + float(random.normal()) if labelled else None, "topic": "t.events",
                    "kafka_partition": 0, "kafka_offset": at, "ingested_at": NOW, "ingested_on": NOW.date(),
                    "batch_id": 0,
                }
            )  # fmt: skip
    whole = [{name: row.get(name) for name in schema.names} for row in reported]
    write_deltalake(place.uri, pa.Table.from_pylist(whole, schema=schema), mode="append")


def decided(config: Config) -> list[dict[str, Any]]:
    """The decisions of the newest batch."""
    rows = delta.read_table(FleetStore.of(config), tables.PROMOTIONS).to_pylist()
    newest = max(row["batch_id"] for row in rows)
    return [row for row in rows if row["batch_id"] == newest]


def estimators(config: Config) -> Counter[str]:
    """How many groups each estimator answers in."""
    known = recipe_store.load_recipes(FleetStore.of(config), signing_key.load_signer(FleetStore.of(config)))
    of_model = {
        row["model_id"]: row["recipe_id"] for row in delta.read_table(FleetStore.of(config), tables.MODELS).to_pylist()
    }
    histories: dict[str, list[Promotion]] = {}
    for row in delta.read_table(FleetStore.of(config), tables.PROMOTIONS).to_pylist():
        histories.setdefault(row["group_key"], []).append(Promotion.from_row(row))
    answering = [select_champion(rows) for rows in histories.values()]
    return Counter(known[of_model[each.model_id]].estimator for each in answering if each)
