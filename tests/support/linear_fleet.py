"""A fleet of linear models, each with a law of its own, signed and promoted without a fit: 50,000 in some seconds.

Group number n is ``["s<n>","d<n % 10>"]``; its parent is the department. What a model must answer is plain arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake
from new_tables import create_tables

from schemas import tables
from spinney.core import keys
from spinney.core.config import Config, parse
from spinney.core.features.encoding import Encoder
from spinney.core.models import codec
from spinney.core.models.linear import Linear, Link
from spinney.core.models.model import Model
from spinney.core.models.signing import Claim
from spinney.core.recipes.recipe import Feature
from spinney.storage import charter, signing_key
from spinney.storage.layout import FleetStore
from spinney.tables.arrow_schemas import arrow_schema

FEATURES = ("x0", "x1", "x2", "x3")
DEPARTMENTS = 10
START = datetime(2024, 5, 1, tzinfo=UTC)
TEXT = """\
[fleet]
name = "lines"
group = ["shop", "dept"]
parents = [["dept"]]
event_id = "id"
event_time = "at"
target = "sold"
features = ["x0", "x1", "x2", "x3"]
[fleet.columns]
shop = "string"
dept = "string"
x0 = "double"
x1 = "double"
x2 = "double"
x3 = "double"
sold = "double"
[kafka]
events = "sales"
[storage]
root = "{root}"
[tracking]
mode = "off"
"""


@dataclass(frozen=True)
class LinearFleet:
    """coefficients: by group_key, an intercept and a weight for each feature."""

    config: Config
    coefficients: dict[str, np.ndarray]
    model_ids: dict[str, str]

    def expected(self, key: str, row: dict[str, Any]) -> float:
        intercept, *weights = self.coefficients[key].tolist()
        for weight, name in zip(weights, FEATURES, strict=True):
            intercept += weight * row[name]
        return intercept


def key_of(n: int) -> str:
    return keys.encode([f"s{n}", f"d{n % DEPARTMENTS}"])


def parent_of(n: int) -> str:
    return keys.parent_key(["dept"], [f"d{n % DEPARTMENTS}"])


def write_fleet(root: Path, groups: int, *, more: str = "", seed: int = 5) -> LinearFleet:
    """more: sections of its configuration besides."""
    text = TEXT.format(root=root / "root") + more
    root.mkdir(parents=True, exist_ok=True)
    (root / "fleet.toml").write_text(text, encoding="utf-8")
    config = parse(text, "fleet.toml", {})
    charter.ensure_charter(FleetStore.of(config))
    create_tables(FleetStore.of(config))
    signing_key.ensure_key(FleetStore.of(config))
    named = [key_of(n) for n in range(groups)] + [parent_of(n) for n in range(min(DEPARTMENTS, groups))]
    drawn = np.random.default_rng(seed).normal(size=(len(named), 1 + len(FEATURES)))
    coefficients = dict(zip(named, drawn, strict=True))
    return LinearFleet(config, coefficients, promote(config, coefficients, hour=1))


def promote(config: Config, coefficients: dict[str, np.ndarray], hour: int) -> dict[str, str]:
    """Store and promote a model for each key; returns the model_ids. A later hour has newer rows."""
    store = FleetStore.of(config)
    signer, encoder = signing_key.load_signer(store), Encoder(tuple(Feature(name, "double") for name in FEATURES))
    rows = []
    for key, (intercept, *weights) in coefficients.items():
        linear = Linear(Link.IDENTITY, np.array([intercept]), np.array([weights]), np.zeros(len(FEATURES)))
        kind, payload = codec.dump(Model(encoder, linear))
        name = f"{hour:04x}{keys.shard_of(key, 1 << 40):016x}"
        at = START.replace(day=1 + hour // 24, hour=hour % 24)
        rows.append(
            {
                "shard": keys.shard_of(key, config.fleet.shards), "group_key": key, "round_id": f"batch-{hour}",
                "epoch": 0, "model_id": name, "decision": "promoted", "trained_through": at, "fitted_at": at,
                "decided_at": at, "clock": at, "codec": kind, "payload": payload,
                "signature": signer.sign(Claim(key, name, kind), payload), "batch_id": hour, "status": "fitted",
                "recipe_id": "by hand", "rows": 60, "by": "batch", "heldout_losses": np.abs(coefficients[key]).tolist(),
            }
        )  # fmt: skip
    for base in (tables.MODELS, tables.PROMOTIONS):
        schema = arrow_schema(base)
        whole = [{name: row.get(name) for name in schema.names} for row in rows]
        write_deltalake(store.directory(base, "batch").uri, pa.Table.from_pylist(whole, schema=schema), mode="append")
    return {row["group_key"]: row["model_id"] for row in rows}
