"""Health: what answers and labels add up to, as rows that can be added in any order."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from schemas import tables
from spinney.core.config import Config
from spinney.core.loss import loss_named
from spinney.stores.layout import contract

BUCKETS_A_DELAY = 4
"""Labels mature together by event time, in so many steps of `label_delay`."""


def deltas(answers: DataFrame, config: Config, at: str, batch_id: int, *, answered: bool) -> DataFrame:
    """Sums per (group, model, step of maturity), columns of `health`.

    answers: rows of predictions with `label`. at: the column with the batch's timestamp. answered: count the rows as
    answered too; false where they were counted when they were scored.
    """
    loss = F.expr(loss_named(config.fleet.loss).sql())
    # A label counts for its group whoever answered: that is how a new group earns its first model. Where the answer
    # has no loss, the label says nothing of the model that gave it.
    credited = F.expr("CASE WHEN label IS NULL OR loss IS NOT NULL THEN model_id END")
    counted = (
        answers.withColumn("loss", loss).withColumn("model_id", credited).withColumn("step", F.expr(_step(config)))
    )
    sums = counted.groupBy("shard", "group_key", "model_id", "step", at).agg(
        (F.count(F.lit(1)) if answered else F.lit(0)).cast("bigint").alias("rows"),
        F.count("label").alias("labelled"),
        F.coalesce(F.sum("loss"), F.lit(0.0)).alias("loss"),
        F.coalesce(F.sum(F.col("loss") * F.col("loss")), F.lit(0.0)).alias("squared_loss"),
        F.max("event_time").alias("last_event_time"),
    )
    return _complete(sums, config, at, batch_id)


def ticks(answers: DataFrame, config: Config, at: str, batch_id: int) -> DataFrame:
    """One row a shard with the greatest event time: the event clock runs for groups that are quiet, too."""
    newest = answers.groupBy(at).agg(F.max("event_time").alias("last_event_time"))
    shards = F.explode(F.sequence(F.lit(0), F.lit(config.fleet.shards - 1))).alias("shard")
    rows = newest.select("*", shards)
    return _complete(rows, config, at, batch_id)


def _step(config: Config) -> str:
    seconds = config.fleet.label_delay.total_seconds() / BUCKETS_A_DELAY
    return f"floor(unix_micros(event_time) / {int(seconds * 1e6)}L)" if seconds >= 1 else "0L"


def _complete(rows: DataFrame, config: Config, at: str, batch_id: int) -> DataFrame:
    filled = rows.withColumn("observed_on", F.to_date(at)).withColumn("batch_id", F.lit(batch_id).cast("bigint"))
    for column in contract(config, tables.HEALTH).columns:
        if column.name not in filled.columns:
            filled = filled.withColumn(column.name, F.lit(0 if column.type == "bigint" else None).cast(column.type))
    return filled.select(*contract(config, tables.HEALTH).names)
