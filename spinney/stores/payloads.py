"""What a round reads of `models`: its champions' payloads to compare with, and what it stored for the gate."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas import tables
from spinney.core.config import Config
from spinney.stores import delta, layout
from spinney.stores.fitter import ASK
from spinney.stores.models import CARRIED_BYTES

_ASK_DDL = ", ".join(f"{name} {type_}" for name, type_ in {"group_key": "string", **ASK}.items())
_COLUMNS = {
    "group_key": "group_key",
    "model_id": "champion_id",
    "codec": "champion_codec",
    "payload": "champion_payload",
    "signature": "champion_signature",
    "trained_through": "champion_trained_through",
}
_WITHOUT_PAYLOAD = (
    "shard",
    "group_key",
    "model_id",
    "status",
    "metrics",
    "trained_through",
    "fitted_at",
    "rows",
    "fit_ms",
)
_PAYLOAD = ("model_id", "codec", "payload", "signature")
MOST_HERE = 5_000
"""Champions that are looked up in this process."""


def asks(spark: SparkSession, config: Config, plan: pd.DataFrame, asked: DataFrame) -> DataFrame:
    """One row per group of the plan: group_key, and of its champion what `fitter.ASK` names.

    plan: gating.ASKED; asked: its keys as a Spark frame. A few small champions are read without a Spark job.
    """
    wanted = plan["champion_id"].dropna()
    if len(wanted) <= MOST_HERE:
        found = _small(config, plan)
        if len(found) == len(wanted):
            mine = plan[["group_key"]].merge(found, on="group_key", how="left")
            rows: DataFrame = spark.createDataFrame(
                mine[["group_key", *ASK]].astype(object).where(mine.notna(), None), _ASK_DDL
            )
            return rows
    models = delta.union(spark, config, tables.MODELS).join(
        F.broadcast(asked.select("group_key", F.col("champion_id").alias("model_id"))),
        ["group_key", "model_id"],
        "leftsemi",
    )
    # The newest row of a model has its latest signature: the key may have been another before.
    fields = F.struct(*(name for name in _COLUMNS if name not in ("group_key", "model_id")))
    newest = models.groupBy("group_key", "model_id").agg(F.max_by(fields, "fitted_at").alias("newest"))
    renamed = newest.select("group_key", "model_id", "newest.*").select(
        *(F.col(name).alias(ask) for name, ask in _COLUMNS.items())
    )
    return asked.select("group_key").join(renamed, "group_key", "left")


def _small(config: Config, plan: pd.DataFrame) -> pd.DataFrame:
    """The champions whose payloads are small, as asks."""
    with_champion = plan.dropna(subset=["champion_id"])
    where = (
        ds.field("group_key").isin(pa.array(with_champion["group_key"], pa.string()))
        & ds.field("model_id").isin(pa.array(with_champion["champion_id"], pa.string()))
        & (pc.binary_length(ds.field("payload")) <= CARRIED_BYTES)
    )
    parts = [_read(config, each, (*_COLUMNS, "fitted_at"), where) for each in layout.directories(config, tables.MODELS)]
    found: pd.DataFrame = pa.concat_tables(parts, promote_options="permissive").to_pandas().rename(columns=_COLUMNS)
    return found.sort_values("fitted_at").drop_duplicates(["group_key", "champion_id"], keep="last")


def with_small_payloads(config: Config, kind: str, batch_id: int, shards: tuple[int, int]) -> pa.Table:
    """What a round stored in `models`, as far as the gate looks at it; payloads only where promotions carry them.

    shards: the first and the last that are wanted.
    """
    directory = layout.directory(config, tables.MODELS, kind)
    within = (ds.field("shard") >= shards[0]) & (ds.field("shard") <= shards[1])
    mine = (ds.field("batch_id") == batch_id) & within
    rows = _read(config, directory, _WITHOUT_PAYLOAD, mine)
    carried = _read(config, directory, _PAYLOAD, mine & (pc.binary_length(ds.field("payload")) <= CARRIED_BYTES))
    return rows.join(carried, "model_id", join_type="left outer")


def _read(config: Config, directory: layout.Directory, columns: tuple[str, ...], where: ds.Expression) -> pa.Table:
    table = delta.opened(config, directory)
    assert table is not None, f"{directory.name} was made before any round"
    return delta.dataset(table).to_table(list(columns), filter=where)
