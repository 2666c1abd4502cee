"""Kafka records as validated, deduplicated rows: the same for every query that reads a topic."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spinney.core.column_names import internal_name
from spinney.core.config import Config, Kafka
from spinney.spark.session import cores_of, is_on_one_machine
from spinney.tables.row_writing import ARRIVED_AT, KIND
from streaming.clock import interval, watermark_delay
from streaming.validated_records import REASON, RECORD_COLUMNS, RECORD_TIME, Editions, validate_records

MAX_RECORDS_A_BATCH = 200_000
"""Per topic. A backlog is worked off in batches of seconds, so that a stop never waits long."""

EVENT, OUTCOME, DEAD = "event", "outcome", "dead"
_DISTINCT_IN, _DISTINCT_ID = internal_name("distinct_in"), internal_name("distinct_id")


def kafka_options(kafka: Kafka) -> dict[str, str]:
    """What Spark's Kafka source and sink need to reach the cluster: the client's own names behind ``kafka.``"""
    options = {f"kafka.{name}": value for name, value in kafka.options.items()}
    return {"kafka.bootstrap.servers": kafka.bootstrap_servers, **options}


def records(spark: SparkSession, config: Config, topic: str) -> DataFrame:
    """One topic from its start: RECORD_COLUMNS and ARRIVED_AT, the batch's timestamp."""
    raw = (
        spark.readStream.format("kafka")
        # A batch reads up to an offset that is already there, yet each task's first fetch waits out this long poll: at
        # the client's own 500 ms that was more than half of a small batch.
        .option("kafka.fetch.max.wait.ms", 50)
        .options(**kafka_options(config.kafka))
        # Records of an aborted transaction are none. What is read ends before the first open transaction.
        .option("kafka.isolation.level", "read_committed")
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .option("failOnDataLoss", "true")
        .option("maxOffsetsPerTrigger", MAX_RECORDS_A_BATCH)
        .load()
    )
    if is_on_one_machine(spark):
        # A task writes down the code of the validation before its first record, which takes longer than the records of
        # a second: no more tasks than there are cores. A cluster's are not all there when the query is made.
        raw = raw.coalesce(cores_of(spark))
    names = {"kafka_partition": "partition", "kafka_offset": "offset", "record_time": "timestamp"}
    columns = (F.col(names.get(name, name)).alias(name) for name in RECORD_COLUMNS)
    # Add the time here, in the lowest projection. Spark writes it into the code that it generates, so each batch has
    # new code, which the JVM interprets before it compiles it. In one projection with the typed columns that was a
    # third of its time.
    return raw.select(*columns, F.current_timestamp().alias(ARRIVED_AT))


def events(spark: SparkSession, config: Config, editions: Editions) -> DataFrame:
    """The validated events topic: see `validate_records`, with KIND EVENT or DEAD."""
    validated = validate_records(records(spark, config, config.kafka.events), config, outcomes=False, editions=editions)
    return validated.withColumn(KIND, F.when(F.col(REASON).isNull(), EVENT).otherwise(DEAD))


def outcomes(spark: SparkSession, config: Config, editions: Editions) -> DataFrame | None:
    """The outcomes topic, validated; None when labels are inside the events."""
    if config.kafka.outcomes is None:
        return None
    validated = validate_records(
        records(spark, config, config.kafka.outcomes), config, outcomes=True, editions=editions
    )
    return validated.withColumn(KIND, F.when(F.col(REASON).isNull(), OUTCOME).otherwise(DEAD))


def distinct(rows: DataFrame, config: Config) -> DataFrame:
    """Valid rows once per (KIND, group_key, event_id) for at least `kafka.duplicates_within`; dead ones all.

    The watermark follows ARRIVED_AT, not the producers' clocks: nothing that arrives is ever too late, and a replayed
    batch has the same timestamp and so the same duplicates.

    An id is forgotten after the second batch that begins later than that: where nothing comes, nothing is forgotten.
    Each query has batches of its own, so just past that time one may take what another drops.
    """
    dead = F.col(KIND) == DEAD
    # With its time: a topic that was deleted and made again has the same offsets for other records.
    position = F.concat_ws(":", "topic", "kafka_partition", "kafka_offset", F.unix_micros(RECORD_TIME))
    return (
        rows.withColumn(_DISTINCT_IN, F.when(dead, F.lit("")).otherwise(F.col("group_key")))
        .withColumn(_DISTINCT_ID, F.when(dead, position).otherwise(F.col("event_id")))
        .withWatermark(ARRIVED_AT, interval(watermark_delay(config.kafka)))
        .dropDuplicatesWithinWatermark([KIND, _DISTINCT_IN, _DISTINCT_ID])
        .drop(_DISTINCT_IN, _DISTINCT_ID)
    )
