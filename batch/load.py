"""History without Kafka: Parquet or Delta → the same validation → events and outcomes.

Loading it again adds nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.dataset as ds
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, FloatType

from schemas import messages, tables
from schemas.contract import Contract
from schemas.vocabulary import QueryName
from spinney.core.config import Config
from spinney.core.errors import StoreError
from spinney.stores import charter, delta, leases
from spinney.stores.delta import Writer
from spinney.stores.layout import directory, message_contract
from spinney.stores.spark import session, session_for, with_required
from spinney.stores.storage import folder
from spinney.stores.validity import AS_MESSAGE, RECORD_COLUMNS, classified

NAME = QueryName.LOAD.value
_CONTENT = ["topic", "value"]
"""What tells a dead letter from others: its place in the source depends on how many tasks read it."""

_IDENTITY = ["group_key", "event_id"]

ANSWER = "prediction"
"""The column of what the present system answered."""

_NUMBERS = re.compile(r"tinyint|smallint|int|bigint|float|double|decimal\(.*")


@dataclass
class Loaded:
    """Rows added by table; rows that were there already are not counted."""

    added: dict[str, int] = field(default_factory=dict)


def load(config: Config, source: str, *, outcomes: bool = False, spark: SparkSession | None = None) -> Loaded:
    """Load one Parquet file or folder, or Delta table.

    source: columns as the messages have them. outcomes: its rows are outcomes, not events. Where labels come late and
    the rows of events have the target, they are loaded as outcomes too, observed at their `observed_at` or
    `label_delay` after the event. A column `prediction` of events, if the fleet declares none of that name, is what the
    present system answered: it becomes the incumbent's.

    Raises StoreError: nothing there, or not one of these formats; Busy: ingest is running.
    """
    spark = with_required(spark) if spark else session(config)
    rows = _read(spark, source)
    has_answers = not outcomes and ANSWER in rows.columns and config.fleet.type_of(ANSWER) is None
    if has_answers:
        rows = _with_answers(rows, config, source)
    loaded = Loaded()
    # The directories are ingest's: it must not run meanwhile.
    with leases.held(config, [QueryName.INGEST]):
        charter.ensure_fixed(config)
        delta.create_tables(config)
        if outcomes:
            _load(spark, config, _records(rows, source), loaded, tables.OUTCOMES)
        else:
            _load(spark, config, _records(rows, source), loaded, tables.EVENTS, has_answers=has_answers)
            if not config.label_inside and config.fleet.target in rows.columns:
                _load(
                    spark, config, _records(_late_labels(rows, config), f"{source}#outcomes"), loaded, tables.OUTCOMES
                )
    return loaded


def _read(spark: SparkSession, source: str) -> DataFrame:
    place = folder(source)
    if not place.exists():
        raise StoreError(f"load: nothing at {source}; expected a Parquet file or folder, or a Delta table")
    is_delta = (place / "_delta_log").is_dir()
    try:
        rows = spark.read.format("delta").load(source) if is_delta else _read_parquet(spark, source)
    except (AnalysisException, pa.ArrowException, OSError) as error:
        first = str(error).splitlines()[0]
        text = f"load: {source}: expected a Parquet file or folder, or a Delta table; got: {first}"
        raise StoreError(text) from error
    # pandas writes a missing number as NaN as often as null; JSON knows only null.
    floating = [each.name for each in rows.schema.fields if isinstance(each.dataType, DoubleType | FloatType)]
    return rows.withColumns({name: F.when(~F.isnan(name), F.col(name)) for name in floating})


def _read_parquet(spark: SparkSession, source: str) -> DataFrame:
    """One file or a folder of them. pandas writes times in nanoseconds, which Spark knows only as whole numbers."""
    fields = ds.dataset(folder(source), format="parquet").schema
    nanos = [each.name for each in fields if pa.types.is_timestamp(each.type) and each.type.unit == "ns"]
    sibling = session_for(spark, no_data_batches=False)
    sibling.conf.set("spark.sql.legacy.parquet.nanosAsLong", "true")
    rows = sibling.read.parquet(source)
    return rows.withColumns({name: F.expr(f"timestamp_micros(`{name}` DIV 1000)") for name in nanos})


def _late_labels(rows: DataFrame, config: Config) -> DataFrame:
    fleet = config.fleet
    if "observed_at" in rows.columns:
        observed = F.col("observed_at")
    else:
        seconds = int(fleet.label_delay.total_seconds())
        observed = F.col(fleet.event_time) + F.expr(f"INTERVAL {seconds} SECONDS")
    labelled = rows.filter(F.col(fleet.target).isNotNull()).withColumn("observed_at", observed)
    return labelled.select(*message_contract(config, messages.OUTCOME).names)


def _records(rows: DataFrame, source: str) -> DataFrame:
    """The rows as the records that Kafka would have brought, so that one validation judges both.

    A file has no time of its own for each row: what lies in the future when it is loaded is a dead letter.
    """
    text = F.to_json(F.struct(*rows.columns), AS_MESSAGE)
    return rows.select(
        F.lit(None).cast("binary").alias("key"),
        text.cast("binary").alias("value"),
        F.lit(f"load:{source}").alias("topic"),
        F.spark_partition_id().alias("kafka_partition"),
        F.monotonically_increasing_id().alias("kafka_offset"),
        F.current_timestamp().alias("record_time"),
    ).select(*RECORD_COLUMNS)


def _with_answers(rows: DataFrame, config: Config, source: str) -> DataFrame:
    """The rows, `prediction` typed as the fleet's target is. Raises StoreError where it is something else."""
    kind = dict(rows.dtypes)[ANSWER]
    target = "double" if config.fleet.task == "regression" else config.fleet.columns[config.fleet.target]
    fits = kind == target if target in ("string", "boolean") else _NUMBERS.fullmatch(kind)
    if not fits:
        raise StoreError(
            f"load: {source}: column {ANSWER}: expected {target}, what the present system answered; got {kind}. "
            "Convert it, or rename it if it is something else"
        )
    if kind != target != "double" and (odd := _first_that_is_no(target, rows)):
        raise StoreError(
            f"load: {source}: column {ANSWER}: expected {target}, the class that the present system answered; got "
            f"{odd}. Convert it (a probability is no class), or rename it if it is something else"
        )
    return rows.withColumn(ANSWER, F.col(ANSWER).cast(target))


def _first_that_is_no(target: str, rows: DataFrame) -> str | None:
    """An answer that is no whole number of this type, if there is one: a cast would make another class of it."""
    answer = F.col(ANSWER)
    differs = ~answer.eqNullSafe(answer.try_cast(target))
    found = rows.filter(answer.isNotNull() & differs).select(answer.cast("string").alias("odd")).limit(1).toArrow()
    return str(found["odd"][0]) if found.num_rows else None


def _load(
    spark: SparkSession,
    config: Config,
    records: DataFrame,
    loaded: Loaded,
    base: Contract,
    *,
    has_answers: bool = False,
) -> None:
    judged = classified(records, config, outcomes=base is tables.OUTCOMES).persist()
    try:
        valid = judged.filter(F.col("reason").isNull()).dropDuplicates(_IDENTITY)
        dead = judged.filter(F.col("reason").isNotNull())
        _append(spark, config, base, valid, _IDENTITY, loaded)
        if has_answers:
            # Beside events that are there already, too: of those that the fleet answered as well.
            _append(spark, config, tables.INCUMBENT, _answered(valid, config), _IDENTITY, loaded)
        _append(spark, config, tables.DEAD_LETTERS, dead, _CONTENT, loaded)
    finally:
        judged.unpersist()


def _answered(valid: DataFrame, config: Config) -> DataFrame:
    """The valid events that the present system answered, and its answers."""
    said = F.get_json_object(F.col("value").cast("string"), f"$.{ANSWER}")
    if config.fleet.task == "regression":
        number = said.cast("double")
        said = F.when(F.abs(number) < float("inf"), number)
    return valid.withColumn(ANSWER, said).filter(F.col(ANSWER).isNotNull())


def _append(
    spark: SparkSession, config: Config, contract: Contract, rows: DataFrame, identity: list[str], loaded: Loaded
) -> None:
    """Append what is not there yet. A load that was cut off and is run again finds its own rows there."""
    place = directory(config, contract)
    there = delta.frame(spark, place).select(*identity)
    fresh = rows.join(there, identity, "left_anti").persist()
    try:
        count = fresh.count()
        loaded.added[contract.name] = loaded.added.get(contract.name, 0) + count
        if not count:
            return
        writer = Writer(config, place, NAME, NAME)
        last = writer.last(NAME)
        batch_id = last.batch_id + 1 if last else 0
        stamped = fresh.withColumns(
            {
                "ingested_at": F.current_timestamp(),
                "ingested_on": F.to_date(F.current_timestamp()),
                "batch_id": F.lit(batch_id).cast("bigint"),
            }
        )
        writer.append(stamped, step=NAME, batch_id=batch_id)
    finally:
        fresh.unpersist()
