"""Events × champions → predictions (topic and table) and health.

The champions arrive as a stream of promotions beside the events, so a replayed batch answers with the same models.
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
from spinney.core.models.signing import Signer
from spinney.kafka.publishing import Publisher
from spinney.storage import charter, step_observer
from spinney.storage.layout import FleetStore, possible_features
from spinney.tables import delta
from spinney.tables.delta import Writer
from streaming import source
from streaming.delta_source import appended_all
from streaming.health import ANSWER_COLUMNS, of_answers
from streaming.query import Query
from streaming.scorer import EVENT, KIND, PROMOTION, PROMOTION_COLUMNS, PROMOTION_STRUCT, STATE, Scorer
from streaming.validated_records import MESSAGE_JSON_OPTIONS, REASON, Editions

NAME = QueryName.SCORE.value
VALUE = "message value"
"""A column beside those of `predictions`: what is published."""

_OF_THE_BATCH = ("scored_on", "batch_id")


def query(spark: SparkSession, config: Config, signer: Signer, editions: Editions) -> Query:
    rows = events(spark, config, editions).unionByName(promotions(spark, config), allowMissingColumns=True)
    store = FleetStore.of(config)
    scorer = Scorer(config, signer, charter.former(store))
    answered = (
        with_whole_times(rows)
        .groupBy("shard")
        .applyInPandasWithState(scorer.function(), answer_ddl(store), STATE, "append", "NoTimeout")
        .withColumn("event_time", F.timestamp_micros("event_time"))
        .withColumns({column.name: F.lit(None).cast(column.type) for column in unanswered(store)})
        .withColumn("scored_at", F.timestamp_micros("scored_at"))
        .withColumn("scored_on", F.to_date("scored_at"))
        .select(*(name for name in store.contract(tables.PREDICTIONS).names if name != "batch_id"))
    )
    return Query(NAME, answered, lambda checkpoint: Batches(config, checkpoint))


def answer_ddl(store: FleetStore) -> str:
    """What the scorer returns: `predictions` without what the batch adds and what no model gives.

    Times are in microseconds.
    """
    others = {*_OF_THE_BATCH, *(column.name for column in unanswered(store))}
    whole = {"event_time": "bigint", "scored_at": "bigint"}
    columns = store.contract(tables.PREDICTIONS).columns
    return ", ".join(f"`{each.name}` {whole.get(each.name, each.type)}" for each in columns if each.name not in others)


def unanswered(store: FleetStore) -> list[Column]:
    """Columns of `predictions` that no model of this fleet fills.

    Spark's worker joins the answers of a batch's shards by pandas, which looks at each value of a column that is all
    null: a fifth of its time.
    """
    names = {"lower", "upper"} | ({"probabilities"} if store.fleet.task == "regression" else set())
    return [column for column in store.contract(tables.PREDICTIONS).columns if column.name in names]


def events(spark: SparkSession, config: Config, editions: Editions) -> DataFrame:
    """Valid events, distinct, with what scoring needs of them."""
    valid = source.distinct(source.events(spark, config, editions).filter(F.col(REASON).isNull()), config)
    label = F.col(config.fleet.target) if config.label_inside else F.lit(None)
    store = FleetStore.of(config)
    return valid.select(
        F.lit(EVENT).alias(KIND),
        "shard",
        "group_key",
        "event_id",
        "event_time",
        # Not only today's features: a champion fitted before they were edited goes on answering.
        *(F.expr(each) for each in possible_features(store)),
        label.cast(store.answer_type).alias("label"),
        "topic",
        "kafka_partition",
        "kafka_offset",
    )


def with_whole_times(rows: DataFrame) -> DataFrame:
    """Times and dates as microseconds since 1970, NULL_TIME for null.

    Spark makes nanoseconds of a worker's times, which end in 2262: a batch with a later one would fail, again and
    again. Null would make floats of the whole numbers.
    """
    micros = {"timestamp": "unix_micros(`{}`)", "date": f"CAST(unix_date(`{{}}`) AS BIGINT) * {DAY_US}L"}
    return rows.withColumns(
        {
            name: F.coalesce(F.expr(micros[kind].format(name)), F.lit(NULL_TIME).cast("bigint"))
            for name, kind in rows.dtypes
            if kind in micros
        }
    )


def promotions(spark: SparkSession, config: Config) -> DataFrame:
    """Every promotion row; a parent's goes to all shards, since any of them may hold its children."""
    rows = appended_all(spark, config, tables.PROMOTIONS)
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


class Batches:
    """Kafka first, then `predictions`, then `health`: what was answered is known before it is counted.

    The batch's answers come to the driver by one job, which also advances the state, and every sink is written from
    there: a cached frame and a Spark job for each sink cost more than the answers (MAX_RECORDS_A_BATCH bounds them).
    A replay that finds `predictions` stored counts those: after an edit the same events may be answered otherwise.
    """

    def __init__(self, config: Config, checkpoint: str) -> None:
        self._config, self._store = config, FleetStore.of(config)
        self._predictions = Writer(self._store.directory(tables.PREDICTIONS), NAME, checkpoint)
        self._health = Writer(self._store.directory(tables.HEALTH, "score"), NAME, checkpoint)
        topic = config.kafka.predictions
        self._publisher = Publisher(config.kafka, topic) if topic is not None else None

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        # Always computed: the state advances with it.
        answers = (batch if self._publisher is None else messages_of(batch)).toArrow()
        if self._predictions.done("predictions", batch_id):
            stored = delta.frame(batch.sparkSession, self._store.directory(tables.PREDICTIONS))
            answers = stored.filter(F.col("batch_id") == batch_id).select(*ANSWER_COLUMNS).toArrow()
        elif answers.num_rows:
            self._answer(answers, batch_id)
        if not answers.num_rows:
            return
        self._health.append(of_answers(answers, self._config, batch_id), step="health", batch_id=batch_id)

    def _answer(self, answers: pa.Table, batch_id: int) -> None:
        if self._publisher is not None:
            publish(self._publisher, answers)
            step_observer.announce(f"{NAME}.publish", batch_id)
        answers = answers.append_column("batch_id", pa.repeat(pa.scalar(batch_id, pa.int64()), answers.num_rows))
        self._predictions.append(answers, step="predictions", batch_id=batch_id)


def messages_of(rows: DataFrame) -> DataFrame:
    """The rows, each with its message to the predictions topic in VALUE."""
    fields = [column.name for column in messages.PREDICTION.columns]
    return rows.withColumn(VALUE, F.to_json(F.struct(*fields), MESSAGE_JSON_OPTIONS))


def publish(publisher: Publisher, answers: pa.Table) -> None:
    """The answers to the predictions topic, keyed by group. At least once; a copy is equal byte for byte."""
    columns = (answers[name].cast(pa.binary()).combine_chunks().to_pylist() for name in ("group_key", VALUE))
    publisher.publish(zip(*columns, strict=True))
