"""History without Kafka: validated as Kafka's records are, loaded once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from batch.load import load, spark_validation
from schemas import tables
from spinney.core import keys
from spinney.core.errors import Busy, StoreError
from spinney.stores import crashpoints, delta, leases
from spinney.stores.layout import directory

START = datetime(2024, 5, 1, 6, 30, 0, 123456, tzinfo=UTC)


class Crash(Exception):  # noqa: N818 - said as what is so
    """The process ends here."""


def history() -> pd.DataFrame:
    """Of six rows the fifth has no label, the fourth no price, and the last a stock out of its range."""
    rows = 6
    frame = pd.DataFrame({"shop": "a", "dept": np.array([1] * rows, "int32"), "sale": [f"s{n}" for n in range(rows)]})
    frame["at"] = [START + timedelta(hours=n) for n in range(rows)]
    frame["price"] = [float(n) for n in range(rows)]
    frame["stock"] = np.arange(rows, dtype="int32")
    frame["sold"] = [2.0 * n for n in range(rows)]
    frame.loc[3, "price"] = np.nan
    frame.loc[4, "sold"] = np.nan
    frame.loc[5, "stock"] = 1000
    return frame


@pytest.fixture
def fleet(world):
    return world(("[recipe]\n", "[fleet.ranges]\nstock = [0, 100]\n[recipe]\n"))


@pytest.fixture
def source(tmp_path: Path) -> str:
    file = tmp_path / "history.parquet"
    history().to_parquet(file, coerce_timestamps="us", index=False)
    return str(file)


def by_id(fleet, base) -> dict:
    rows = {row["event_id"]: row for row in fleet.rows(base)}
    assert len(rows) == len(fleet.rows(base)), "a row stands twice"
    return rows


LOADED = {"events": 5, "outcomes": 5, "dead_letters": 1}


def test_valid_rows_become_events_and_late_labels_and_bad_ones_dead_letters(spark, fleet, source: str) -> None:
    assert load(fleet.config, source, spark=spark).added == LOADED
    events, outcomes = by_id(fleet, tables.EVENTS), by_id(fleet, tables.OUTCOMES)
    assert events.keys() == {"s0", "s1", "s2", "s3", "s4"}
    # A label is a record of its own, valid even where its event is not.
    assert outcomes.keys() == {"s0", "s1", "s2", "s3", "s5"}
    key = '["a","1"]'
    second = events["s1"]
    assert (second["group_key"], second["shard"]) == (key, keys.shard_of(key, 4))
    assert (second["price"], second["stock"], second["dept"]) == (1.0, 1, 1)
    assert second["event_time"] == START + timedelta(hours=1)
    assert events["s3"]["price"] is None  # NaN is how pandas writes nothing
    assert (outcomes["s2"]["label"], outcomes["s2"]["group_key"]) == (4.0, key)
    assert outcomes["s2"]["observed_at"] == START + timedelta(hours=2 + 1)  # label_delay after the event
    (dead,) = fleet.rows(tables.DEAD_LETTERS)
    assert dead["reason"] == "out_of_range"
    assert dead["detail"] == "stock: 0 to 100 expected, got 1000"
    assert b'"sale":"s5"' in dead["value"]


def test_loading_again_adds_nothing_and_a_longer_history_only_what_is_new(spark, fleet, source: str) -> None:
    load(fleet.config, source, spark=spark)
    assert load(fleet.config, source, spark=spark).added == dict.fromkeys(LOADED, 0)
    longer = pd.concat([history()[:5], history().tail(1).assign(sale="new", stock=1)])
    longer.to_parquet(source, coerce_timestamps="us", index=False)
    assert load(fleet.config, source, spark=spark).added == {"events": 1, "outcomes": 1, "dead_letters": 0}
    assert "new" in by_id(fleet, tables.OUTCOMES)


def test_a_row_of_the_future_is_a_dead_letter_until_its_time_has_come(spark, fleet, tmp_path: Path) -> None:
    rows = history()[:2].drop(columns="sold")
    rows["at"] = [datetime.now(UTC) + timedelta(hours=hours) for hours in (0.5, 2)]
    rows.to_parquet(tmp_path / "ahead.parquet", coerce_timestamps="us", index=False)
    added = load(fleet.config, str(tmp_path / "ahead.parquet"), spark=spark).added
    assert added == {"events": 1, "dead_letters": 1}
    assert [row["reason"] for row in fleet.rows(tables.DEAD_LETTERS)] == ["time_out_of_range"]


def test_what_was_ingested_is_not_loaded_again(spark, fleet, source: str) -> None:
    fleet.put(tables.EVENTS, [fleet.event("a", 1, "s2", START)])
    assert load(fleet.config, source, spark=spark).added["events"] == 4


def test_a_load_cut_off_between_events_and_outcomes_is_completed_by_the_next(spark, fleet, source, monkeypatch) -> None:
    def crash(name: str, batch_id: int) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(crashpoints, "reached", crash)
        with pytest.raises(Crash):
            load(fleet.config, source, spark=spark)
    assert len(by_id(fleet, tables.EVENTS)) == 5
    assert fleet.rows(tables.OUTCOMES) == []
    assert load(fleet.config, source, spark=spark).added == {**LOADED, "events": 0}
    assert by_id(fleet, tables.OUTCOMES).keys() == {"s0", "s1", "s2", "s3", "s5"}


def test_dead_letters_are_told_apart_by_what_they_are_and_not_by_how_the_file_was_read(
    spark, fleet, source: str, monkeypatch
) -> None:
    load(fleet.config, source, spark=spark)
    read = spark_validation.read
    monkeypatch.setattr(spark_validation, "read", lambda *asked: read(*asked).repartition(3, "sale"))
    assert load(fleet.config, source, spark=spark).added == dict.fromkeys(LOADED, 0)


def test_a_delta_table_is_read_too_and_its_own_observed_at_counts(spark, fleet, tmp_path: Path) -> None:
    rows = history()[:3].assign(observed_at=START + timedelta(days=1))
    place = str(tmp_path / "history")
    spark.createDataFrame(rows).write.format("delta").save(place)
    assert load(fleet.config, place, spark=spark).added["outcomes"] == 3
    assert {row["observed_at"] for row in fleet.rows(tables.OUTCOMES)} == {START + timedelta(days=1)}


def test_outcomes_are_loaded_by_themselves(spark, fleet, tmp_path: Path) -> None:
    rows = history()[:3][["shop", "dept", "sale", "sold"]].assign(observed_at=START)
    rows.to_parquet(tmp_path / "sold.parquet", coerce_timestamps="us", index=False)
    added = load(fleet.config, str(tmp_path / "sold.parquet"), outcomes=True, spark=spark).added
    assert added == {"outcomes": 3, "dead_letters": 0}
    assert fleet.rows(tables.EVENTS) == []


def test_nothing_there_or_a_running_ingest_is_said(spark, fleet, source: str) -> None:
    with pytest.raises(StoreError, match="load: nothing at nowhere; expected a Parquet file or folder, or a Delta"):
        load(fleet.config, "nowhere", spark=spark)
    with leases.held(fleet.config, ["ingest"]), pytest.raises(Busy, match="query ingest"):
        load(fleet.config, source, spark=spark)
    assert delta.version(fleet.config, directory(fleet.config, tables.EVENTS)) == 0


def test_a_load_under_changed_shards_or_columns_is_refused(spark, fleet, world, source: str) -> None:
    load(fleet.config, source, spark=spark)
    other = fleet.config.fleet.model_copy(update={"shards": 8})
    with pytest.raises(StoreError, match=r"fleet.shards was 4 when it was made and is 8 now"):
        load(fleet.config.model_copy(update={"fleet": other}), source, spark=spark)
