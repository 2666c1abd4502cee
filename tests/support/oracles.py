"""Fleets of shops whose models the project fits, and beside each model the one that scikit-learn fits to its rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from handwritten_history import Past, hour
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from schemas import tables
from spinney.core import keys
from spinney.core.champions.shard_champions import Champions
from spinney.core.config import parse
from spinney.core.recipes.recipe import Recipe
from spinney.core.training.fitting import fit_groups
from spinney.fleet import Fleet
from streaming import scorer

TEXT = """\
[fleet]
name = "shops"
group = ["shop", "dept"]
parents = [["dept"]]
event_id = "sale"
event_time = "at"
target = "sold"
features = ["price", "stock"]
shards = 2
{task}
[fleet.columns]
shop = "string"
dept = "int"
price = "double"
stock = "int"
sold = "{target}"
[recipe]
estimator = "{estimator}"
min_rows = 20
[kafka]
events = "sales"
[storage]
root = "{root}"
"""
A, B, C, D, DEPT = '["a","1"]', '["b","1"]', '["c","1"]', '["d","2"]', '{"dept":"1"}'
FEATURES = ["price", "stock"]


@dataclass
class Shops:
    """A fleet whose models the project fits, and beside each the one that scikit-learn fits to the same rows."""

    past: Past
    text: str
    classes: bool = False
    oracles: dict[str, Any] = field(default_factory=dict)

    @property
    def fleet(self) -> Fleet:
        return Fleet(self.past.config)

    def round(self, at: int, *group_keys: str, flipped: bool = False) -> dict[str, str]:
        """Fit these groups and promote them; the models' names. flipped: one byte of what was stored is another."""
        names = {}
        for key in group_keys:
            rows = self._history(key, at)
            found = fit_groups(
                rows, pd.DataFrame({"group_key": [key]}), Recipe.of(self.past.config), hour(at), self.past.signer
            )
            (row,) = found.to_dict("records")
            assert row["status"] == "fitted", row["error"]
            payload = row["payload"][:-1] + bytes([row["payload"][-1] ^ flipped])
            made = {name: row[name] for name in ("group_key", "model_id", "recipe_id", "codec", "signature")} | {
                "payload": payload,
                "heldout_losses": row["heldout_losses"],
            }
            expected = {
                "shard": 0, "round_id": f"stream-{at}", "trained_through": hour(at), "fitted_at": hour(at),
                "clock": hour(at), "epoch": 0, "decision": "promoted", "decided_at": hour(at), "by": "stream",
            }  # fmt: skip
            self.past.put(tables.MODELS, "stream", {**expected, **made, "status": "fitted"})
            self.past.put(tables.PROMOTIONS, "stream", {**expected, **made, "reason": "passed"})
            names[key] = row["model_id"]
            last = LogisticRegression(max_iter=1000) if self.classes else Ridge()
            oracle = make_pipeline(SimpleImputer(), StandardScaler(), last)
            self.oracles[row["model_id"]] = oracle.fit(rows[FEATURES].to_numpy(dtype=float), rows["label"])
        self.past.put(tables.ROUNDS, "stream", {"round_id": f"stream-{at}", "kind": "stream", "started_at": hour(at)})
        return names

    def _history(self, key: str, seed: int) -> pd.DataFrame:
        random = np.random.default_rng([seed, len(key), ord(key[2])])
        rows = pd.DataFrame({"price": random.normal(10, 3, 60), "stock": random.integers(0, 50, 60)})
        slopes = random.normal(size=2)
        label = rows[FEATURES].to_numpy() @ slopes + random.normal(size=60)
        rows["label"] = np.where(label > np.median(label), "high", "low") if self.classes else label
        rows["event_time"] = pd.Series([hour(seed) - timedelta(hours=1)] * 60).astype("datetime64[us, UTC]")
        return rows.assign(group_key=key, event_id=[f"e{n}" for n in range(60)])

    def expected(self, row: pd.Series, model_id: str) -> float:
        return self.oracles[model_id].predict([[row["price"], row["stock"]]])[0]


def made(root: Path, *, classes: bool = False, more: str = "") -> Shops:
    """more: sections of its configuration besides."""
    task, target, estimator = (
        ('task = "classification"', "string", "logistic_regression") if classes else ("", "double", "ridge")
    )
    text = TEXT.format(root=root, task=task, target=target, estimator=estimator) + more
    return Shops(Past(parse(text, "fleet.toml", {})), text, classes)


def mixed(seed: int = 3, rows: int = 40) -> pd.DataFrame:
    """Rows of A, B, C and D in no order, under an index that says everything twice."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({"dept": [1, 1, 1, 2] * (rows // 4), "shop": list("abcd") * (rows // 4)})
    frame["stock"], frame["price"] = random.integers(0, 50, rows), random.normal(10, 3, rows)
    frame["remark"] = "as it came"
    frame.index = pd.Index([n // 2 for n in range(rows)], name="line")
    return frame.iloc[random.permutation(rows)]


def stream_answers(shops: Shops, events: pd.DataFrame) -> pd.DataFrame:
    """What a worker of the stream answers to these events, shard by shard, in their order."""
    config, champions = shops.past.config, shops.fleet.champions().promotions
    shards = {key: keys.shard_of(key, config.fleet.shards) for key in {*champions, *events["group_key"]}}
    answered = [
        scorer.answers(
            shard,
            events[events["group_key"].map(shards) == shard],
            Champions({key: rows for key, rows in champions.items() if keys.is_parent(key) or shards[key] == shard}),
            scorer.Scorer.of(config, shops.past.signer),
        )
        for shard in range(config.fleet.shards)
    ]
    return pd.concat(map(pd.DataFrame, answered)).sort_index()
