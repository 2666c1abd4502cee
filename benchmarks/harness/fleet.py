"""Synthetic fleets: a linear label model per group, rows generated in chunks, and champions with those weights.

The label of a row of group g is ``x · W[g] + g mod 7 + noise``, noise with standard deviation 0.5; features are
standard normal. One seed gives the same rows in any chunks of one size.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import write_deltalake

from schemas import tables
from spinney.core import keys
from spinney.core.config import Config
from spinney.core.features.encoding import Encoder
from spinney.core.models import codec
from spinney.core.models.linear import Linear, Link
from spinney.core.models.model import Model
from spinney.core.models.signing import Claim, Signer
from spinney.core.recipes.recipe import Feature, Recipe
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.arrow_schemas import arrow_schema

KEY = "a key only for benchmarks"
FEATURES = tuple(f"x{n}" for n in range(8))
START = datetime(2024, 1, 1, tzinfo=UTC)
NOISE = 0.5
ROWS_A_CHUNK = 500_000
GROUPS_A_SHARD = 800
CHAMPIONS_AT_ONCE = 50_000

TEXT = """\
[fleet]
name = "{name}"
group = ["gid"]
event_id = "id"
event_time = "t"
target = "y"
features = {features}
shards = {shards}
[fleet.columns]
gid = "string"
y = "double"
{columns}
[recipe]
estimator = "ridge"
min_rows = 20
window = "3650d"
[staleness]
max_age = "3650d"
new_rows = {new_rows}
error_rise = {{ patience = "36500d" }}
[kafka]
bootstrap_servers = "{servers}"
events = "{name}.events"
predictions = "{name}.predictions"
[storage]
root = "{root}"
[tracking]
uri = "sqlite:///{folder}/mlflow.db"
[spark]
{spark}
"""


def group_id(group: int) -> str:
    """Return the value of the key column."""
    return f"g{group}"


def group_key(group: int) -> str:
    """Return the encoded key of a group."""
    return keys.encode([group_id(group)])


@dataclass(frozen=True)
class LabelModel:
    """The linear function that generates the labels of each group."""

    groups: int
    seed: int = 1

    @cached_property
    def weights(self) -> np.ndarray[Any, Any]:
        """Weights, shape (groups, 8)."""
        return np.random.default_rng(self.seed).normal(size=(self.groups, len(FEATURES)))

    def labels(self, group: np.ndarray[Any, Any], x: np.ndarray[Any, Any], noise: np.ndarray[Any, Any]) -> Any:
        """Return labels, shape (n,). group: shape (n,). x: shape (n, 8). noise: shape (n,), standard normal."""
        return np.einsum("ij,ij->i", x, self.weights[group]) + group % 7 + noise * NOISE


@dataclass(frozen=True)
class Rows:
    """How many rows to generate.

    rows: of each group. largest_share: share of all rows that belongs to group 0. batch: 0 is the history, n the n-th
    week after it; batches share no ids or times.
    """

    rows: int
    batch: int = 0
    largest_share: float = 0.0

    def chunks(self, label_model: LabelModel) -> Iterator[pa.Table]:
        """Yield rows with the columns of the messages, groups in random order within a chunk."""
        others = (label_model.groups - 1) * self.rows
        of_largest = round(others * self.largest_share / (1 - self.largest_share)) if self.largest_share else self.rows
        total = others + of_largest
        random = np.random.default_rng([label_model.seed, self.batch])
        pieces = max(1, -(-total // ROWS_A_CHUNK))
        for piece in range(pieces):
            # Each chunk has its part of the largest group, as each hour of a stream would.
            large = np.arange(of_largest * piece // pieces, of_largest * (piece + 1) // pieces)
            small = np.arange(others * piece // pieces, others * (piece + 1) // pieces)
            group = np.concatenate([np.zeros(len(large), np.int64), 1 + small // self.rows])
            hour = np.concatenate([large * self.rows / of_largest, small % self.rows])
            ids = np.concatenate([large, of_largest + small])
            order = random.permutation(len(group))
            yield self._table(label_model, random, (group[order], hour[order], ids[order]))

    def _table(self, label_model: LabelModel, random: np.random.Generator, columns: tuple[Any, Any, Any]) -> pa.Table:
        group, hour, ids = columns
        x = random.normal(size=(len(group), len(FEATURES)))
        y = label_model.labels(group, x, random.normal(size=len(group)))
        first = np.datetime64(START.replace(tzinfo=None) + timedelta(days=7 * self.batch), "us")
        at = first + (hour * 3_600_000_000 + group % 3000 * 1_000_000).astype("timedelta64[us]")
        return pa.table(
            {
                "gid": _numbered("g", group),
                "id": _numbered(f"b{self.batch}-", ids),
                "t": pa.array(at, pa.timestamp("us", "UTC")),
                **{name: x[:, n] for n, name in enumerate(FEATURES)},
                "y": y,
            }
        )

    def write(self, label_model: LabelModel, folder: Path) -> int:
        """Write the rows as Parquet, a file per chunk. Returns the number of rows."""
        folder.mkdir(parents=True)
        count = 0
        for number, chunk in enumerate(self.chunks(label_model)):
            pq.write_table(chunk, folder / f"part-{number:04}.parquet")
            count += chunk.num_rows
        return count


def _numbered(prefix: str, numbers: Any) -> Any:
    return pc.binary_join_element_wise(prefix, pc.cast(pa.array(numbers), pa.string()), "")


@dataclass(frozen=True)
class Settings:
    """Of the fleet's configuration file.

    new_rows: after which a group is stale. spark: entries of ``[spark]``, as KEY=VALUE.
    """

    name: str
    groups: int
    servers: str = "127.0.0.1:9"
    new_rows: int = 1_000_000
    spark: tuple[str, ...] = ()

    def write(self, folder: Path) -> Path:
        """Write the configuration file into a folder and return its path."""
        pairs = [pair.partition("=") for pair in self.spark]
        text = TEXT.format(
            name=self.name,
            features=json.dumps(FEATURES),
            columns="\n".join(f'{name} = "double"' for name in FEATURES),
            shards=max(2, -(-self.groups // GROUPS_A_SHARD)),
            new_rows=self.new_rows,
            servers=self.servers,
            root=(folder / "root").as_posix(),
            folder=folder.as_posix(),
            spark="\n".join(f"{json.dumps(name)} = {json.dumps(value)}" for name, _, value in pairs),
        )
        file = folder / "fleet.toml"
        file.write_text(text, encoding="utf-8")
        return file


def write_champions(config: Config, label_model: LabelModel, error: float = 0.0) -> None:
    """Promote a linear champion for each group, as after a weekly batch.

    error: standard deviation of the difference between a champion's weights and the true ones. With 0 no challenger can
    be better, so the gate refuses some. The tables are made where they are missing. Faster than fitting: for benchmarks
    of what comes after.
    """
    delta.create_tables(FleetStore.of(config))
    signer, at = Signer(KEY.encode()), START + timedelta(days=60)
    encoder = Encoder(tuple(Feature(name, "double") for name in FEATURES))
    zeros, recipe = np.zeros(len(FEATURES)), Recipe.of(config).recipe_id
    weights = label_model.weights
    weights = weights + np.random.default_rng([label_model.seed, 1]).normal(scale=error, size=weights.shape)
    for first in range(0, label_model.groups, CHAMPIONS_AT_ONCE):
        rows = []
        for group in range(first, min(label_model.groups, first + CHAMPIONS_AT_ONCE)):
            linear = Linear(Link.IDENTITY, np.array([group % 7.0]), weights[group][None, :], zeros)
            name, payload = codec.dump(Model(encoder, linear))
            key, model_id = group_key(group), f"{group:064x}"
            signature = signer.sign(Claim(key, model_id, name), payload)
            rows.append(
                {
                    "shard": keys.shard_of(key, config.fleet.shards),
                    "group_key": key,
                    "round_id": "before",
                    "model_id": model_id,
                    "codec": name,
                    "payload": payload,
                    "signature": signature,
                }
            )
        _append_promotions_and_models(config, rows, at, recipe)


def _append_promotions_and_models(config: Config, rows: list[dict[str, Any]], at: datetime, recipe: str) -> None:
    common = {"fitted_at": at, "clock": at, "rows": 50, "fit_ms": 0.1, "batch_id": -1, "trained_through": at}
    decided = {"epoch": 0, "decision": "promoted", "decided_at": at, "by": "batch", "challenger_loss": 0.4}
    made = {"recipe_id": recipe, "status": "fitted", "generation": 1, "trained_from": START, "metrics": "{}"}
    for base, constants in ((tables.PROMOTIONS, common | decided), (tables.MODELS, common | made)):
        place = FleetStore.of(config).directory(base, "batch")
        schema = arrow_schema(place.contract)
        columns = {
            name: [row[name] for row in rows] if name in rows[0] else [constants.get(name)] * len(rows)
            for name in schema.names
        }
        write_deltalake(place.uri, pa.table(columns, schema=schema), mode="append")
