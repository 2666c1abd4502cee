"""Streams of validated records of Kafka topics, the same for every query that reads a topic."""

from __future__ import annotations

from functools import reduce

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spinney.core.config import Kafka, RecordSchema
from spinney.spark.session import cores_of, is_local
from spinney.tables.row_writing import ARRIVED_AT
from streaming.validated_records import RECORD_COLUMNS, Editions, edition_index_sql, validate_events

MAX_RECORDS_PER_BATCH = 200_000
"""Largest number of records that a batch reads of a topic. So batches of a backlog take seconds, and a stop never waits
long.
"""

RECORDS_PER_POLL, BYTES_PER_FETCH = 20_000, 4 << 20


def kafka_options(kafka: Kafka) -> dict[str, str]:
    """Return options of Spark's Kafka source and sink: the client's own options with the prefix ``kafka.``"""
    options = {f"kafka.{name}": value for name, value in kafka.options.items()}
    return {"kafka.bootstrap.servers": kafka.bootstrap_servers, **options}


def read_records(spark: SparkSession, kafka: Kafka, topic: str) -> DataFrame:
    """Return a stream of a topic from its start: RECORD_COLUMNS and ARRIVED_AT, the timestamp of the batch."""
    raw = (
        spark.readStream.format("kafka")
        # The records of a batch already exist when it begins, yet the first fetch of each task waits for this time:
        # with the client's default of 500 ms this was more than half of a small batch.
        .option("kafka.fetch.max.wait.ms", 50)
        # After each poll Spark asks the broker for the first and the last offset. These two waits are two thirds of the
        # CPU time of reading: with the client's defaults of 500 records and 1 MiB they occur 400 times in a batch of a
        # backlog.
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
    raw = coalesce_locally(raw)
    names = {"kafka_partition": "partition", "kafka_offset": "offset", "record_time": "timestamp"}
    columns = (F.col(names.get(name, name)).alias(name) for name in RECORD_COLUMNS)
    # Add the timestamp here, in the lowest projection. It is a constant in the generated code, so each batch has new
    # code, which the JVM first interprets and then compiles. In a projection together with the typed columns, this took
    # a third of the batch.
    return raw.select(*columns, F.current_timestamp().alias(ARRIVED_AT))


def coalesce_locally(rows: DataFrame) -> DataFrame:
    """Return the rows in at most as many tasks as cores. Each task generates code, which takes longer than the records
    of a second.

    On a cluster the number of tasks is not changed, since its executors may not have started yet.
    """
    spark = rows.sparkSession
    return rows.coalesce(cores_of(spark)) if is_local(spark) else rows


def read_events(spark: SparkSession, schema: RecordSchema, kafka: Kafka, editions: Editions) -> DataFrame:
    """Return the events topic, validated: the columns of `validate_events` and ARRIVED_AT."""
    return validate_events(read_records(spark, kafka, schema.events_topic), schema, editions)


def read_unvalidated(spark: SparkSession, schema: RecordSchema, kafka: Kafka, editions: Editions) -> DataFrame:
    """Return the records of both topics: the columns that `TopicRows.rows` needs."""
    topics = (schema.events_topic, schema.outcomes_topic)
    streams = [read_records(spark, kafka, topic) for topic in topics if topic is not None]
    records = reduce(DataFrame.unionByName, streams)
    if len(streams) > 1:
        records = coalesce_locally(records)
    return records.selectExpr(
        *("key", "value", "topic", "kafka_partition", "kafka_offset", ARRIVED_AT),
        "unix_micros(record_time) AS record_us",
        f"{edition_index_sql(editions)} AS edition",
    )
