"""Spark and delta-rs write and read the same tables."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from functools import reduce
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from schemas import tables
from spinney.core import keys
from spinney.storage.layout import FleetStore
from spinney.tables import delta, lookup
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.delta import DirectoryWriter
from spinney.tables.lookup import NotAfter, RowFilter

AT = datetime(2024, 5, 1, 23, 59, 59, 999999, tzinfo=UTC)
ROWS = [
    {"event_id": "full", "prediction": 1.5, "probabilities": [("yes", 0.75), ("no", None)], "event_time": AT},
    {"event_id": "bare", "prediction": None, "probabilities": None, "event_time": datetime(1970, 1, 1, tzinfo=UTC)},
]
SAME = {
    "shard": 3, "group_key": '["ü\\"","1"]', "answered_by": "own", "topic": "t",
    "kafka_partition": 1, "kafka_offset": 2**40,
    "scored_at": AT, "scored_on": date(2024, 5, 1), "batch_id": 4,
}  # fmt: skip
WAYS = ("arrow", "spark")


def union(spark, config, base, pins=None):
    """All directories of a table, each as of its pinned version."""
    parts = [
        delta.spark_frame(spark, each, (pins or {}).get(each.name)) for each in FleetStore.of(config).directories(base)
    ]
    return reduce(DataFrame.unionByName, parts)


def table(world) -> pa.Table:
    schema = arrow_schema(FleetStore.of(world.config).directory(tables.PREDICTIONS).contract)
    return pa.Table.from_pylist([{**dict.fromkeys(schema.names), **SAME, **row} for row in ROWS], schema=schema)


def write(spark, world, way: str) -> None:
    rows = table(world)
    # Columns in another order and of another width: the writer puts both right.
    frame = spark.createDataFrame(rows).select(*reversed(rows.column_names)).withColumn("batch_id", F.lit(4))
    writer = DirectoryWriter(FleetStore.of(world.config).directory(tables.PREDICTIONS), "score", "c")
    given = {"arrow": {"rows": rows}, "spark": {"rows": frame}}[way]
    assert writer.append(**given, step="predictions", batch_id=4, notes={"at": AT})


def commit_metadata(world) -> dict:
    log = Path(FleetStore.of(world.config).directory(tables.PREDICTIONS).uri) / "_delta_log" / f"{1:020}.json"
    infos = [action["commitInfo"] for action in map(json.loads, log.read_text().splitlines()) if "commitInfo" in action]
    return json.loads(infos[0]["userMetadata"])


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_writing_leaves_the_same_rows_and_the_same_words(spark, world, way: str) -> None:
    fleet = world()
    write(spark, fleet, way)
    by_delta_rs = sorted(fleet.rows(tables.PREDICTIONS), key=lambda row: row["event_id"], reverse=True)
    assert by_delta_rs == table(fleet).to_pylist()
    by_spark = union(spark, fleet.config, tables.PREDICTIONS).orderBy(F.desc("event_id")).toArrow()
    assert by_spark.select(table(fleet).column_names).cast(table(fleet).schema).to_pylist() == by_delta_rs
    assert commit_metadata(fleet) == {
        "format": 1,
        "query": "score", "step": "predictions", "batch_id": 4, "checkpoint": "c", "notes": {"at": str(AT)},
        "part": 0,
    }  # fmt: skip
    again = DirectoryWriter(FleetStore.of(fleet.config).directory(tables.PREDICTIONS), "score", "c")
    assert not again.append(table(fleet), step="predictions", batch_id=4)
    assert again.last_commit("predictions").notes == {"at": str(AT)}


def test_a_pin_reads_the_table_as_it_was(spark, world) -> None:
    fleet = world()
    fleet.put(tables.PROMOTIONS, [{"group_key": "{}", "model_id": "old"}], "stream")
    pins = delta.pin_versions(FleetStore.of(fleet.config), tables.PROMOTIONS)
    fleet.put(tables.PROMOTIONS, [{"group_key": "{}", "model_id": "new"}], "people")
    now = union(spark, fleet.config, tables.PROMOTIONS)
    then = union(spark, fleet.config, tables.PROMOTIONS, pins)
    assert sorted(row.model_id for row in now.collect()) == ["new", "old"]
    assert [row.model_id for row in then.collect()] == ["old"]


def test_long_keys_that_spark_cuts_off_in_its_statistics_are_looked_up(spark, world) -> None:
    """It keeps 32 characters of a text; times it cuts to milliseconds."""
    fleet, shared = world(), "a shop with a name of many letters"
    group_keys = [keys.encode([shared + end, 1]) for end in ("", "a", "zz", "\x7f", "é", "\uffff", "\U0001f600")]
    place = FleetStore.of(fleet.config).directory(tables.MODELS, "batch")
    schema = arrow_schema(place.contract)
    writer = DirectoryWriter(place, "weekly", "c")
    for batch_id, key in enumerate(group_keys):
        row = {"group_key": key, "shard": keys.shard_of(key, 4), "model_id": key, "fitted_at": AT, "batch_id": batch_id}
        rows = pa.Table.from_pylist([{**dict.fromkeys(schema.names), **row}], schema=schema)
        writer.append(spark.createDataFrame(rows), step="fit", batch_id=batch_id)
    actions = pa.table(delta.open_table(place).get_add_actions(flatten=True))
    assert max(map(len, actions.column("min.group_key").to_pylist())) <= 32
    for key in group_keys:
        wanted = RowFilter.of_groups([key], NotAfter("fitted_at", AT))
        found = lookup.read_rows(FleetStore.of(fleet.config), tables.MODELS, ["group_key", "fitted_at"], wanted)
        assert lookup.to_dicts(found) == [{"group_key": key, "fitted_at": AT}]
