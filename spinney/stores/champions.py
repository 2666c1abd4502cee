"""Who answers: the fleet's champions, from its promotions."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas import tables
from spinney.core.champion import Promotion, champion, is_pinned
from spinney.core.config import Config
from spinney.stores import delta

CHAMPION_DDL = "shard int, group_key string, model_id string, epoch bigint, pinned boolean, fit_ms double"


def current(spark: SparkSession, config: Config, pins: Mapping[str, int] | None = None) -> DataFrame:
    """One row per group that any promotion names: CHAMPION_DDL; model_id null where no model may answer.

    fit_ms: of its last fit that was decided about; null if none was.
    """
    rows = delta.union(spark, config, tables.PROMOTIONS, pins).select(
        "shard",
        "group_key",
        "epoch",
        "model_id",
        "decision",
        "round_id",
        "fit_ms",
        *(F.expr(f"unix_micros({name})").alias(name) for name in ("trained_through", "fitted_at", "decided_at")),
    )
    return rows.groupBy("shard").applyInPandas(_champions_of_shard, CHAMPION_DDL)


def _champions_of_shard(rows: pd.DataFrame) -> pd.DataFrame:
    found = []
    for group_key, mine in rows.groupby("group_key", sort=True):
        history = [Promotion.of_row(row) for row in mine.to_dict("records")]
        current = champion(history)
        costs = mine.dropna(subset="fit_ms").sort_values("decided_at")["fit_ms"]
        found.append(
            {
                "shard": int(mine["shard"].iloc[0]),
                "group_key": group_key,
                "model_id": current.model_id if current else None,
                "epoch": max(row.epoch for row in history),
                "pinned": is_pinned(history),
                "fit_ms": float(costs.iloc[-1]) if len(costs) else None,
            }
        )
    return pd.DataFrame(found, columns=["shard", "group_key", "model_id", "epoch", "pinned", "fit_ms"])
