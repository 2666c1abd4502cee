"""Late labels: outcomes joined with predictions, whichever comes first → health/labels."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas import tables
from schemas.vocabulary import QueryName
from spinney.core.config import Config
from spinney.storage.layout import FleetStore
from spinney.tables.delta import Writer
from streaming.clock import interval
from streaming.delta_source import appended
from streaming.health import deltas
from streaming.query import Query

NAME = QueryName.LABELS.value
STEP = "health"


def query(spark: SparkSession, config: Config) -> Query:
    store = FleetStore.of(config)
    plan = matched(
        appended(spark, store.directory(tables.PREDICTIONS)),
        appended(spark, store.directory(tables.OUTCOMES)),
        config,
    )
    return Query(NAME, plan, lambda checkpoint: Batches(config, checkpoint), trigger="2 seconds")


def matched(predictions: DataFrame, outcomes: DataFrame, config: Config) -> DataFrame:
    """Each prediction with its outcome, once both are there, if they came within `kafka.label_horizon` of each other.

    The horizon runs on arrival, so that neither side is ever too late for a watermark that the other one moved. Of a
    label that comes again the first counts: ids are remembered for twice the horizon, as long as a prediction may wait
    from before one to after the other.
    """
    horizon = interval(config.kafka.label_horizon)
    left = (
        predictions.drop("label")
        .withColumn("predicted_at", F.current_timestamp())
        .withWatermark("predicted_at", horizon)
        .alias("p")
    )
    right = (
        outcomes.select("group_key", "event_id", F.col("label").cast(FleetStore.of(config).answer_type).alias("label"))
        .withColumn("seen_at", F.current_timestamp())
        .withWatermark("seen_at", horizon)
        .dropDuplicatesWithinWatermark(["group_key", "event_id"])
        .alias("o")
    )
    met = f"""p.group_key = o.group_key AND p.event_id = o.event_id
        AND o.seen_at BETWEEN p.predicted_at - INTERVAL {horizon} AND p.predicted_at + INTERVAL {horizon}"""
    joined = left.join(right, F.expr(met), "inner").withColumn("batch_at", F.current_timestamp())
    return joined.select("p.*", "o.label", "batch_at")


class Batches:
    """Adds up what the labels say of each model, once a batch."""

    def __init__(self, config: Config, checkpoint: str) -> None:
        self._config = config
        self._writer = Writer(FleetStore.of(config).directory(tables.HEALTH, "labels"), NAME, checkpoint)

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        # Computed even if it is stored already: the state of the join must advance all the same.
        rows = deltas(batch, self._config, "batch_at", batch_id).toArrow()
        if rows.num_rows:
            self._writer.append(rows, step=STEP, batch_id=batch_id)
