"""The query `score`: events and promotions → predictions (topic and table) and health/score.

Promotions are a second input, so that a repeated batch answers with the same models.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas import messages, tables
from schemas.vocabulary import QueryName
from spinney.core.champions import held_out_loss_codec
from spinney.core.champions.promotion import TIME_COLUMNS
from spinney.core.config import Config, Kafka
from spinney.core.features.encoding import DAY_US, NULL_TIME
from spinney.core.models.signing import Signer
from spinney.core.records.json_encoding import encode_json_objects
from spinney.core.records.recent_ids import IdHashes, ask_in_order
from spinney.kafka.publishing import Publisher
from spinney.storage import charter, step_observer
from spinney.storage.layout import FleetStore, possible_features
from spinney.tables import delta
from spinney.tables.delta import DirectoryWriter
from streaming import answer_encoding, kafka_source
from streaming.delta_source import read_appended_union
from streaming.duplicate_records import RecentRecords
from streaming.health import ANSWER_COLUMNS, sum_answers
from streaming.query import Query
from streaming.scorer import PROMOTION, PROMOTION_COLUMNS, STATE, Scorer
from streaming.validated_records import REASON, Editions

NAME = QueryName.SCORE.value
MESSAGES_AT_ONCE = 10_000
"""Number of answers that are encoded as JSON together."""


def query(spark: SparkSession, config: Config, signer: Signer, editions: Editions) -> Query:
    """Return the query `score`, in append mode.

    In: the events topic, and rows appended to `promotions`. Out: the answers to the valid events, a value per shard
    (`streaming.answer_encoding`). State: by shard, the champions of its groups and of all parents. signer: verifies
    models. editions: of the rules for valid records.
    """
    store = FleetStore.of(config)
    events, promotions = events_to_score(spark, store, config.kafka, editions), promotions_by_shard(spark, store)
    rows = events.unionByName(promotions, allowMissingColumns=True)
    scorer = Scorer.of(config, signer, charter.former_columns_of(store), charter.losses_of(store).first)
    answered = (
        times_as_microseconds(rows)
        .groupBy("shard")
        .applyInPandasWithState(scorer.function(), answer_encoding.DDL, STATE, "append", "NoTimeout")
    )
    return Query(NAME, answered, lambda checkpoint: ScoreBatchWriter(config, checkpoint), former_operators=(1,))


def events_to_score(spark: SparkSession, store: FleetStore, kafka: Kafka, editions: Editions) -> DataFrame:
    """Return valid events with the columns that scoring needs."""
    valid = kafka_source.read_events(spark, store.record_schema, kafka, editions).filter(F.col(REASON).isNull())
    label = F.col(store.fleet.target) if store.has_label_in_event else F.lit(None)
    return valid.select(
        "shard",
        "group_key",
        "event_id",
        "event_time",
        # Not only the current features: a champion that was fitted before an edit of the features still answers.
        *(F.expr(feature) for feature in possible_features(store)),
        label.cast(store.answer_type).alias("label"),
        "kafka_partition",
        "kafka_offset",
    )


def times_as_microseconds(rows: DataFrame) -> DataFrame:
    """Return the rows with times and dates as microseconds since 1970, NULL_TIME for null.

    Spark passes times to a worker as nanoseconds, which end in 2262: a batch with a later time would fail at each
    attempt. NULL_TIME is used since nulls would turn the integers into floats.
    """
    micros = {"timestamp": "unix_micros(`{}`)", "date": f"CAST(unix_date(`{{}}`) AS BIGINT) * {DAY_US}L"}
    return rows.withColumns(
        {
            name: F.coalesce(F.expr(micros[kind].format(name)), F.lit(NULL_TIME).cast("bigint"))
            for name, kind in rows.dtypes
            if kind in micros
        }
    )


def promotions_by_shard(spark: SparkSession, store: FleetStore) -> DataFrame:
    """Return every promotion row by shard, with its columns as one JSON text.

    The promotion of a parent goes to all shards, since any of them may hold groups of the parent.
    """
    rows = read_appended_union(spark, store, tables.PROMOTIONS)
    everywhere = F.sequence(F.lit(0), F.lit(store.fleet.shards - 1))
    is_parent = F.col("group_key").startswith("{")
    shards = F.when(is_parent, everywhere).otherwise(F.array(F.col("shard")))
    # Exact: each float is a double, whose shortest text is read as the same number.
    sql = {name: f"unix_micros({name})" for name in TIME_COLUMNS}
    sql[held_out_loss_codec.COLUMN] = (
        f"CAST(coalesce({held_out_loss_codec.PREQUENTIAL}, {held_out_loss_codec.COLUMN}) AS array<double>)"
    )
    packed = F.struct(*(F.expr(sql.get(name, name)).alias(name) for name in PROMOTION_COLUMNS))
    return rows.select(F.explode(shards).alias("shard"), "group_key", F.to_json(packed).alias(PROMOTION))


class ScoreBatchWriter:
    """Writes the answers to a batch's distinct events: to Kafka, to `predictions`, then the sums to health/score.

    One job brings the batch's answers to the driver and advances the state; every sink is written from there. A cached
    frame and a Spark job per sink would cost more than collecting the answers. MAX_RECORDS_PER_BATCH bounds their
    number.

    If `predictions` already has the batch, `health` counts those rows: after an edit of the configuration the same
    events may be answered differently.
    """

    def __init__(self, config: Config, checkpoint: str) -> None:
        self._config, self._store = config, FleetStore.of(config)
        self._predictions = DirectoryWriter(self._store.directory(tables.PREDICTIONS), NAME, checkpoint)
        self._health = DirectoryWriter(self._store.directory(tables.HEALTH, "score"), NAME, checkpoint)
        self._recent = RecentRecords(self._store, NAME, tables.PREDICTIONS, config.kafka.duplicates_within)
        self._schema = answer_encoding.answer_schema(self._store)
        topic = config.kafka.predictions
        self._publisher = Publisher(config.kafka, topic) if topic is not None else None

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        """Write a batch, except what an earlier attempt at it has stored."""
        # Computed even if it is already stored: the state must advance.
        values = batch.toArrow()[answer_encoding.COLUMN]
        answers = answer_encoding.decode_answers((value.as_buffer() for value in values), self._schema)
        if self._predictions.is_stored("predictions", batch_id):
            stored = delta.spark_frame(batch.sparkSession, self._store.directory(tables.PREDICTIONS))
            answers = stored.filter(F.col("batch_id") == batch_id).select(*ANSWER_COLUMNS).toArrow()
        elif answers.num_rows:
            answers = self._answer_distinct(answers, batch_id)
        if not answers.num_rows:
            return
        self._health.append(sum_answers(answers, self._config.fleet, batch_id), step="health", batch_id=batch_id)

    def _answer_distinct(self, answers: pa.Table, batch_id: int) -> pa.Table:
        """Publish and store the answers, without those to copies of events. Returns the answers that were kept."""
        ids = IdHashes.of(answers["group_key"], answers["event_id"])
        places = (answers[name].to_numpy() for name in ("kafka_partition", "kafka_offset"))
        is_new = ask_in_order(lambda ordered: self._recent.are_new(ordered, batch_id), ids, *places)
        if not is_new.all():
            answers, ids = answers.filter(pa.array(is_new)), ids.take(is_new)
        if answers.num_rows:
            self._publish_and_store(answers, batch_id)
            self._recent.add(ids, batch_id)
        return answers

    def _publish_and_store(self, answers: pa.Table, batch_id: int) -> None:
        if self._publisher is not None:
            publish_answers(self._publisher, answers)
            step_observer.announce(f"{NAME}.publish", batch_id)
        answers = answers.append_column("batch_id", pa.repeat(pa.scalar(batch_id, pa.int64()), answers.num_rows))
        self._predictions.append(answers, step="predictions", batch_id=batch_id)


def publish_answers(publisher: Publisher, answers: pa.Table) -> None:
    """Publish the answers to the predictions topic, keyed by group, at least once.

    Repeated records have the same bytes.
    """
    publisher.publish(_messages(answers))


def _messages(answers: pa.Table) -> Iterator[tuple[bytes, bytes]]:
    # Pieces are large, since a shard has only a few answers in a small batch. There are several, so that the first are
    # sent while the next are encoded.
    for batch in answers.combine_chunks().to_batches(max_chunksize=MESSAGES_AT_ONCE):
        values = encode_json_objects(batch.select(list(messages.PREDICTION.names)))
        columns = (column.cast(pa.binary()).to_pylist() for column in (batch["group_key"], values))
        yield from zip(*columns, strict=True)
