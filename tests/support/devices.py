"""A fleet of fifty thousand devices in fifty regions, written straight into the tables.

Every device has readings of three features and a linear law of its own; one device has almost a third of all readings.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from deltalake import write_deltalake
from new_tables import create_tables

from schemas import tables
from spinney.core import keys
from spinney.core.config import Config
from spinney.storage import charter, signing_key
from spinney.storage.layout import FleetStore
from spinney.tables.arrow_schemas import arrow_schema

DEVICES, REGIONS, READINGS = 50_000, 50, 20
START = datetime(2026, 1, 1, tzinfo=UTC)
FEATURES = ("load", "heat", "flow")
GIANT = keys.encode(["r0", "d0"])
GIANT_READINGS = DEVICES * READINGS * 3 // 7
"""With these the giant has 30 % of all readings."""

TEXT = """\
[fleet]
name = "devices"
group = ["region", "device"]
parents = [["region"]]
event_id = "reading"
event_time = "at"
target = "wear"
features = ["load", "heat", "flow"]
label_delay = "1h"
clock = "event"
shards = 64
[fleet.columns]
region = "string"
device = "string"
load = "double"
heat = "double"
flow = "double"
wear = "double"
[recipe]
estimator = "ridge"
min_rows = 10
window = "3650d"
window_rows = 500
[recipe.parents]
max_rows = 300
[gate]
evidence = 3
[staleness]
max_age = "3650d"
new_rows = 5
[budget]
max_groups = 800
[kafka]
events = "readings"
[storage]
root = "{root}"
[tracking]
mode = "off"
"""


@dataclass
class Devices:
    """The fleet, and all its readings as a Polars frame."""

    config: Config
    readings: pl.DataFrame = field(default_factory=pl.DataFrame)

    def __post_init__(self) -> None:
        create_tables(FleetStore.of(self.config))
        charter.ensure_charter(FleetStore.of(self.config))
        signing_key.ensure_key(FleetStore.of(self.config))
        self.signer = signing_key.load_signer(FleetStore.of(self.config))
        named = [(f"r{at % REGIONS}", f"d{at}") for at in range(DEVICES)]
        self.keys = [keys.encode(each) for each in named]
        self.shards = np.array([keys.shard_of(key, self.config.fleet.shards) for key in self.keys], dtype=np.int32)
        self.regions, self.devices = (np.array(each) for each in zip(*named, strict=True))
        self.weights = np.random.default_rng(7).normal(size=(DEVICES, len(FEATURES)))

    def read(self, count: int, since: int, more_of_giant: int = 0) -> None:
        """Store `count` more readings of every device from hour `since` on, in two files, in no order."""
        random = np.random.default_rng([since, count])
        device = np.repeat(np.arange(DEVICES), count)
        hour = np.tile(np.arange(since, since + count), DEVICES).astype(np.float64)
        if more_of_giant:
            device = np.concatenate([np.zeros(more_of_giant, dtype=np.int64), device])
            hour = np.concatenate([np.linspace(since, since + count - 1, more_of_giant), hour])
        features = random.normal(size=(len(device), len(FEATURES))) + device[:, None] % 5
        wear = (features * self.weights[device]).sum(1) + 0.1 * random.normal(size=len(device)) + device % 7
        micros = int(START.timestamp() * 1e6) + (hour * 3600e6).astype(np.int64)
        order = random.permutation(len(device))
        readings = pl.DataFrame(
            {
                "device_number": device[order],
                "reading": [f"{since}-{at}" for at in range(len(device))],
                "at": micros[order],
                **{name: features[order, column] for column, name in enumerate(FEATURES)},
                "wear": wear[order],
            }
        )
        half = len(readings) // 2
        for part in (readings[:half], readings[half:]):
            self._store(part, batch_id=since)
        self.readings = pl.concat([self.readings, readings]) if len(self.readings) else readings

    def _store(self, readings: pl.DataFrame, batch_id: int) -> None:
        place = FleetStore.of(self.config).directory(tables.EVENTS)
        schema, rows = arrow_schema(place.contract), len(readings)
        device = readings["device_number"].to_numpy()
        columns: dict[str, Any] = {
            "shard": self.shards[device],
            "group_key": np.array(self.keys)[device],
            "event_id": readings["reading"].to_arrow(),
            "event_time": pa.array(readings["at"].to_numpy(), pa.timestamp("us", "UTC")),
            "region": self.regions[device],
            "device": self.devices[device],
            "topic": pa.repeat("readings", rows),
            "kafka_partition": np.zeros(rows, dtype=np.int32),
            "kafka_offset": np.arange(rows),
            "ingested_at": pa.repeat(pa.scalar(START, pa.timestamp("us", "UTC")), rows),
            "ingested_on": pa.repeat(pa.scalar(date(2026, 1, 1)), rows),
            "batch_id": np.full(rows, batch_id, dtype=np.int64),
            **{name: readings[name].to_numpy() for name in (*FEATURES, "wear")},
        }
        table = pa.table([pa.array(columns[each.name]).cast(each.type) for each in schema], schema=schema)
        write_deltalake(place.uri, table, mode="append")

    def answered(self, models: dict[str, str], labelled: int, hour: int) -> None:
        """Health as `score` writes it: so many labelled rows of every device, answered by these models."""
        place = FleetStore.of(self.config).directory(tables.HEALTH, "score")
        schema = arrow_schema(place.contract)
        newest = START + timedelta(hours=hour)
        of_device = {
            "shard": self.shards,
            "group_key": self.keys,
            "model_id": [models.get(key) for key in self.keys],
            "last_event_time": [newest - timedelta(hours=2)] * DEVICES,
            "rows": [labelled] * DEVICES,
            "labelled": [labelled] * DEVICES,
            "loss": [0.1 * labelled] * DEVICES,
        }
        ticks = {
            "shard": np.arange(self.config.fleet.shards, dtype=np.int32),
            "last_event_time": [newest] * self.config.fleet.shards,
        }
        for columns in (of_device, ticks):
            rows = len(columns["shard"])
            whole = {
                "squared_loss": [0.0] * rows, "observed_on": [date(2026, 1, 1)] * rows, "batch_id": [hour] * rows,
                **({"rows": [0] * rows, "labelled": [0] * rows, "loss": [0.0] * rows} | columns),
            }  # fmt: skip
            found = [
                pa.array(whole[each.name]).cast(each.type) if each.name in whole else pa.nulls(rows, each.type)
                for each in schema
            ]
            write_deltalake(place.uri, pa.table(found, schema=schema), mode="append")


def until(readings: pl.DataFrame, hour: int) -> pl.DataFrame:
    """The readings up to this hour, with it."""
    return readings.filter(pl.col("at") <= int(START.timestamp() * 1e6) + hour * 3_600_000_000)


def ridge_by_polars(readings: pl.DataFrame, newest: int) -> pl.DataFrame:
    """What each device's model answers where every feature is 1.0, by sums about the mean that Polars adds up.

    readings: of the rounds so far. newest: rows a device's model is fitted on at most. Independent of the code that is
    tested: standardise, alpha 1 on the standardised coefficients, as scikit-learn's StandardScaler and Ridge do.
    """
    names = [*FEATURES, "wear"]
    rows = readings.sort("device_number", "at", "reading").group_by("device_number", maintain_order=True).tail(newest)
    of_device = [((pl.col(name) - pl.col(name).mean()).over("device_number")).alias(f"{name} apart") for name in names]
    apart = rows.with_columns(of_device)
    products = [
        (pl.col(f"{left} apart") * pl.col(f"{right} apart")).sum().alias(f"{left} {right}")
        for left in FEATURES
        for right in names
    ]
    means = [pl.col(name).mean().alias(f"mean {name}") for name in names]
    sums = apart.group_by("device_number").agg(pl.len().alias("rows"), *means, *products).sort("device_number")
    count, width = sums["rows"].to_numpy().astype(float), len(FEATURES)
    xx = np.stack([sums[f"{a} {b}"].to_numpy() for a in FEATURES for b in FEATURES], axis=1).reshape(-1, width, width)
    xy = np.stack([sums[f"{name} wear"].to_numpy() for name in FEATURES], axis=1)
    scale = np.sqrt(np.diagonal(xx, axis1=1, axis2=2) / count[:, None])
    standard = xx / scale[:, :, None] / scale[:, None, :] + np.eye(width)
    beta = np.linalg.solve(standard, (xy / scale)[..., None])[..., 0] / scale
    mean = np.stack([sums[f"mean {name}"].to_numpy() for name in FEATURES], axis=1)
    answer = sums["mean wear"].to_numpy() + ((1.0 - mean) * beta).sum(axis=1)
    return sums.select("device_number", "rows").with_columns(pl.Series("answer", answer))
