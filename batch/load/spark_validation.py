"""Validate rows with Spark: the doubtful ones, or all rows of a source that only Spark reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, FloatType, LongType

from batch.load import incumbent_answers, sources
from batch.load.column_checks import PLACE, Columns
from batch.load.incumbent_answers import ANSWER
from schemas import messages, tables
from schemas.vocabulary import QueryName
from spinney.core.config import Config
from spinney.core.errors import StoreError
from spinney.core.records.message_contracts import message_contract
from spinney.stores import delta
from spinney.stores.delta import Writer
from spinney.stores.layout import answer_type, directory
from spinney.stores.spark import session_for
from spinney.stores.storage import folder
from spinney.stores.validity import AS_MESSAGE, DEAD_LETTER, REASON, RECORD_COLUMNS, VALUE, classified

NAME = QueryName.LOAD.value
_CONTENT = ["topic", "value"]
"""What tells a dead letter from others: its place in the source depends on how many tasks read it."""


@dataclass(frozen=True)
class Validated:
    """Validated rows of one kind of message. records: as `classified` returns them, persisted."""

    records: DataFrame
    rows: int
    dead: int


def read(spark: SparkSession, source: str) -> DataFrame:
    """The rows of a Parquet file or folder, or a Delta table. Raises StoreError: none of these."""
    try:
        is_delta = sources.is_delta(folder(source))
        rows = spark.read.format("delta").load(source) if is_delta else _read_parquet(spark, source)
    except (AnalysisException, pa.ArrowException, OSError) as error:
        raise sources.unreadable(source, error) from error
    # pandas writes a missing number as NaN as often as null; JSON knows only null.
    floating = [each.name for each in rows.schema.fields if isinstance(each.dataType, DoubleType | FloatType)]
    return rows.withColumns({name: F.expr(f"CASE WHEN NOT isnan(`{name}`) THEN `{name}` END") for name in floating})


def _read_parquet(spark: SparkSession, source: str) -> DataFrame:
    """One file or a folder of them. pandas writes times in nanoseconds, which Spark knows only as whole numbers."""
    fields = ds.dataset(folder(source), format="parquet").schema
    nanos = {each.name for each in fields if pa.types.is_timestamp(each.type) and each.type.unit == "ns"}
    sibling = session_for(spark, no_data_batches=False)
    sibling.conf.set("spark.sql.legacy.parquet.nanosAsLong", "true")
    rows = sibling.read.parquet(source)
    # Times of 96 bits are nanoseconds to Arrow, and times to Spark.
    whole = [each.name for each in rows.schema.fields if each.name in nanos and isinstance(each.dataType, LongType)]
    return rows.withColumns({name: F.expr(f"timestamp_micros(`{name}` DIV 1000)") for name in whole})


def late_labels(rows: DataFrame, config: Config) -> DataFrame:
    """The labels of rows of events, as rows of outcomes."""
    fleet = config.fleet
    if "observed_at" in rows.columns:
        observed = F.col("observed_at")
    else:
        seconds = int(fleet.label_delay.total_seconds())
        observed = F.col(fleet.event_time) + F.expr(f"INTERVAL {seconds} SECONDS")
    labelled = rows.filter(F.col(fleet.target).isNotNull()).withColumn("observed_at", observed)
    return labelled.select(*message_contract(config, messages.OUTCOME).names, *_place(rows))


def with_answers(rows: DataFrame, config: Config, source: str) -> DataFrame:
    """The rows, `prediction` typed as the fleet's target is. Raises StoreError where it is something else."""
    kind, target = dict(rows.dtypes)[ANSWER], incumbent_answers.wanted(config)
    incumbent_answers.refuse_other_type(kind, config, source)
    if kind != target != "double" and (odd := _first_that_is_no(target, rows)):
        raise incumbent_answers.no_class(odd, config, source)
    return rows.withColumn(ANSWER, F.col(ANSWER).cast(target))


def _first_that_is_no(target: str, rows: DataFrame) -> str | None:
    """An answer that is no whole number of this type, if there is one: a cast would make another class of it."""
    answer = F.col(ANSWER)
    differs = ~answer.eqNullSafe(answer.try_cast(target))
    found = rows.filter(answer.isNotNull() & differs).select(answer.cast("string").alias("odd")).limit(1).toArrow()
    return str(found["odd"][0]) if found.num_rows else None


@contextmanager
def validated(rows: DataFrame, config: Config, topic: str, moment: datetime, columns: Columns) -> Iterator[Validated]:
    """The validated rows, persisted until the context ends."""
    records = _records(rows, topic, moment)
    found = classified(records, config, outcomes=columns.base is tables.OUTCOMES).persist()
    try:
        by_reason = found.groupBy(F.col(REASON).isNotNull().alias("dead")).count().toArrow()
        counts = dict(zip(by_reason["dead"].to_pylist(), by_reason["count"].to_pylist(), strict=True))
        dead = counts.get(True, 0)
        yield Validated(found, counts.get(False, 0) + dead, dead)
    finally:
        found.unpersist()


def _records(rows: DataFrame, topic: str, moment: datetime) -> DataFrame:
    """The rows as Kafka records, so that the same validation applies.

    A file has no time of its own for each row: what lies in the future when it is loaded is a dead letter.
    """
    place = _place(rows)
    text = F.to_json(F.struct(*(F.col(f"`{name}`") for name in rows.columns if name != PLACE)), AS_MESSAGE)
    return rows.select(
        F.lit(None).cast("binary").alias("key"),
        text.cast("binary").alias("value"),
        F.lit(topic).alias("topic"),
        F.lit(0).alias("kafka_partition"),
        (place[0] if place else F.monotonically_increasing_id()).alias("kafka_offset"),
        F.lit(moment).alias("record_time"),
    ).select(*RECORD_COLUMNS)


def _place(rows: DataFrame) -> list[Any]:
    return [F.col(f"`{PLACE}`")] if PLACE in rows.columns else []


def valid(
    validated: Validated, config: Config, columns: Columns, place: Path, *, has_answers: bool
) -> Iterator[pa.Table]:
    """The valid rows, as `Checker` returns them, but with the key columns instead of the group's number."""
    found = validated.records.filter(F.col(REASON).isNull()).withColumn(PLACE, F.col("kafka_offset"))
    names = [PLACE, *config.fleet.group, *columns.stored_as.values()]
    if has_answers:
        found = found.withColumn(ANSWER, _answer(config))
        names.append(ANSWER)
    found.select(*(F.col(f"`{name}`") for name in names)).write.mode("overwrite").parquet(str(place))
    for file in sorted(place.glob("*.parquet")):
        with pq.ParquetFile(file, coerce_int96_timestamp_unit=sources.INT96_UNIT) as opened:
            for batch in opened.iter_batches(sources.BATCH_ROWS):
                yield pa.Table.from_batches([batch])


def _answer(config: Config) -> Any:
    """What the present system answered, out of the record."""
    said = F.get_json_object(F.col(VALUE).cast("string"), f"$.{ANSWER}")
    if answer_type(config) == "double":
        number = said.cast("double")
        return F.when(F.abs(number) < float("inf"), number)
    return said


def append_dead(spark: SparkSession, config: Config, validated: Validated, moment: datetime) -> int:
    """Append the dead letters that the table does not have; return their number.

    An interrupted load may have written some of them.
    """
    if not validated.dead:
        return 0
    place = directory(config, tables.DEAD_LETTERS)
    there = delta.frame(spark, place).select(*_CONTENT)
    named = {ours: name for name, ours in DEAD_LETTER.items()}
    dead = validated.records.filter(F.col(REASON).isNotNull()).withColumnsRenamed(named)
    fresh = dead.join(there, _CONTENT, "left_anti").persist()
    try:
        count = fresh.count()
        if count:
            writer = Writer(config, place, NAME, NAME)
            batch_id = next_batch(writer)
            stamped = fresh.withColumns({"ingested_at": F.lit(moment), "batch_id": F.lit(batch_id).cast("bigint")})
            writer.append(stamped, step=NAME, batch_id=batch_id)
        return int(count)
    finally:
        fresh.unpersist()


def next_batch(writer: Writer) -> int:
    last = writer.last(NAME)
    return last.batch_id + 1 if last else 0


def refuse_other_count(validated: Validated, expected: int, source: str) -> None:
    """Raises StoreError where Spark has other rows than it was given."""
    refuse_other_rows(validated.rows, expected, source)


def refuse_other_rows(got: int, expected: int, source: str) -> None:
    if got != expected:
        raise StoreError(f"load: {source}: expected {expected} rows back from Spark; got {got}. Nothing was loaded")
