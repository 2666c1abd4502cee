"""Rows that are not valid, or not plain, in every kind of file: what is stored of them, and what is said."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from deltalake import write_deltalake
from handwritten_history import fleet_toml
from new_tables import create_tables

from batch.load import load
from schemas import tables
from schemas.contract import Contract
from spinney.cli import main
from spinney.core import keys
from spinney.core.config import Config, parse
from spinney.core.errors import Busy, ContractError, StoreError
from spinney.sources import ReadOptions
from spinney.sources.rejections import RejectionLimit
from spinney.storage import leases
from spinney.storage.layout import FleetStore
from spinney.storage.step_observer import observed_by
from spinney.tables import delta
from spinney.tables.arrow_schemas import arrow_schema

START = datetime(2024, 5, 1, 6, 30, 0, 123456, tzinfo=UTC)
ROW = {"shop": "a", "dept": 1, "sale": "s", "at": START, "price": 1.0}
LATE = 'outcomes = "sold"'


class Crash(Exception):  # noqa: N818 - said as what is so
    """The process ends here."""


def configured(root: Path, *changes: tuple[str, str], late: bool = False) -> Config:
    text = fleet_toml(root, kafka=LATE if late else "")
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    config = parse(text, "fleet.toml", {})
    create_tables(FleetStore.of(config))
    return config


def rows_of(config: Config, base: Contract) -> list[dict[str, Any]]:
    return [dict(row) for row in delta.read_table(FleetStore.of(config), base).to_pylist()]


def events(config: Config) -> dict[str, dict[str, Any]]:
    found = {row["event_id"]: row for row in rows_of(config, tables.EVENTS)}
    assert len(found) == len(rows_of(config, tables.EVENTS))
    return found


def parquet(place: Path, rows: list[Mapping[str, Any]] | pa.Table) -> str:
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist([dict(row) for row in rows])
    place.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, place)
    return str(place)


def put(config: Config, base: Contract, *rows: Mapping[str, Any]) -> None:
    place = FleetStore.of(config).directory(base)
    schema = arrow_schema(place.contract)
    whole = [{name: row.get(name) for name in schema.names} for row in rows]
    write_deltalake(place.uri, pa.Table.from_pylist(whole, schema=schema), mode="append")


@pytest.mark.parametrize(
    ("odd", "reason", "field"),
    [
        ({"shop": ""}, "empty_id", "shop"),
        ({"shop": None}, "null_key", "shop"),
        ({"shop": "x" * 513}, "id_too_long", "shop"),
        ({"shop": "a\n"}, "control_character", "shop"),
        ({"shop": "a\x7f"}, "control_character", "shop"),
        ({"shop": 1.5}, "wrong_type", "shop"),
        ({"sale": ""}, "empty_id", "sale"),
        ({"sale": None}, "missing_field", "sale"),
        ({"at": START - timedelta(days=30_000)}, "time_out_of_range", "at"),
        ({"at": None}, "missing_field", "at"),
        ({"at": datetime.now(UTC) + timedelta(days=2)}, "time_out_of_range", "at"),
        ({"at": "soon"}, "wrong_type", "at"),
        ({"price": float("inf")}, "not_finite", "price"),
        ({"price": "n/a"}, "wrong_type", "price"),
        ({"price": 101.0}, "out_of_range", "price"),
        ({"dept": 2**31}, "wrong_type", "dept"),
        ({"dept": 1.5}, "wrong_type", "dept"),
        ({"shop": "x" * 1_100_000}, "too_large", None),
    ],
)
def test_a_row_that_is_not_valid_is_a_dead_letter_and_the_others_are_stored(
    tmp_path: Path, odd: dict[str, Any], reason: str, field: str | None
) -> None:
    config = configured(tmp_path / "root", ("[kafka]", "[fleet.ranges]\nprice = [0, 100]\n[kafka]"))
    parquet(tmp_path / "hist" / "good.parquet", [ROW])
    (name,) = odd
    kind = "text" if isinstance(odd[name], str) and name in ("price", "at") else "typed"
    source = parquet(tmp_path / kind / "odd.parquet", [{**ROW, "sale": "odd", **odd}])
    found = load(config, source)
    assert found.added == {"events": 0, "dead_letters": 1}
    assert found.rejections.counts == {(reason, field): 1}
    (dead,) = rows_of(config, tables.DEAD_LETTERS)
    assert (dead["reason"], dead["kafka_offset"], dead["topic"]) == (reason, 0, f"load:{source}")
    assert load(config, source).added == {"events": 0, "dead_letters": 0}
    assert load(config, str(tmp_path / "hist")).added == {"events": 1, "dead_letters": 0}


@pytest.mark.parametrize(
    ("odd", "stored"),
    [
        ({"price": "12.50"}, {"price": 12.5}),
        ({"price": Decimal("12.50")}, {"price": 12.5}),
        ({"price": float("nan")}, {"price": None}),
        ({"price": ""}, {"price": None}),
        ({"dept": 3.0}, {"dept": 3}),
        ({"dept": "3"}, {"dept": 3}),
        ({"shop": 7}, {"shop": "7", "group_key": '["7","1"]'}),
        ({"shop": "x" * 512}, {"shop": "x" * 512}),
        ({"at": "2024-05-01"}, {"event_time": datetime(2024, 5, 1, tzinfo=UTC)}),
        ({"at": "2024-05-01 10:00:00+02:00"}, {"event_time": datetime(2024, 5, 1, 8, tzinfo=UTC)}),
        ({"at": date(2024, 5, 1)}, {"event_time": datetime(2024, 5, 1, tzinfo=UTC)}),
        ({"extra": "x" * 2_000_000}, {"price": 1.0}),
        ({"temp.f": 1.0, "back`tick": [1], "clock": time(1, 2)}, {"price": 1.0}),
    ],
)
def test_a_value_in_another_form_is_taken_where_nothing_is_lost(
    tmp_path: Path, odd: dict[str, Any], stored: dict[str, Any]
) -> None:
    config = configured(tmp_path / "root")
    assert load(config, parquet(tmp_path / "odd.parquet", [{**ROW, **odd}])).added["events"] == 1
    row = events(config)["s"]
    assert {name: row[name] for name in stored} == stored


NAMED = (
    ('price = "double"', 'price = "double"\nseen = "timestamp(ms)"'),
    ("[kafka]", '[fleet.fields]\nprice = "price.usd"\nshop = "Shop No."\n[kafka]'),
)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_fields_of_other_names_inside_others_and_numbers_as_times_are_read_from_every_kind_of_file(
    tmp_path: Path, kind: str
) -> None:
    config = configured(tmp_path / "root", *NAMED)
    rows = [
        {"Shop No.": f"0{n}", "dept": n, "sale": f"s{n}", "at": f"2024-05-01T0{n}:00:00Z", "seen": 1714521600000 + n}
        for n in range(3)
    ]
    nested = [{**row, "price": {"usd": n + 0.5, "eur": 1}} for n, row in enumerate(rows)]
    place = tmp_path / f"rows.{kind}"
    if kind == "parquet":
        parquet(place, nested)
    elif kind == "jsonl":
        place.write_text("\n".join(map(json.dumps, nested)))
    else:
        lines = [",".join([*rows[0], "price.usd"])]
        lines += [",".join(map(str, [*row.values(), n + 0.5])) for n, row in enumerate(rows)]
        place.write_text("\n".join(lines))
    assert load(config, str(place)).added == {"events": 3, "dead_letters": 0}
    second = events(config)["s2"]
    assert (second["shop"], second["price"], second["group_key"]) == ("02", 2.5, '["02","2"]')
    assert second["seen"] == datetime(2024, 5, 1, 0, 0, 0, 2000, tzinfo=UTC)


CSV = """\
sale;at;shop;dept;price;sold
s0;2024-05-01T00:00:00Z;007;1;1,5;1
s1;2024-05-01T01:00:00Z;NA;1;;2
s2;2024-05-01T02:00:00Z;007;1;n/a;3
s3;2024-05-01T03:00:00Z;007
s4;2024-05-01T04:00:00Z;"a
b";1;1;4
s5;2024-05-01T05:00:00Z;1e5;1;2,5;5
"""


def test_a_csv_is_loaded_like_any_other_file_and_each_bad_row_is_reported_by_its_number(tmp_path: Path) -> None:
    config = configured(tmp_path / "root")
    (tmp_path / "rows.csv").write_text(CSV)
    found = load(config, str(tmp_path / "rows.csv"))
    assert found.added == {"events": 3, "dead_letters": 3}
    stored = {name: (row["shop"], row["price"], row["sold"]) for name, row in events(config).items()}
    assert stored == {"s0": ("007", 1.5, 1.0), "s1": ("NA", None, 2.0), "s5": ("1e5", 2.5, 5.0)}
    text = {str(each["reason"]): (each["field"], each["row"]) for each in found.rejections.as_dicts()}
    assert text == {"wrong_type": ("price", 3), "not_an_object": (None, 4), "control_character": ("shop", 5)}
    dead = {row["reason"]: (row["kafka_offset"], row["value"]) for row in rows_of(config, tables.DEAD_LETTERS)}
    assert dead["not_an_object"] == (3, b'"s3;2024-05-01T03:00:00Z;007"')
    assert dead["wrong_type"][0] == 2
    assert json.loads(dead["wrong_type"][1])["price"] == "n/a"


def test_json_lines_are_loaded_and_their_answers_and_labels_with_them(tmp_path: Path) -> None:
    config = configured(tmp_path / "root", late=True)
    row = {"shop": "a", "dept": 1, "at": "2024-05-01T00:00:00Z", "price": 1}
    lines = [
        {**row, "sale": "s0", "sold": 1.5, "prediction": 2},
        {**row, "sale": "s1", "sold": None},
        {**row, "sale": "s2", "sold": 2, "observed_at": "2024-05-03", "prediction": "3.5"},
        {**row, "sale": "s3", "sold": "many"},
        {**row, "sale": "s4", "at": "soon", "sold": 4},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\nno")
    found = load(config, str(tmp_path / "rows.jsonl"))
    assert found.added == {"events": 4, "incumbent": 2, "outcomes": 2, "dead_letters": 3}
    assert found.rejections.counts == {("wrong_type", "sold"): 1, ("wrong_type", "at"): 1, ("not_json", None): 1}
    outcomes = {row["event_id"]: (row["label"], row["observed_at"]) for row in rows_of(config, tables.OUTCOMES)}
    assert outcomes == {
        "s0": (1.5, datetime(2024, 5, 1, tzinfo=UTC)), "s2": (2.0, datetime(2024, 5, 3, tzinfo=UTC)),
    }  # fmt: skip
    assert {row["event_id"]: row["prediction"] for row in rows_of(config, tables.INCUMBENT)} == {"s0": 2.0, "s2": 3.5}


def test_a_row_with_a_wrong_time_is_one_dead_letter_and_its_label_none(tmp_path: Path) -> None:
    config = configured(tmp_path / "root", late=True)
    rows = [{**ROW, "sale": f"s{n}", "at": f"2024-05-01T{n:02}:00:00", "sold": 1.0} for n in range(20)]
    rows[11]["at"] = "soon"
    found = load(config, parquet(tmp_path / "rows.parquet", rows))
    assert found.added == {"events": 19, "outcomes": 19, "dead_letters": 1}


SEEN_INSIDE = ("[kafka]", '[fleet.fields]\nobserved_at = "meta.seen"\n[kafka]')


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_label_whose_time_is_not_in_its_object_is_observed_after_the_delay_whatever_else_is_there(
    tmp_path: Path, kind: str
) -> None:
    config = configured(tmp_path / "root", SEEN_INSIDE, late=True)
    row = {"shop": "a", "dept": 1, "at": "2024-05-01T00:00:00Z", "price": 1.0, "meta": {"z": 1}}
    # By columns a plain number is surely valid, and a text with blanks or letters is validated by itself.
    rows = [{**row, "sale": f"s{n}", "sold": sold} for n, sold in enumerate(["2", " 3 ", "many"])]
    place = tmp_path / f"rows.{kind}"
    if kind == "parquet":
        parquet(place, rows)
    else:
        place.write_text("\n".join(map(json.dumps, rows)))
    found = load(config, str(place))
    assert found.rejections.counts == {("wrong_type", "sold"): 1}
    at = datetime(2024, 5, 1, tzinfo=UTC) + config.fleet.label_delay
    stored = {row["event_id"]: (row["label"], row["observed_at"]) for row in rows_of(config, tables.OUTCOMES)}
    assert stored == {"s0": (2.0, at), "s1": (3.0, at)}


def test_where_a_file_has_the_time_of_labels_inside_an_object_no_label_of_it_goes_without(tmp_path: Path) -> None:
    config = configured(tmp_path / "root", SEEN_INSIDE, late=True)
    metas: list[Any] = [{"seen": "2024-05-03"}, {"seen": None}, None]
    rows = [{**ROW, "sale": f"s{n}", "sold": 1.0, "meta": meta} for n, meta in enumerate(metas)]
    found = load(config, parquet(tmp_path / "rows.parquet", rows))
    assert found.rejections.counts == {("missing_field", "observed_at"): 2}
    assert [row["event_id"] for row in rows_of(config, tables.OUTCOMES)] == ["s0"]


def test_a_line_has_the_time_of_its_label_if_it_names_it(tmp_path: Path) -> None:
    config = configured(tmp_path / "root", SEEN_INSIDE, late=True)
    times: list[Any] = [{"meta": {"seen": "2024-05-03"}}, {"meta.seen": "2024-05-04"}, {"meta": {"seen": None}}, {}]
    row = {"shop": "a", "dept": 1, "at": "2024-05-01T00:00:00Z", "price": 1, "sold": 1}
    lines = [{**row, "sale": f"s{n}", **each} for n, each in enumerate(times)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = load(config, str(tmp_path / "rows.jsonl"))
    assert found.rejections.counts == {("missing_field", "observed_at"): 1}
    after = datetime(2024, 5, 1, tzinfo=UTC) + config.fleet.label_delay
    stored = {row["event_id"]: row["observed_at"] for row in rows_of(config, tables.OUTCOMES)}
    assert stored == {"s0": datetime(2024, 5, 3, tzinfo=UTC), "s1": datetime(2024, 5, 4, tzinfo=UTC), "s3": after}


def history() -> list[dict[str, Any]]:
    """Of six rows the fifth has no label, the fourth no price, and the last a price out of its range."""
    prices = [0.0, 1.0, 2.0, float("nan"), 4.0, 1000.0]
    labels = [0.0, 2.0, 4.0, 6.0, None, 10.0]
    return [
        {**ROW, "sale": f"s{n}", "at": START + timedelta(hours=n), "price": prices[n], "sold": labels[n]}
        for n in range(6)
    ]


LOADED = {"events": 5, "outcomes": 5, "dead_letters": 1}
HOUR = ('target = "sold"', 'target = "sold"\nlabel_delay = "1h"\nshards = 4')
RANGE = ("[kafka]", "[fleet.ranges]\nprice = [0, 100]\n[kafka]")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configured(tmp_path / "root", HOUR, RANGE, late=True)


@pytest.fixture
def source(tmp_path: Path) -> str:
    return parquet(tmp_path / "history.parquet", history())


def test_valid_rows_become_events_and_late_labels_and_bad_ones_dead_letters(config: Config, source: str) -> None:
    assert load(config, source).added == LOADED
    outcomes = {row["event_id"]: row for row in rows_of(config, tables.OUTCOMES)}
    assert events(config).keys() == {"s0", "s1", "s2", "s3", "s4"}
    # A label is a record of its own, valid even where its event is not.
    assert outcomes.keys() == {"s0", "s1", "s2", "s3", "s5"}
    key = '["a","1"]'
    second = events(config)["s1"]
    assert (second["group_key"], second["shard"]) == (key, keys.shard_of(key, 4))
    assert second["event_time"] == START + timedelta(hours=1)
    assert events(config)["s3"]["price"] is None  # NaN is how pandas writes nothing
    assert (outcomes["s2"]["label"], outcomes["s2"]["group_key"]) == (4.0, key)
    assert outcomes["s2"]["observed_at"] == START + timedelta(hours=2 + 1)  # label_delay after the event
    (dead,) = rows_of(config, tables.DEAD_LETTERS)
    assert (dead["reason"], dead["detail"]) == ("out_of_range", "price: expected 0 to 100; got 1000.0")
    assert b'"sale":"s5"' in dead["value"]


def test_loading_again_adds_nothing_and_a_longer_history_only_what_is_new(
    config: Config, source: str, tmp_path: Path
) -> None:
    assert load(config, source).duplicates == {"events": 0, "outcomes": 0}
    again = load(config, source)
    assert again.added == dict.fromkeys(LOADED, 0)
    assert again.duplicates == {"events": 5, "outcomes": 5}
    parquet(tmp_path / "history.parquet", [*history()[:5], {**history()[5], "sale": "new", "price": 1.0}])
    assert load(config, source).added == {"events": 1, "outcomes": 1, "dead_letters": 0}


def test_the_label_of_an_event_that_is_not_mature_is_observed_now(config: Config, tmp_path: Path) -> None:
    before = datetime.now(UTC)
    row = {**ROW, "at": before - timedelta(minutes=5), "sold": 1.0}
    assert load(config, parquet(tmp_path / "new.parquet", [row])).added == {
        "events": 1,
        "outcomes": 1,
        "dead_letters": 0,
    }
    (outcome,) = rows_of(config, tables.OUTCOMES)
    assert before <= outcome["observed_at"] <= datetime.now(UTC)


def test_what_was_ingested_is_not_loaded_again(config: Config, source: str) -> None:
    delta.create_tables(FleetStore.of(config))
    key = '["a","1"]'
    event = {"shard": keys.shard_of(key, 4), "group_key": key, "event_id": "s2", "event_time": START}
    put(config, tables.EVENTS, {**event, "shop": "a", "dept": 1, "ingested_on": START.date()})
    assert load(config, source).added["events"] == 4


def test_a_load_cut_off_between_events_and_outcomes_is_completed_by_the_next(
    config: Config, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(name: str, batch_id: int) -> None:
        raise Crash

    with observed_by(crash), pytest.raises(Crash):
        load(config, source)
    assert len(events(config)) == 5
    assert rows_of(config, tables.OUTCOMES) == []
    assert load(config, source).added == {**LOADED, "events": 0}


def test_a_delta_table_is_read_too_and_its_own_observed_at_counts(config: Config, tmp_path: Path) -> None:
    seen = START + timedelta(days=1)
    write_deltalake(tmp_path / "delta", pa.Table.from_pylist([{**row, "observed_at": seen} for row in history()[:3]]))
    assert load(config, str(tmp_path / "delta")).added["outcomes"] == 3
    assert {row["observed_at"] for row in rows_of(config, tables.OUTCOMES)} == {seen}


def test_outcomes_are_loaded_by_themselves(config: Config, tmp_path: Path) -> None:
    rows = [{name: row[name] for name in ("shop", "dept", "sale", "sold")} for row in history()[:3]]
    source = parquet(tmp_path / "sold.parquet", [{**row, "observed_at": START} for row in rows])
    assert load(config, source, outcomes=True).added == {"outcomes": 3, "dead_letters": 0}
    assert events(config) == {}


def test_nothing_there_or_a_running_ingest_is_reported(config: Config, source: str) -> None:
    with pytest.raises(ContractError, match=r"nowhere: expected a file that ends in \.parquet, .*; nothing is there"):
        load(config, "nowhere")
    with leases.held(FleetStore.of(config), ["ingest"]), pytest.raises(Busy, match="query ingest"):
        load(config, source)


def test_a_load_under_changed_shards_is_refused(config: Config, source: str) -> None:
    load(config, source)
    other = config.fleet.model_copy(update={"shards": 8})
    with pytest.raises(StoreError, match=r"fleet.shards was 4 when it was made and is 8 now"):
        load(config.model_copy(update={"fleet": other}), source)


def test_too_many_bad_rows_or_only_bad_ones_end_it_and_nothing_is_stored(tmp_path: Path) -> None:
    config = configured(tmp_path / "root")
    rows = [{**ROW, "sale": f"s{n}", "dept": None if n % 2 else 1} for n in range(40)]
    half = parquet(tmp_path / "half.parquet", rows)
    with pytest.raises(ContractError, match=r"more than --max-rejected: .*null_key in column dept.*Nothing was loaded"):
        load(config, half, options=ReadOptions(rejection_limit=RejectionLimit.parse("40%")))
    assert events(config) == {}
    assert load(config, half, options=ReadOptions(rejection_limit=RejectionLimit.parse("20"))).added["events"] == 20
    dead = parquet(tmp_path / "dead.parquet", [{**ROW, "sale": f"d{n}", "dept": None} for n in range(1_500)])
    with pytest.raises(ContractError, match="none of the first 1,000 rows is valid"):
        load(config, dead)
    assert len(rows_of(config, tables.DEAD_LETTERS)) == 20
    every = ReadOptions(rejection_limit=RejectionLimit.parse("100%"))
    assert load(config, dead, options=every).added == {"events": 0, "dead_letters": 1_500}


def test_a_column_that_one_file_lacks_never_becomes_null_by_itself(tmp_path: Path) -> None:
    config = configured(tmp_path / "root")
    parquet(tmp_path / "hist" / "a.parquet", [{name: value for name, value in ROW.items() if name != "price"}])
    parquet(tmp_path / "hist" / "b.parquet", [{**ROW, "sale": "t"}])
    with pytest.raises(ContractError, match=r"a\.parquet: column price: expected, since .*b\.parquet has it"):
        load(config, str(tmp_path / "hist"))
    allowed = ReadOptions(missing_as_null=True)
    assert load(config, str(tmp_path / "hist"), options=allowed).added == {"events": 2, "dead_letters": 0}
    assert {name: row["price"] for name, row in events(config).items()} == {"s": None, "t": 1.0}


def test_partitions_integers_beside_fractions_and_gaps_in_integers_are_read_by_the_columns_types(
    tmp_path: Path,
) -> None:
    config = configured(tmp_path / "root")
    rest = {"at": START, "dept": 1}
    parquet(tmp_path / "hist" / "shop=007" / "a.parquet", [{**rest, "sale": "a", "price": 1}])
    parquet(tmp_path / "hist" / "shop=7" / "b.parquet", [{**rest, "sale": "b", "price": 1.5}])
    parquet(
        tmp_path / "hist" / "shop=7" / "c.parquet",
        [{**rest, "sale": "c", "dept": n, "price": 1.5} for n in (3.0, None)],
    )
    assert load(config, str(tmp_path / "hist")).added == {"events": 3, "dead_letters": 1}
    found = {name: (row["group_key"], row["price"]) for name, row in events(config).items()}
    assert found == {"a": ('["007","1"]', 1.0), "b": ('["7","1"]', 1.5), "c": ('["7","3"]', 1.5)}


@pytest.mark.parametrize("coerce", ["true", "false"])
def test_values_of_paths_are_read_by_their_columns_types_and_missing_texts_are_null(
    tmp_path: Path, coerce: str
) -> None:
    config = configured(
        tmp_path / "root",
        ('price = "double"', 'price = "double"\nnote = "string"\nopen = "boolean"\ncost = "decimal(5,2)"'),
        ("[fleet.columns]", f'coerce = {coerce}\nmissing = ["", "NA"]\n[fleet.columns]'),
    )
    below = tmp_path / "hist" / "dept=2" / "price=1.50" / "note=NA" / "open=True" / "cost=1.5"
    parquet(below / "a.parquet", [{"shop": "a", "sale": "s", "at": START}])
    assert load(config, str(tmp_path / "hist")).added == {"events": 1, "dead_letters": 0}
    row = events(config)["s"]
    found = tuple(row[name] for name in ("dept", "price", "note", "open", "cost"))
    assert found == (2, 1.5, None, True, Decimal("1.50"))


def test_text_that_is_not_utf8_is_reported_as_such(tmp_path: Path) -> None:
    config = configured(tmp_path / "root")
    table = pa.Table.from_pylist([ROW, {**ROW, "sale": "t"}])
    texts = pa.Array.from_buffers(pa.string(), 2, pa.array([b"\xff", b"a"]).buffers())
    found = load(config, parquet(tmp_path / "odd.parquet", table.set_column(0, "shop", texts)))
    assert found.added == {"events": 1, "dead_letters": 1}
    assert found.rejections.counts == {("not_utf8", "shop"): 1}


def test_answers_of_classes_are_stored_as_the_fleet_names_them_and_others_refused(tmp_path: Path) -> None:
    config = configured(
        tmp_path / "root",
        ('target = "sold"', 'target = "sold"\ntask = "classification"'),
        ('sold = "double"', 'sold = "int"'),
    )
    rows = [{**ROW, "sale": f"s{n}", "sold": 1} for n in range(3)]

    def answered(*answers: Any) -> str:
        with_them = [{**row, "prediction": each} for row, each in zip(rows, answers, strict=True)]
        return parquet(tmp_path / "rows.parquet", with_them)

    load(config, answered(1.0, float("nan"), 0.0))  # whole numbers with a gap, as pandas has them
    stored = {row["event_id"]: row["prediction"] for row in rows_of(config, tables.INCUMBENT)}
    assert stored == {"s0": "1", "s2": "0"}
    for odd, shown in ((0.83, "the number 0.83"), (3e9, "the number 3000000000"), (float("inf"), "the number 1e999")):
        with pytest.raises(
            StoreError, match=rf"column prediction: expected int, the class .*; got {shown}\. Convert it"
        ):
            load(config, answered(1.0, None, odd))
    with pytest.raises(StoreError, match=r'column prediction: expected int, the class .* got the text "yes"'):
        load(config, answered("yes", "yes", "yes"))
    assert len(rows_of(config, tables.INCUMBENT)) == 2


@pytest.mark.parametrize("source", ["prediction", "prediction.usd"])
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_column_prediction_that_the_fleet_reads_as_its_own_is_no_answer(
    tmp_path: Path, source: str, kind: str
) -> None:
    config = configured(tmp_path / "root", ("[kafka]", f'[fleet.fields]\nprice = "{source}"\n[kafka]'))
    row = {"shop": "a", "dept": 1, "sale": "s", "at": "2024-05-01T00:00:00Z"}
    row["prediction"] = {"usd": 1.5} if "." in source else 1.5
    place = tmp_path / f"rows.{kind}"
    if kind == "parquet":
        parquet(place, [row])
    else:
        place.write_text(json.dumps(row))
    assert load(config, str(place)).added == {"events": 1, "dead_letters": 0}
    assert (events(config)["s"]["price"], rows_of(config, tables.INCUMBENT)) == (1.5, [])


def test_a_column_prediction_beside_one_whose_name_begins_like_it_is_the_answer(tmp_path: Path) -> None:
    config = configured(tmp_path / "root", ("[kafka]", '[fleet.fields]\nprice = "prediction.usd"\n[kafka]'))
    source = parquet(tmp_path / "rows.parquet", [{**ROW, "prediction": 2.0, "prediction.usd": 1.5}])
    assert load(config, source).added == {"events": 1, "incumbent": 1, "dead_letters": 0}
    assert events(config)["s"]["price"] == 1.5


def test_the_command_says_what_was_stored_what_was_there_and_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("fleet.toml").write_text(fleet_toml("root"))
    Path("rows.csv").write_text(CSV)
    done = CliRunner().invoke(main, ["load", "rows.csv"])
    assert done.exit_code == 1
    assert done.stdout.splitlines() == ["table\trows\tduplicates", "events\t3\t0", "dead_letters\t3\t–"]
    first = (
        'load: 1 rejected: wrong_type in price; the first: rows.csv row 3: price: expected double; got the text "n/a"'
    )
    assert first in done.stderr.splitlines()
    done = CliRunner().invoke(main, ["load", "rows.csv", "--json"])
    report = json.loads(done.stdout)
    assert (report["added"], report["duplicates"]) == ({"events": 0, "dead_letters": 0}, {"events": 3})
    assert (done.exit_code, report["rejected"], len(report["rejections"])) == (1, 3, 3)
    done = CliRunner().invoke(main, ["load", "rows.csv", "--max-rejected", "2"])
    assert done.exit_code == 1
    assert "more than --max-rejected" in done.stderr
    Path("rows.csv").write_text("\n".join(CSV.splitlines()[:3]))
    assert CliRunner().invoke(main, ["load", "rows.csv"]).exit_code == 0
