"""Which rows a trial fits on, from a file and from tables; the expected ones are worked out by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from new_tables import create_tables

from schemas import tables
from schemas.contract import Contract
from spinney.core.config import Config, parse
from spinney.core.errors import ContractError, StoreError
from spinney.core.features.encoding import DAY_US, to_microseconds
from spinney.local.trial.rows import TrialRows, open_rows, read_file_rows, read_stored_rows
from spinney.sources import ReadOptions
from spinney.storage.layout import FleetStore
from spinney.tables.arrow_schemas import arrow_schema

TEXT = """\
[fleet]
group = ["shop", "dept"]
parents = [["dept"], []]
event_id = "sale"
event_time = "at"
target = "sold"
features = ["price", "at", "opened", "note"]
label_delay = "1h"
[fleet.columns]
shop = "string"
dept = "int"
price = "double"
opened = "date"
note = "string"
sold = "double"
[fleet.ranges]
price = [0, 100]
[recipe]
window = "10d"
[kafka]
events = "sales"
{outcomes}
[storage]
root = "{root}"
"""
START = datetime(2024, 5, 1, tzinfo=UTC)
A, B = '["a","1"]', '["b","1"]'


def configured(tmp_path: Path, *, late: bool = False, **environment: str) -> Config:
    text = TEXT.format(root=tmp_path / "root", outcomes='outcomes = "sold"' if late else "")
    return parse(text, "fleet.toml", environment)


def hour(n: float) -> datetime:
    return START + timedelta(hours=n)


def of(config: Config, place: Path, group_key: str) -> TrialRows:
    return read_file_rows(config.record_schema, open_rows(config.record_schema, str(place), ReadOptions()), group_key)


CSV = """\
sale,at,shop,dept,price,opened,note,sold
one,2024-05-01T00:00:00Z,a,1,1.5,2020-01-02,new,10
two,2024-05-01T02:00:00+02:00,a,1,,,,20
three,2024-05-01T01:00:00Z,b,1,2,2020-01-02,,30
,2024-05-01T01:00:00Z,a,1,2,2020-01-02,,40
five,,a,1,2,2020-01-02,,50
six,2024-05-01T01:00:00Z,a,1,101,2020-01-02,,60
seven,2024-05-01T01:00:00Z,a,1,2,2020-01-02,,
eight,2024-05-01T11:30:00Z,a,1,2,2020-01-02,,80
nine,2024-05-01T12:00:00Z,b,1,2,2020-01-02,,90
"""


def test_a_csv_gives_the_groups_mature_and_sound_rows_and_says_what_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "sales.csv").write_text(CSV)
    found = of(configured(tmp_path), tmp_path / "sales.csv", A)
    assert found.clock == hour(12)  # another group's
    assert found.frame["event_id"].tolist() == ["one", "two"]
    assert found.frame["event_time"].tolist() == [hour(0), hour(0)]
    assert found.frame["at"].tolist() == [hour(0), hour(0)]
    assert found.frame["label"].tolist() == [10, 20]
    assert found.frame["opened"].tolist() == [date(2020, 1, 2), None]
    assert found.frame["note"].tolist() == ["new", None]
    assert found.frame["group_key"].tolist() == [A, A]
    assert found.left_out == {
        "without an id or a time": 2,
        "outside fleet.ranges": 1,
        "without a label": 1,
        "younger than fleet.label_delay": 1,
    }


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_parquet_and_json_lines_give_the_same_rows_as_csv(tmp_path: Path, kind: str) -> None:
    config = configured(tmp_path)
    (tmp_path / "sales.csv").write_text(CSV)
    whole = pd.read_csv(tmp_path / "sales.csv", dtype={"dept": int})
    other = tmp_path / f"sales.{kind}"
    if kind == "jsonl":
        whole.to_json(other, orient="records", lines=True)
    else:
        whole.assign(at=pd.to_datetime(whole["at"], utc=True)).to_parquet(other)
    first, second = of(config, tmp_path / "sales.csv", A), of(config, other, A)
    pd.testing.assert_frame_equal(second.frame, first.frame, check_dtype=False)
    assert (second.clock, second.left_out) == (first.clock, first.left_out)


@pytest.mark.parametrize("key", [A, B])
def test_rows_of_other_groups_that_are_skipped_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    config = configured(tmp_path)
    (tmp_path / "sales.csv").write_text(CSV + "ten,2024-05-01T14:00:00Z,c,1,high,,,1\n")
    judged = of(config, tmp_path / "sales.csv", key)
    monkeypatch.setattr("spinney.local.trial.rows.FEW_ROWS", 0)
    skipped = of(config, tmp_path / "sales.csv", key)
    pd.testing.assert_frame_equal(skipped.frame, judged.frame)
    assert (skipped.clock, skipped.left_out) == (judged.clock, judged.left_out) == (hour(12), judged.left_out)
    with pytest.raises(ContractError, match=r'got those of \["a","1"\], \["b","1"\]'):
        of(config, tmp_path / "sales.csv", '["z","9"]')


def test_nan_is_no_value_and_so_in_every_range(tmp_path: Path) -> None:
    rows = {"sale": ["one", "two"], "at": [hour(0), hour(1)], "shop": "a", "dept": 1, "price": [float("nan"), 200.0]}
    frame = pd.DataFrame({**rows, "opened": None, "note": None, "sold": [1.0, 2.0]})
    frame = pd.concat([frame, frame[:1].assign(shop="b", at=hour(5))])
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), tmp_path / "sales.parquet")
    found = of(configured(tmp_path), tmp_path / "sales.parquet", A)
    assert found.frame["event_id"].tolist() == ["one"]
    assert found.left_out == {"outside fleet.ranges": 1}


def test_of_an_id_that_stands_twice_the_earliest_row_counts_and_others_are_left_out_by_their_reason(
    tmp_path: Path,
) -> None:
    rows = [
        "one,2024-05-01T02:00:00Z,a,1,1,,,10",
        "one,2024-05-01T01:00:00Z,a,1,2,,,20",
        "two,2024-05-01T01:00:00Z,a,1,high,,,30",
        "three,2024-05-01T01:00:00Z,a,1,3,,,many",
        "four,2024-05-01T09:00:00Z,b,1,3,,,40",
    ]
    (tmp_path / "sales.csv").write_text("\n".join([CSV.splitlines()[0], *rows]))
    found = of(configured(tmp_path), tmp_path / "sales.csv", A)
    assert found.frame["label"].tolist() == [20]
    assert found.left_out == {
        "with the id of another row": 1, "rejected: wrong_type in price": 1, "rejected: wrong_type in sold": 1,
    }  # fmt: skip


def test_labels_that_usually_come_later_are_taken_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "sales.csv").write_text(CSV)
    found = of(configured(tmp_path, late=True), tmp_path / "sales.csv", A)
    assert found.frame["label"].tolist() == [10, 20]
    assert found.left_out["without a label"] == 1


def test_on_the_walls_clock_rows_are_as_old_as_they_are_now(tmp_path: Path) -> None:
    (tmp_path / "sales.csv").write_text(CSV)
    found = of(configured(tmp_path, SPINNEY_FLEET__CLOCK="wall"), tmp_path / "sales.csv", A)
    assert found.clock > datetime(2025, 1, 1, tzinfo=UTC)
    assert found.frame["event_id"].tolist() == ["one", "two", "eight"]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ('["z","9"]', r"expected rows of group \[\"z\",\"9\"\]; got those of \[\"a\",\"1\"\]"),
        ('["a"]', "expected 2 columns, shop, dept, as a JSON list; got 1"),
        ('{"dept":"1"}', "got a parent"),
    ],
)
def test_a_group_that_is_not_there_is_reported_with_those_that_are(tmp_path: Path, key: str, message: str) -> None:
    (tmp_path / "sales.csv").write_text(CSV)
    with pytest.raises(ContractError, match=message):
        of(configured(tmp_path), tmp_path / "sales.csv", key)


def test_a_file_without_a_column_that_is_needed_is_refused_by_its_name(tmp_path: Path) -> None:
    rows = [{"sale": "one", "at": "2024-05-01T00:00:00Z", "shop": "a", "dept": 1, "price": 1.0}]
    (tmp_path / "sales.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(ContractError, match=r"it lacks sold and has sale, at, shop, dept, price\."):
        of(configured(tmp_path), tmp_path / "sales.jsonl", A)


def put(config: Config, base: Contract, *rows: Mapping[str, Any]) -> None:
    place = FleetStore.of(config).directory(base)
    schema = arrow_schema(place.contract)
    whole = [{name: row.get(name) for name in schema.names} for row in rows]
    write_deltalake(place.uri, pa.Table.from_pylist(whole, schema=schema), mode="append")


def event(key: str, name: str, at: datetime, **values: Any) -> dict[str, Any]:
    shop, dept = json.loads(key)
    row = {"shard": 0, "group_key": key, "event_id": name, "event_time": at, "shop": shop, "dept": int(dept)}
    return {**row, "ingested_on": START.date(), "opened": date(2020, 1, 2), **values}


def test_tables_give_the_rows_of_the_window_that_are_mature_and_labelled(tmp_path: Path) -> None:
    config = configured(tmp_path)
    create_tables(FleetStore.of(config))
    clock = 300  # ten days before it is hour 60
    put(
        config,
        tables.EVENTS,
        event(A, "too old", hour(59.9), price=1.0, sold=1.0),
        event(A, "oldest", hour(60), price=2.0, sold=2.0),
        event(A, "nothing known", hour(70), price=None, sold=3.0),
        event(A, "no label", hour(80), price=4.0),
        event(A, "newest", hour(clock - 1), price=5.0, sold=5.0),
        event(A, "too young", hour(clock - 0.9), price=6.0, sold=6.0),
        event(B, "another's", hour(clock), price=7.0, sold=7.0),
    )
    found = read_stored_rows(FleetStore.of(config), config.recipe.window, A)
    assert found.clock == hour(clock)
    frame = found.frame.sort_values("event_time")
    assert frame["event_id"].tolist() == ["oldest", "nothing known", "newest"]
    assert frame["label"].tolist() == [2, 3, 5]
    assert frame["at"].tolist() == frame["event_time"].tolist() == [hour(60), hour(70), hour(clock - 1)]
    assert found.left_out == {"without a label": 1}
    assert {"group_key", "price", "opened", "note"} <= set(frame)


def test_dates_at_the_ends_of_the_calendar_and_beyond_stop_no_trial(tmp_path: Path) -> None:
    config = configured(tmp_path)
    create_tables(FleetStore.of(config))
    place = FleetStore.of(config).directory(tables.EVENTS)
    schema = arrow_schema(place.contract)
    for at, day in enumerate([-719_528, 2_932_896]):  # 0000-01-01, which Python has not, and 9999-12-31
        row = event(A, f"{at}", hour(1), price=1.0, sold=1.0)
        whole = pa.Table.from_pylist([{name: row.get(name) for name in schema.names}], schema=schema)
        opened = pa.array([day], pa.int32()).cast(pa.date32())
        write_deltalake(place.uri, whole.set_column(schema.names.index("opened"), "opened", opened), mode="append")
    put(config, tables.EVENTS, event(A, "young", hour(9), price=1.0, sold=1.0))
    found = read_stored_rows(FleetStore.of(config), config.recipe.window, A)
    assert sorted(to_microseconds(found.frame["opened"])) == [-719_528 * DAY_US, 2_932_896 * DAY_US]


def test_late_labels_count_once_they_are_observed_and_the_first_of_several(tmp_path: Path) -> None:
    config = configured(tmp_path, late=True)
    create_tables(FleetStore.of(config))
    put(config, tables.EVENTS, *(event(A, name, hour(n), price=1.0) for n, name in enumerate("abc")))
    put(config, tables.EVENTS, event(B, "now", hour(50), price=1.0))

    def outcome(name: str, label: float, at: float) -> dict[str, Any]:
        return {"shard": 0, "group_key": A, "event_id": name, "label": label, "observed_at": hour(at)}

    put(config, tables.OUTCOMES, outcome("a", 9.0, 20), outcome("a", 1.0, 10), outcome("b", 2.0, 51))
    put(config, tables.OUTCOMES, outcome("c", 3.0, 50))
    found = read_stored_rows(FleetStore.of(config), config.recipe.window, A)
    assert dict(zip(found.frame["event_id"], found.frame["label"], strict=True)) == {"a": 1.0, "c": 3.0}
    assert found.left_out == {"without a label": 1}


def test_tables_that_are_not_there_or_empty_or_without_the_group_say_what_to_do(tmp_path: Path) -> None:
    config = configured(tmp_path)
    with pytest.raises(
        StoreError, match=r"no table events at .*; run `spinney init` and `spinney load`, or name a file"
    ):
        read_stored_rows(FleetStore.of(config), config.recipe.window, A)
    create_tables(FleetStore.of(config))
    with pytest.raises(StoreError, match="is empty"):
        read_stored_rows(FleetStore.of(config), config.recipe.window, A)
    put(config, tables.EVENTS, event(B, "b", hour(0), price=1.0, sold=1.0))
    with pytest.raises(StoreError, match=r'group \["a","1"\]: no event of it'):
        read_stored_rows(FleetStore.of(config), config.recipe.window, A)
