"""Rounds as the tables have them after real fits, without Spark."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from schemas import tables
from spinney.core import keys
from spinney.core.recipes.recipe import Recipe
from spinney.core.training.fitting import fit_groups

DAY = datetime(2024, 5, 1, 9, tzinfo=UTC)


def took_place(world: Any, kind: str, batch_id: int, at: datetime, groups: int = 5, **more: Any) -> dict[str, Any]:
    """A row of `rounds` alone."""
    row = {
        "round_id": f"{kind}-{batch_id}", "kind": kind, "groups_in": groups, "fitted": groups - 1, "failed": 1,
        "mean_champion_loss": None, "mean_challenger_loss": 0.5, "reasons": json.dumps({"new_rows": groups}),
        "seconds": json.dumps({"fit": 1.25}), "pins": json.dumps({"events": 7 + batch_id}), "started_at": at,
        "clock": at, "recipe_id": "r", "batch_id": batch_id, **more,
    }  # fmt: skip
    world.put(tables.ROUNDS, [row], kind)
    return row


def sales(shops: int, rows: int = 12, seed: int = 7) -> pd.DataFrame:
    """Rows to fit: sold = 3 price - stock, with some noise; each shop is a group."""
    random = np.random.default_rng(seed)
    n = shops * rows
    price, stock = random.normal(size=n), random.integers(0, 5, n)
    times = [DAY - timedelta(hours=rows - at % rows) for at in range(n)]
    return pd.DataFrame(
        {
            "group_key": np.repeat([keys.encode([f"s{at:04}", 1]) for at in range(shops)], rows),
            "event_id": [f"e{at}" for at in range(n)],
            "event_time": pd.to_datetime(times).astype("datetime64[us, UTC]"),
            "price": price,
            "stock": stock.astype(np.int32),
            "label": 3 * price - stock + 0.1 * random.normal(size=n),
        }
    )


def retrained(
    world: Any,
    kind: str,
    batch_id: int,
    rows: pd.DataFrame,
    at: datetime = DAY,
    errors: Mapping[str, str] = MappingProxyType({}),
) -> pd.DataFrame:
    """Fit every group of these rows and store the round: models, promotions, rounds. Returns the attempts.

    errors: group_key -> why its fit failed.
    """
    config, recipe = world.config, Recipe.of(world.config)
    asks = pd.DataFrame({"group_key": rows["group_key"].unique()})
    fitted = fit_groups(rows, asks, recipe, DAY, world.signer)
    of_round = {"round_id": f"{kind}-{batch_id}", "batch_id": batch_id, "clock": at}
    models: list[dict[Any, Any]] = []
    for each in fitted.astype(object).where(fitted.notna(), None).to_dict("records"):
        key = each["group_key"]
        model = each | {**of_round, "shard": keys.shard_of(key, config.fleet.shards), "fitted_at": at}
        if key in errors:
            model |= dict.fromkeys(("model_id", "codec", "payload", "signature"))
            model |= {"status": "failed", "error_class": "ValueError", "error": errors[key]}
        models.append(model)
    world.put(tables.MODELS, models, kind)
    carried = ("shard", "group_key", "model_id", "fitted_at", "trained_through", "rows", "fit_ms")
    promotions = [
        {name: model[name] for name in (*carried, "codec", "payload", "signature")}
        | {**of_round, "epoch": 0, "decision": "promoted", "reason": "better", "decided_at": at, "by": kind}
        for model in models
        if model["status"] == "fitted"
    ]
    world.put(tables.PROMOTIONS, promotions, kind)
    took_place(world, kind, batch_id, at, groups=len(models), recipe_id=recipe.recipe_id)
    return fitted
