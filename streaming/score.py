"""The query `score`: events and promotions → predictions (topic and table) and health/score.

Promotions are a second input, so that a repeated batch answers with the same models.
"""

from __future__ import annotations

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas import messages, tables
from schemas.contract import Column
from schemas.vocabulary import QueryName
from spinney.core.champions.promotion import TIME_COLUMNS
from spinney.core.config import Config
from spinney.core.features.encoding import DAY_US, NULL_TIME
from spinney.core.intervals.champion_intervals import IntervalRule
from spinney.core.models.signing import Signer
from spinney.kafka.publishing import Publisher
from spinney.storage import charter, step_observer
from spinney.storage.layout import FleetStore, possible_features
from spinney.tables import delta
from spinney.tables.delta import DirectoryWriter
from streaming import kafka_source
from streaming.delta_source import read_appended_union
from streaming.health import ANSWER_COLUMNS, sum_answers
from streaming.query import Query
from streaming.scorer import EVENT, KIND, PROMOTION, PROMOTION_COLUMNS, PROMOTION_STRUCT, STATE, Scorer
from streaming.validated_records import MESSAGE_JSON_OPTIONS, REASON, Editions

NAME = QueryName.SCORE.value
VALUE = "message value"
"""Column beside those of `predictions`: the message that is published."""

_BATCH_COLUMNS = ("scored_on", "batch_id")


def query(spark: SparkSession, config: Config, signer: Signer, editions: Editions) -> Query:
    """Return the query `score`, in append mode.

    In: the events topic, and rows appended to `promotions`. Out: the columns of `predictions` without batch_id, one row
    per valid distinct event. State: ids of `kafka.duplicates_within`; by shard, the champions of its groups and of
    all parents. signer: verifies models. editions: of the rules for valid records.
    """
    events, promotions = events_to_score(spark, config, editions), promotions_by_shard(spark, config)
    rows = events.unionByName(promotions, allowMissingColumns=True)
    store = FleetStore.of(config)
    scorer = Scorer(config, signer, charter.former_columns_of(store))
    answered = (
        times_as_microseconds(rows)
        .groupBy("shard")
        .applyInPandasWithState(scorer.function(), scored_ddl(config), STATE, "append", "NoTimeout")
        .withColumn("event_time", F.timestamp_micros("event_time"))
        .withColumns({column.name: F.lit(None).cast(column.type) for column in unfilled_columns(config)})
        .withColumn("scored_at", F.timestamp_micros("scored_at"))
        .withColumn("scored_on", F.to_date("scored_at"))
        .select(*(name for name in store.contract(tables.PREDICTIONS).names if name != "batch_id"))
    )
    return Query(NAME, answered, lambda checkpoint: ScoreBatchWriter(config, checkpoint))


def scored_ddl(config: Config) -> str:
    """Return the columns that the scorer fills: those of `predictions` except the batch's and `unfilled_columns`.

    Times are in microseconds.
    """
    others = {*_BATCH_COLUMNS, *(column.name for column in unfilled_columns(config))}
    whole = {"event_time": "bigint", "scored_at": "bigint"}
    columns = FleetStore.of(config).contract(tables.PREDICTIONS).columns
    return ", ".join(f"`{each.name}` {whole.get(each.name, each.type)}" for each in columns if each.name not in others)


def unfilled_columns(config: Config) -> list[Column]:
    """Return the columns of `predictions` that the scorer of this fleet does not fill.

    They are added by Spark: its worker concatenates the answers of a batch's shards in pandas, which looks at each
    value of a column that is all null. That was a fifth of the worker's time.
    """
    names = {"lower", "upper"} if IntervalRule.of(config) is None else set()
    names |= {"probabilities"} if config.fleet.task == "regression" else set()
    return [column for column in tables.PREDICTIONS.columns if column.name in names]


def events_to_score(spark: SparkSession, config: Config, editions: Editions) -> DataFrame:
    """Return valid, distinct events with the columns that scoring needs."""
    valid = kafka_source.read_events(spark, config, editions).filter(F.col(REASON).isNull())
    distinct = kafka_source.drop_duplicates(valid, config.kafka)
    label = F.col(config.fleet.target) if config.has_label_in_event else F.lit(None)
    store = FleetStore.of(config)
    return distinct.select(
        F.lit(EVENT).alias(KIND),
        "shard",
        "group_key",
        "event_id",
        "event_time",
        # Not only the current features: a champion that was fitted before an edit of the features still answers.
        *(F.expr(feature) for feature in possible_features(store)),
        label.cast(store.answer_type).alias("label"),
        "topic",
        "kafka_partition",
        "kafka_offset",
    )


def times_as_microseconds(rows: DataFrame) -> DataFrame:
    """Return the rows with times and dates as microseconds since 1970, NULL_TIME for null.

    Spark passes times to a worker as nanoseconds, which end in 2262: a batch with a later time would fail at each
    attempt. Null would turn the integers into floats.
    """
    micros = {"timestamp": "unix_micros(`{}`)", "date": f"CAST(unix_date(`{{}}`) AS BIGINT) * {DAY_US}L"}
    return rows.withColumns(
        {
            name: F.coalesce(F.expr(micros[kind].format(name)), F.lit(NULL_TIME).cast("bigint"))
            for name, kind in rows.dtypes
            if kind in micros
        }
    )


def promotions_by_shard(spark: SparkSession, config: Config) -> DataFrame:
    """Return every promotion row by shard. A parent's goes to all shards: any of them may hold groups below it."""
    rows = read_appended_union(spark, FleetStore.of(config), tables.PROMOTIONS)
    everywhere = F.sequence(F.lit(0), F.lit(config.fleet.shards - 1))
    is_parent = F.col("group_key").startswith("{")
    shards = F.when(is_parent, everywhere).otherwise(F.array(F.col("shard")))
    columns = (F.expr(f"unix_micros({name})" if name in TIME_COLUMNS else name) for name in PROMOTION_COLUMNS)
    packed = F.struct(*(column.alias(name) for name, column in zip(PROMOTION_COLUMNS, columns, strict=True)))
    return rows.select(
        F.lit(PROMOTION).alias(KIND),
        F.explode(shards).alias("shard"),
        "group_key",
        packed.alias(PROMOTION_STRUCT),
    )


class ScoreBatchWriter:
    """Writes each batch: to Kafka, then to `predictions`, then the sums to health/score.

    One job brings the batch's answers to the driver and advances the state; every sink is written from there. A cached
    frame and a Spark job per sink cost more than the answers, whose number MAX_RECORDS_PER_BATCH bounds.

    If `predictions` already has the batch, `health` counts those rows: after an edit of the configuration the same
    events may be answered differently.
    """

    def __init__(self, config: Config, checkpoint: str) -> None:
        self._config, self._store = config, FleetStore.of(config)
        self._predictions = DirectoryWriter(self._store.directory(tables.PREDICTIONS), NAME, checkpoint)
        self._health = DirectoryWriter(self._store.directory(tables.HEALTH, "score"), NAME, checkpoint)
        topic = config.kafka.predictions
        self._publisher = Publisher(config.kafka, topic) if topic is not None else None

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        """Write a batch, except what an earlier attempt at it has stored."""
        # Computed even if it is already stored: the state must advance.
        answers = (batch if self._publisher is None else with_messages(batch)).toArrow()
        if self._predictions.is_stored("predictions", batch_id):
            stored = delta.spark_frame(batch.sparkSession, self._store.directory(tables.PREDICTIONS))
            answers = stored.filter(F.col("batch_id") == batch_id).select(*ANSWER_COLUMNS).toArrow()
        elif answers.num_rows:
            self._answer(answers, batch_id)
        if not answers.num_rows:
            return
        self._health.append(sum_answers(answers, self._config.fleet, batch_id), step="health", batch_id=batch_id)

    def _answer(self, answers: pa.Table, batch_id: int) -> None:
        if self._publisher is not None:
            publish_answers(self._publisher, answers)
            step_observer.announce(f"{NAME}.publish", batch_id)
        answers = answers.append_column("batch_id", pa.repeat(pa.scalar(batch_id, pa.int64()), answers.num_rows))
        self._predictions.append(answers, step="predictions", batch_id=batch_id)


def with_messages(rows: DataFrame) -> DataFrame:
    """Return the rows with VALUE, their message to the predictions topic."""
    fields = [column.name for column in messages.PREDICTION.columns]
    return rows.withColumn(VALUE, F.to_json(F.struct(*fields), MESSAGE_JSON_OPTIONS))


def publish_answers(publisher: Publisher, answers: pa.Table) -> None:
    """Publish the answers to the predictions topic, keyed by group, at least once. A copy is equal byte for byte."""
    columns = (answers[name].cast(pa.binary()).combine_chunks().to_pylist() for name in ("group_key", VALUE))
    publisher.publish(zip(*columns, strict=True))
