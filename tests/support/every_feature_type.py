"""A fleet with a feature of every type, as it answers from Python, and the same rows as a client writes them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from handwritten_history import START, Past, hour

from schemas import tables
from spinney.core.config import parse
from spinney.core.recipes.recipe import Recipe
from spinney.core.training.fitting import fit_groups
from spinney.fleet import Fleet

TEXT = """\
[fleet]
name = "doors"
group = ["store"]
parents = []
event_id = "id"
event_time = "at"
target = "sold"
features = ["at", "opened", "day", "tag", "visitors", "sunny", "x", "price"]
[fleet.columns]
store = "string"
opened = "timestamp(ms)"
day = "date"
tag = "string"
visitors = "bigint"
sunny = "boolean"
x = "double"
price = "decimal(8,2)"
sold = "double"
[recipe]
estimator = "ridge"
min_rows = 20
[kafka]
events = "doors"
[storage]
root = "{root}"
[tracking]
uri = "{uri}"
"""
GROUPS = ('["007"]', '["a"]')
AT, OPENED = datetime(2024, 5, 3, 10, 30, tzinfo=UTC), datetime(2024, 5, 3, 6, 0, 0, 250_000, tzinfo=UTC)
PLAIN: dict[str, Any] = {
    "store": "a", "at": AT, "opened": OPENED, "day": date(2024, 5, 3), "tag": "blue", "visitors": 2**53 + 1,
    "sunny": True, "x": 2.0, "price": Decimal("12.50"),
}  # fmt: skip
"""A row with values of Python's own types."""

WRITTEN: dict[str, Any] = {
    "store": "a", "at": "2024-05-03T10:30:00Z", "opened": 1_714_716_000_250, "day": "2024-05-03", "tag": "blue",
    "visitors": 2**53 + 1, "sunny": True, "x": 2, "price": 12.5,
}  # fmt: skip
"""The same row as a client may write it in JSON."""


class FittedFleet:
    """A fleet in a folder. Two groups have a model of their own, and no parent answers for others."""

    def __init__(self, folder: Path, uri: str = "sqlite:///mlflow.db") -> None:
        self.text = TEXT.format(root=folder / "root", uri=uri)
        self.past = Past(parse(self.text, "fleet.toml", {}))
        self.fleet = Fleet(self.past.config)
        asks = pd.DataFrame({"group_key": GROUPS})
        rows = pd.concat([_history(key, seed) for seed, key in enumerate(GROUPS)], ignore_index=True)
        for row in fit_groups(rows, asks, Recipe.of(self.past.config), hour(61), self.past.signer).to_dict("records"):
            assert row["status"] == "fitted", row["error"]
            made = {name: row[name] for name in ("group_key", "model_id", "recipe_id", "codec", "signature", "payload")}
            expected = {
                "round_id": "batch-0", "trained_through": hour(60), "fitted_at": hour(61), "clock": hour(61),
                "epoch": 0, "decision": "promoted", "decided_at": hour(61), "by": "batch",
            }  # fmt: skip
            self.past.put(tables.MODELS, "batch", {**expected, **made, "status": "fitted"})
            self.past.put(tables.PROMOTIONS, "batch", {**expected, **made})

    def answers(self, *rows: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What `Fleet.predict` answers to rows of Python's own types, as JSON has it: null for NaN."""
        frame = pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in rows[0]})
        found = self.fleet.predict(frame).to_dict("records")
        return [{name: None if pd.isna(value) else value for name, value in row.items()} for row in found]


def _history(key: str, seed: int) -> pd.DataFrame:
    """Sixty labelled rows; the label depends on every feature."""
    random, n = np.random.default_rng(seed), 60
    at = pd.Series([START + timedelta(hours=7 * hours) for hours in range(n)]).astype("datetime64[us, UTC]")
    rows = pd.DataFrame({"at": at, "event_time": at, "opened": at - pd.to_timedelta(random.integers(1, 900, n), "m")})
    rows["day"] = at.dt.date.to_numpy()
    rows["tag"] = random.choice(["blue", "red", "green"], n)
    rows["visitors"] = random.integers(0, 2**54, n)
    rows["sunny"] = random.random(n) < 0.5
    rows["x"] = random.normal(size=n)
    rows["price"] = [Decimal(int(cents)).scaleb(-2) for cents in random.integers(1, 3000, n)]
    rows["label"] = (
        rows["x"] + at.dt.hour / 3 + rows["opened"].dt.hour / 5 + at.dt.dayofweek + rows["tag"].map(len) * 2.0
        + rows["visitors"] / 2**50 + rows["sunny"] * 4.0 + rows["price"].astype(float)
    )  # fmt: skip
    return rows.assign(group_key=key, event_id=[f"{key}{number}" for number in range(n)])
