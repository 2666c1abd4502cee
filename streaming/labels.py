"""The query `labels`: late outcomes joined with predictions, in either order of arrival → health/labels."""

from __future__ import annotations

from datetime import timedelta

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas import tables
from schemas.vocabulary import QueryName
from spinney.core.config import Config
from spinney.storage.layout import FleetStore
from spinney.tables.delta import DirectoryWriter
from streaming.delta_source import read_appended
from streaming.health import sum_late_labels
from streaming.query import Query

NAME = QueryName.LABELS.value
STEP = "health"


def interval(duration: timedelta) -> str:
    """Return a duration in Spark's syntax, in milliseconds."""
    return f"{duration // timedelta(milliseconds=1)} milliseconds"


def query(spark: SparkSession, config: Config) -> Query:
    """Return the query `labels`, in append mode.

    In: rows appended to `predictions` and `outcomes`. Out: the columns of `predictions` with `label`, and batch_at, the
    timestamp of the batch; `LabelsBatchWriter` stores their sums in health/labels. State: predictions and outcomes of
    the last `kafka.label_horizon` that wait for each other, and the ids of outcomes.
    """
    store = FleetStore.of(config)
    plan = join_labels(
        read_appended(spark, store.directory(tables.PREDICTIONS)),
        read_appended(spark, store.directory(tables.OUTCOMES)),
        answer_type=store.answer_type,
        horizon=interval(config.kafka.label_horizon),
    )
    return Query(NAME, plan, lambda checkpoint: LabelsBatchWriter(store, checkpoint), trigger="2 seconds")


def join_labels(predictions: DataFrame, outcomes: DataFrame, *, answer_type: str, horizon: str) -> DataFrame:
    """Return each prediction with its outcome if they arrived within a horizon of each other.

    predictions, outcomes: streams of the tables. answer_type: Spark SQL type of the labels. horizon: interval as Spark
    SQL, such as `5 minutes`. The watermarks follow arrival, so that neither side is too late
    because the other one moved its watermark. The first outcome of an id counts: ids are remembered for twice the
    horizon, the longest time between the first outcome that a prediction can match and the last.
    """
    left = (
        predictions.drop("label")
        .withColumn("predicted_at", F.current_timestamp())
        .withWatermark("predicted_at", horizon)
        .alias("p")
    )
    right = (
        outcomes.select("group_key", "event_id", F.col("label").cast(answer_type).alias("label"))
        .withColumn("seen_at", F.current_timestamp())
        .withWatermark("seen_at", horizon)
        .dropDuplicatesWithinWatermark(["group_key", "event_id"])
        .alias("o")
    )
    condition = f"""p.group_key = o.group_key AND p.event_id = o.event_id
        AND o.seen_at BETWEEN p.predicted_at - INTERVAL {horizon} AND p.predicted_at + INTERVAL {horizon}"""
    joined = left.join(right, F.expr(condition), "inner").withColumn("batch_at", F.current_timestamp())
    return joined.select("p.*", "o.label", "batch_at")


class LabelsBatchWriter:
    """Appends the sums of each batch to health/labels, by `streaming.health.sum_late_labels`."""

    def __init__(self, store: FleetStore, checkpoint: str) -> None:
        self._fleet = store.fleet
        self._writer = DirectoryWriter(store.directory(tables.HEALTH, "labels"), NAME, checkpoint)

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        """Write a batch, except what an earlier attempt at it has stored."""
        # Computed even if it is already stored: the state of the join must advance.
        rows = sum_late_labels(batch, self._fleet, "batch_at", batch_id).toArrow()
        if rows.num_rows:
            self._writer.append(rows, step=STEP, batch_id=batch_id)
