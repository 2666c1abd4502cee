"""The gate over a round's models: rows of `models` in, rows of `promotions` out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from schemas import tables
from schemas.vocabulary import Decision, ModelStatus
from spinney.core.config import Gate
from spinney.core.gate import decide
from spinney.stores.models import CARRIED_BYTES

_OF_THE_ROUND = ("round_id", "decided_at", "clock", "by", "batch_id")
COLUMNS = tuple(name for name in tables.PROMOTIONS.names if name not in _OF_THE_ROUND)


def gated(asked: DataFrame, models: DataFrame, gate: Gate) -> DataFrame:
    """Columns COLUMNS, one row per group that was fitted or kept.

    asked: the plan's groups (shard, group_key, model_id of the champion, epoch, pinned); models: what the round stored.
    A group of the plan without any row in `models` was kept: its rows and recipe are its champion's own.
    """
    plan = asked.withColumnRenamed("model_id", "incumbent_id")
    ddl = ", ".join(tables.PROMOTIONS.column(name).ddl.removesuffix(" NOT NULL") for name in COLUMNS)
    fitted = models.filter(F.col("status") == ModelStatus.FITTED.value).join(
        F.broadcast(plan.select("group_key", "epoch", "pinned")), "group_key"
    )
    decided = fitted.mapInPandas(_decider(gate), ddl)
    kept = plan.join(models.select("group_key"), "group_key", "left_anti").select(
        "shard",
        "group_key",
        F.coalesce("epoch", F.lit(0)).alias("epoch"),
        F.col("incumbent_id").alias("model_id"),
        F.lit(Decision.KEPT.value).alias("decision"),
        F.lit("the training rows and the recipe are the champion's own").alias("reason"),
    )
    return decided.unionByName(kept, allowMissingColumns=True)


def _decider(gate: Gate) -> Callable[[Iterable[pd.DataFrame]], Iterator[pd.DataFrame]]:
    def decide_all(frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for frame in frames:
            if len(frame):
                yield pd.DataFrame([_row(row, gate) for row in frame.to_dict("records")], columns=list(COLUMNS))

    return decide_all


def _row(model: dict[Any, Any], gate: Gate) -> dict[str, Any]:
    metrics = json.loads(model["metrics"] or "{}")
    decision, reason = decide(metrics, gate)
    if model["pinned"]:
        decision, reason = Decision.HELD, f"pinned by a person; without the pin: {decision.value}, {reason}"
    small = model["payload"] is not None and len(model["payload"]) <= CARRIED_BYTES
    return {
        **{
            name: model[name]
            for name in ("shard", "group_key", "model_id", "trained_through", "fitted_at", "rows", "fit_ms")
        },
        "epoch": int(model["epoch"] or 0),
        "decision": decision.value,
        "reason": reason,
        "challenger_loss": metrics.get("challenger_loss"),
        "champion_loss": metrics.get("champion_loss"),
        "rows_compared": metrics.get("heldout_rows"),
        "codec": model["codec"] if small else None,
        "payload": model["payload"] if small else None,
        "signature": model["signature"] if small else None,
    }
