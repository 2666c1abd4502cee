"""Write the class archives: run Spark and a broker once, with the classes that the streaming queries load.

Each JVM writes its archive as it ends. ``python -m spinney.local.class_archive_training`` takes about a minute of CPU
time, once per installation.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pyarrow as pa
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.state import GroupState

from spinney.local.broker import Broker
from spinney.local.class_archives import QUIET, ArchiveUse, archive_file, empty_conf_folder
from spinney.local.java_and_jars import runtime, spark_home
from spinney.spark.class_archive_options import ClassArchiveOptions
from spinney.spark.session import SHORT_LIVED, end_jvm, session

TOPIC = "training"
RECORDS = 8
DUMP_TIMEOUT_S = 120.0


def write_archives() -> tuple[Path, ...]:
    """Write the archives unless both exist. Returns those that exist now.

    A Java that has no archive of its own classes writes none.

    Raises:
        SetupError: Spark or the broker does not start.
        OSError: the folder cannot be written.
    """
    home = spark_home()
    files = {use: archive_file(use, home) for use in ArchiveUse}
    if not all(file.is_file() for file in files.values()):
        empty_conf_folder(home).mkdir(parents=True, exist_ok=True)
        parts = {use: file.with_suffix(".part") for use, file in files.items()}
        with TemporaryDirectory() as place:
            _train(Path(place), parts, empty_conf_folder(home))
        for use, part in parts.items():
            if part.is_file():
                part.replace(files[use])
    return tuple(file for file in files.values() if file.is_file())


def _train(place: Path, parts: Mapping[ArchiveUse, Path], conf_folder: Path) -> None:
    """Run both JVMs until they end. parts: the files to which they write their archives."""
    options = (f"-XX:ArchiveClassesAtExit={parts[ArchiveUse.BROKER]}", *QUIET)
    with Broker(place / "kafka", java_options=options, stop_timeout_s=DUMP_TIMEOUT_S) as broker:
        archive = ClassArchiveOptions((f'"-XX:ArchiveClassesAtExit={parts[ArchiveUse.SPARK]}"', *QUIET), conf_folder)
        spark = session(runtime=replace(runtime(), class_archive=archive), options=SHORT_LIVED)
        _send_records(broker.bootstrap_servers)
        _run_queries(spark, broker.bootstrap_servers, place)
        end_jvm(spark, DUMP_TIMEOUT_S)


def _send_records(servers: str) -> None:
    client = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    for made in client.create_topics([NewTopic(TOPIC, 1)]).values():
        made.result()
    producer = Producer({"bootstrap.servers": servers, "log_level": 0})
    for number in range(RECORDS):
        producer.produce(TOPIC, str(number).encode(), str(number % 2).encode())
    producer.flush()


def _run_queries(spark: SparkSession, servers: str, place: Path) -> None:
    """Run a query with the parts of the four queries: Kafka, state in Python, Delta, Arrow in tasks, rows on the
    driver.
    """
    table = str(place / "table")
    options = {"kafka.bootstrap.servers": servers, "subscribe": TOPIC, "startingOffsets": "earliest"}
    records = spark.readStream.format("kafka").options(**options).load()
    sums = (
        records.selectExpr("CAST(key AS STRING) AS key", "length(value) AS length")
        .groupBy("key")
        .applyInPandasWithState(_sum_lengths, "key string, length bigint", "total bigint", "append", "NoTimeout")
    )
    _drain(sums, place / "sums", lambda batch, _: batch.write.format("delta").mode("append").save(table))
    rows = spark.readStream.format("delta").load(table)
    _drain(rows, place / "rows", lambda batch, _: batch.mapInArrow(_unchanged, batch.schema).toArrow())


def _drain(rows: DataFrame, checkpoint: Path, write: Callable[[DataFrame, int], Any]) -> None:
    writer = rows.writeStream.option("checkpointLocation", str(checkpoint)).trigger(availableNow=True)
    writer.foreachBatch(lambda batch, batch_id: (write(batch, batch_id), None)[1]).start().awaitTermination()


def _sum_lengths(key: tuple[Any, ...], frames: Iterable[pd.DataFrame], state: GroupState) -> Iterator[pd.DataFrame]:
    total = sum(int(frame["length"].sum()) for frame in frames)
    state.update((total,))
    yield pd.DataFrame({"key": [key[0]], "length": [total]})


def _unchanged(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield from batches


def main() -> None:
    """Write the archives and say on standard error how many there are. Without them every start only takes longer."""
    try:
        sys.stderr.write(f"{len(write_archives())} class archives\n")
    except Exception as error:
        sys.stderr.write(f"no class archives: {error}. Spark and the broker start more slowly\n")


if __name__ == "__main__":
    main()
