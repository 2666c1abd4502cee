"""Kafka → events, outcomes, dead_letters. Everything per row happens in the JVM."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas import tables
from schemas.contract import Contract
from schemas.vocabulary import QueryName
from spinney.core.config import Config
from spinney.stores import delta
from spinney.stores.delta import Writer
from spinney.stores.layout import directory
from spinney.stores.validity import Editions
from streaming import source
from streaming.query import Query

NAME = QueryName.INGEST.value
STEPS: tuple[tuple[str, str, Contract], ...] = (
    ("events", source.EVENT, tables.EVENTS),
    ("outcomes", source.OUTCOME, tables.OUTCOMES),
    ("dead_letters", source.DEAD, tables.DEAD_LETTERS),
)
"""The writes of a batch, in order: step, the rows' kind, table."""


def query(spark: SparkSession, config: Config, editions: Editions) -> Query:
    rows = source.events(spark, config, editions)
    late = source.outcomes(spark, config, editions)
    if late is not None:
        rows = rows.unionByName(late, allowMissingColumns=True)
    # Only a dead letter's bytes are stored: those of valid rows would go through shuffle, cache and state for nothing.
    rows = rows.withColumns({name: F.when(F.col("kind") == source.DEAD, F.col(name)) for name in ("key", "value")})
    rows = rows.observe("arrivals", F.count(F.lit(1)).alias("records"), F.sum("unknown_fields").alias("unknown_fields"))
    return Query(NAME, source.distinct(rows, config), lambda checkpoint: Batches(config, checkpoint))


class Batches:
    """Writes each batch: the rows of a kind to their table. A step that is stored already is not written again."""

    def __init__(self, config: Config, checkpoint: str) -> None:
        self._writers = {
            step: Writer(config, directory(config, contract), NAME, checkpoint) for step, _, contract in STEPS
        }

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        batch = batch.persist()
        try:
            sizes = delta.sizes(batch, "kind")
            for step, kind, _ in STEPS:
                if kind in sizes:
                    rows = (
                        batch.filter(F.col("kind") == kind)
                        .withColumn("ingested_at", F.col("arrived_at"))
                        .withColumn("ingested_on", F.to_date("arrived_at"))
                        .withColumn("batch_id", F.lit(batch_id).cast("bigint"))
                    )
                    self._writers[step].append(rows, step=step, batch_id=batch_id, size=sizes[kind])
        finally:
            batch.unpersist()
