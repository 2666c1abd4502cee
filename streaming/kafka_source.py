"""Streams of validated, distinct records of Kafka topics, the same for every query that reads a topic."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spinney.core.column_names import internal_name
from spinney.core.config import Kafka, RecordSchema
from spinney.spark.session import cores_of, is_local
from spinney.tables.row_writing import ARRIVED_AT, KIND
from streaming.validated_records import REASON, RECORD_COLUMNS, RECORD_TIME, Editions, validate_records
from streaming.watermarks import interval, watermark_delay

MAX_RECORDS_PER_BATCH = 200_000
"""Per topic: batches of a backlog take seconds, so that a stop never waits long."""

RECORDS_PER_POLL, BYTES_PER_FETCH = 20_000, 4 << 20

EVENT, OUTCOME, DEAD = "event", "outcome", "dead"
_DISTINCT_IN, _DISTINCT_ID = internal_name("distinct_in"), internal_name("distinct_id")


def kafka_options(kafka: Kafka) -> dict[str, str]:
    """Return options of Spark's Kafka source and sink: the client's own options with the prefix ``kafka.``"""
    options = {f"kafka.{name}": value for name, value in kafka.options.items()}
    return {"kafka.bootstrap.servers": kafka.bootstrap_servers, **options}


def read_records(spark: SparkSession, kafka: Kafka, topic: str) -> DataFrame:
    """Return a stream of a topic from its start: RECORD_COLUMNS and ARRIVED_AT, the timestamp of the batch."""
    raw = (
        spark.readStream.format("kafka")
        # A batch reads up to an offset that is already there, yet each task's first fetch waits out this long poll: at
        # the client's own 500 ms that was more than half of a small batch.
        .option("kafka.fetch.max.wait.ms", 50)
        # After each poll Spark asks the broker for the first and the last offset, which is two waits and two thirds of
        # the CPU time of reading: at the client's own 500 records and 1 MiB, 400 times in a batch of a backlog.
        .option("kafka.max.poll.records", RECORDS_PER_POLL)
        .option("kafka.max.partition.fetch.bytes", BYTES_PER_FETCH)
        .options(**kafka_options(kafka))
        # Skip records of aborted transactions, and stop before the first open one.
        .option("kafka.isolation.level", "read_committed")
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .option("failOnDataLoss", "true")
        .option("maxOffsetsPerTrigger", MAX_RECORDS_PER_BATCH)
        .load()
    )
    if is_local(spark):
        # Each task generates code before its first record, which takes longer than the records of a second: have no
        # more tasks than cores. Not on a cluster, whose executors may not have started yet.
        raw = raw.coalesce(cores_of(spark))
    names = {"kafka_partition": "partition", "kafka_offset": "offset", "record_time": "timestamp"}
    columns = (F.col(names.get(name, name)).alias(name) for name in RECORD_COLUMNS)
    # Add the timestamp here, in the lowest projection. It is a constant in the generated code, so each batch has new
    # code, which the JVM interprets before it compiles it. Together with the typed columns that took a third of the
    # batch.
    return raw.select(*columns, F.current_timestamp().alias(ARRIVED_AT))


def read_events(spark: SparkSession, schema: RecordSchema, kafka: Kafka, editions: Editions) -> DataFrame:
    """Return the events topic, validated: the columns of `validate_records`, and KIND, which is EVENT or DEAD."""
    validated = validate_records(
        read_records(spark, kafka, schema.events_topic), schema, outcomes=False, editions=editions
    )
    return validated.withColumn(KIND, F.when(F.col(REASON).isNull(), EVENT).otherwise(DEAD))


def read_outcomes(spark: SparkSession, schema: RecordSchema, kafka: Kafka, editions: Editions) -> DataFrame | None:
    """Return the outcomes topic, validated, with KIND OUTCOME or DEAD; None if labels are inside the events."""
    if schema.outcomes_topic is None:
        return None
    validated = validate_records(
        read_records(spark, kafka, schema.outcomes_topic), schema, outcomes=True, editions=editions
    )
    return validated.withColumn(KIND, F.when(F.col(REASON).isNull(), OUTCOME).otherwise(DEAD))


def drop_duplicates(rows: DataFrame, kafka: Kafka) -> DataFrame:
    """Return valid rows once per (KIND, group_key, event_id) for at least `kafka.duplicates_within`, and all dead ones.

    The watermark follows ARRIVED_AT, not the producers' clocks: no record is ever too late, and a repeated batch has
    the same timestamp and so the same duplicates.

    Spark forgets an id in the second batch that begins after that time, so idle time does not expire ids. Queries have
    batches of their own: shortly after that time one query may drop a copy that another one keeps.
    """
    dead = F.col(KIND) == DEAD
    # With its time: a topic that was deleted and made again has the same offsets for other records.
    position = F.concat_ws(":", "topic", "kafka_partition", "kafka_offset", F.unix_micros(RECORD_TIME))
    keyed = rows.withColumn(_DISTINCT_IN, F.when(dead, F.lit("")).otherwise(F.col("group_key")))
    keyed = keyed.withColumn(_DISTINCT_ID, F.when(dead, position).otherwise(F.col("event_id")))
    return _drop_copies(keyed, _DISTINCT_IN, _DISTINCT_ID, kafka).drop(_DISTINCT_IN, _DISTINCT_ID)


def drop_duplicate_events(events: DataFrame, kafka: Kafka) -> DataFrame:
    """As `drop_duplicates`, with the same state, for rows none of which is dead: no second copy of the key."""
    return _drop_copies(events, "group_key", "event_id", kafka)


def _drop_copies(rows: DataFrame, group: str, identity: str, kafka: Kafka) -> DataFrame:
    timed = rows.withWatermark(ARRIVED_AT, interval(watermark_delay(kafka)))
    return timed.dropDuplicatesWithinWatermark([KIND, group, identity])
