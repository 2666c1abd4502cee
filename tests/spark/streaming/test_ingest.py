"""What ingest writes of a batch, and who writes it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyspark.sql import functions as F

from schemas import tables
from spinney.stores import delta
from spinney.stores.layout import directory
from spinney.stores.validity import classified
from streaming import source
from streaming.ingest import Batches

AT = datetime(2024, 5, 1, 12, tzinfo=UTC)
SCHEMA = "key binary, value binary, topic string, kafka_partition int, kafka_offset bigint, record_time timestamp"
GOOD = b'{"shop":"a","dept":1,"sale":"s","at":"2024-05-01T10:00:00Z"}'
LARGE = b"x" * 2000


def engine(config, base) -> str:
    """Who made the table's first write."""
    log = Path(directory(config, base).uri) / "_delta_log" / f"{1:020}.json"
    (info,) = [
        action["commitInfo"] for action in map(json.loads, log.read_text().splitlines()) if "commitInfo" in action
    ]
    return info["engineInfo"].partition(":")[0].partition("/")[0]


@pytest.fixture
def few_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta, "FEW_BYTES", 3000)


def test_records_few_but_large_are_written_where_they_are(spark, world, few_bytes) -> None:
    fleet = world()
    values = [GOOD, LARGE, LARGE]
    rows = [(None, bytearray(value), "sales", 0, n, AT) for n, value in enumerate(values)]
    judged = classified(spark.createDataFrame(rows, SCHEMA), fleet.config, outcomes=False)
    kind = F.when(F.col("reason").isNull(), source.EVENT).otherwise(source.DEAD)
    Batches(fleet.config, "c")(judged.withColumn("kind", kind).withColumn("arrived_at", F.lit(AT)), 0)
    assert [row["event_id"] for row in fleet.rows(tables.EVENTS)] == ["s"]
    assert [row["value"] for row in fleet.rows(tables.DEAD_LETTERS)] == [LARGE, LARGE]
    assert engine(fleet.config, tables.EVENTS) != engine(fleet.config, tables.DEAD_LETTERS) == "Apache-Spark"
