"""Tables without a JVM: how they are made, and that a step is written once."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from schemas import tables
from spinney.core.errors import StoreError
from spinney.storage.layout import FleetStore
from spinney.storage.step_observer import observed_by
from spinney.tables import delta
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.delta import DirectoryWriter

AT = datetime(2024, 5, 1, 12, 30, 0, 123456, tzinfo=UTC)


def outcome(**given):
    row = {"shard": 1, "group_key": '["a","1"]', "event_id": "e1", "label": 2.5, "observed_at": AT, "topic": "sold"}
    return {**row, "kafka_partition": 0, "kafka_offset": 7, "ingested_at": AT, "batch_id": 0, **given}


def arrow(config, base, *rows, part: str = "") -> pa.Table:
    schema = arrow_schema(FleetStore.of(config).directory(base, part).contract)
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)


def ids(config) -> list[str]:
    return sorted(delta.read_table(FleetStore.of(config), tables.OUTCOMES).column("event_id").to_pylist())


def writer(config, query: str = "ingest", checkpoint: str = "c1") -> DirectoryWriter:
    return DirectoryWriter(FleetStore.of(config).directory(tables.OUTCOMES), query, checkpoint)


def test_every_table_is_open_to_readers_of_version_1_and_making_them_again_is_safe(configured) -> None:
    config = configured()
    made = delta.create_tables(FleetStore.of(config))
    assert sorted(made) == sorted(each.name for each in FleetStore.of(config).every_directory())
    assert delta.create_tables(FleetStore.of(config)) == []
    for each in FleetStore.of(config).every_directory():
        table = DeltaTable(each.uri)
        assert table.version() == 0
        assert table.protocol().min_reader_version == 1, each.name
        assert not table.protocol().reader_features
        assert tuple(table.metadata().partition_columns) == each.contract.partitioned_by
        assert table.metadata().configuration["delta.checkpointInterval"] == "200"


def test_a_table_of_an_earlier_version_gets_the_columns_that_have_come_since(configured) -> None:
    config = configured()
    place = FleetStore.of(config).directory(tables.DEAD_LETTERS)
    before = pa.schema([each for each in arrow_schema(place.contract) if each.name != "field"])
    row = {"value": b"?", "topic": "sales", "kafka_partition": 0, "kafka_offset": 3, "reason": "not_json"}
    write_deltalake(place.uri, pa.Table.from_pylist([{name: row.get(name) for name in before.names}], schema=before))

    delta.create_tables(FleetStore.of(config))

    late = {**row, "kafka_offset": 4, "reason": "wrong_type", "field": "price"}
    DirectoryWriter(place, "ingest", "c1").append(arrow(config, tables.DEAD_LETTERS, late), step="dead", batch_id=1)
    found = (
        delta.read_table(FleetStore.of(config), tables.DEAD_LETTERS, ["kafka_offset", "field"])
        .sort_by("kafka_offset")
        .to_pylist()
    )
    assert found == [{"kafka_offset": 3, "field": None}, {"kafka_offset": 4, "field": "price"}]
    version = delta.current_version(place)
    delta.create_tables(FleetStore.of(config))
    assert delta.current_version(place) == version


def test_a_table_of_other_columns_is_refused_with_what_differs(configured) -> None:
    delta.create_tables(FleetStore.of(configured()))
    says = r"table events at .*not in the table: size; not declared: price; of another type: none\).*restore"
    with pytest.raises(StoreError, match=says) as reported:
        delta.create_tables(
            FleetStore.of(
                configured(('price = "double"', 'size = "double"'), ('["price", "brand"]', '["size", "brand"]'))
            )
        )
    assert "storage.root" in str(reported.value)


def test_a_table_of_another_type_is_refused(configured) -> None:
    delta.create_tables(FleetStore.of(configured()))
    with pytest.raises(StoreError, match=r"table events .*of another type: dept integer there, string declared\)"):
        delta.create_tables(FleetStore.of(configured(('dept = "int"', 'dept = "string"'))))


def test_nothing_is_read_or_written_before_the_tables_are_made(configured) -> None:
    config = configured()
    assert delta.open_table(FleetStore.of(config).directory(tables.OUTCOMES)) is None
    for attempt in (
        lambda: writer(config),
        lambda: delta.read_table(FleetStore.of(config), tables.OUTCOMES),
        lambda: delta.pin_versions(FleetStore.of(config), tables.MODELS),
    ):
        with pytest.raises(StoreError, match="run `spinney init` first"):
            attempt()


def test_what_is_written_is_read_back_with_its_times_maps_and_nulls(configured) -> None:
    config = configured()
    delta.create_tables(FleetStore.of(config))
    full = {
        "shard": 3, "group_key": '["ü\\"","1"]', "event_id": "e", "event_time": AT, "answered_by": "own",
        "prediction": 1.5,
        "probabilities": {"yes": 0.75, "no": None}, "topic": "t", "kafka_partition": 1, "kafka_offset": 2**40,
        "scored_at": AT, "scored_on": date(2024, 5, 1), "batch_id": 4,
    }  # fmt: skip
    rows = arrow(config, tables.PREDICTIONS, full, {**full, "event_id": "f", "prediction": None, "probabilities": None})
    place = FleetStore.of(config).directory(tables.PREDICTIONS)
    assert DirectoryWriter(place, "score", "c").append(rows, step="predictions", batch_id=4)
    there = delta.read_table(FleetStore.of(config), tables.PREDICTIONS)
    assert there.schema.equals(arrow_schema(place.contract))
    by_id = {row["event_id"]: row for row in there.to_pylist()}
    assert by_id["e"] == {**dict.fromkeys(there.schema.names), **full, "probabilities": [("yes", 0.75), ("no", None)]}
    assert by_id["f"]["probabilities"] is None
    assert delta.read_table(FleetStore.of(config), tables.PREDICTIONS, ["event_time", "shard"]).column_names == [
        "event_time",
        "shard",
    ]


def test_a_logical_table_is_the_union_of_its_directories_and_each_has_its_pin(configured, put) -> None:
    config = configured()
    delta.create_tables(FleetStore.of(config))
    row = {"shard": 0, "group_key": "{}", "round_id": "r", "decision": "promoted", "epoch": 0, "batch_id": 0}
    row |= {"decided_at": AT, "clock": AT}
    put(config, tables.PROMOTIONS, [{**row, "model_id": "s"}], "stream")
    put(config, tables.PROMOTIONS, [{**row, "model_id": "p"}], "people")
    put(config, tables.PROMOTIONS, [{**row, "model_id": "q"}], "people")
    assert sorted(delta.read_table(FleetStore.of(config), tables.PROMOTIONS).column("model_id").to_pylist()) == [
        "p",
        "q",
        "s",
    ]
    assert delta.pin_versions(FleetStore.of(config), tables.PROMOTIONS, tables.EVENTS) == {
        "promotions/stream": 1, "promotions/batch": 0, "promotions/people": 2, "events": 0,
    }  # fmt: skip


def test_a_step_that_is_stored_is_not_written_again_after_a_restart(configured) -> None:
    config = configured()
    delta.create_tables(FleetStore.of(config))
    first = writer(config)
    assert not first.is_stored("outcomes", 0)
    assert first.append(arrow(config, tables.OUTCOMES, outcome(event_id="e0")), step="outcomes", batch_id=0)
    assert not first.append(arrow(config, tables.OUTCOMES, outcome(event_id="twice")), step="outcomes", batch_id=0)
    again = writer(config)
    assert again.is_stored("outcomes", 0)
    assert not again.is_stored("outcomes", 1)
    assert not again.append(arrow(config, tables.OUTCOMES, outcome(event_id="thrice")), step="outcomes", batch_id=0)
    assert again.append(arrow(config, tables.OUTCOMES, outcome(event_id="e1")), step="outcomes", batch_id=1)
    assert writer(config).is_stored("outcomes", 0)
    assert ids(config) == ["e0", "e1"]


def test_two_steps_and_two_queries_in_one_directory_are_distinguished(configured) -> None:
    config = configured()
    delta.create_tables(FleetStore.of(config))
    rows = arrow(config, tables.OUTCOMES, outcome())
    writer(config).append(rows, step="first", batch_id=3)
    assert not writer(config).is_stored("second", 3)
    assert writer(config).append(rows, step="second", batch_id=3)
    assert writer(config).is_stored("first", 3)
    loading = writer(config, "load", "other")
    assert not loading.is_stored("first", 0)
    loading.append(rows, step="first", batch_id=0)
    assert writer(config).last_commit("first").batch_id == 3


def test_a_step_in_parts_is_done_as_far_as_its_parts_are_stored(configured) -> None:
    config = configured()
    delta.create_tables(FleetStore.of(config))
    rows = arrow(config, tables.OUTCOMES, outcome())
    first = writer(config)
    assert [first.append(rows, step="s", batch_id=3, part=part) for part in (0, 1, 1, 0)] == [True, True, False, False]
    again = writer(config)
    assert [again.is_stored("s", *each) for each in ((2, 9), (3, 0), (3, 1), (3, 2), (4, 0))] == [True] * 3 + [
        False
    ] * 2
    assert again.last_commit("s").part == 1
    assert again.append(rows, step="s", batch_id=4)
    assert not writer(config).append(rows, step="s", batch_id=3, part=2)


def test_a_commit_says_whose_it_is_in_the_field_that_spark_uses(configured) -> None:
    config = configured()
    delta.create_tables(FleetStore.of(config))
    writer(config).append(arrow(config, tables.OUTCOMES, outcome()), step="s", batch_id=5, notes={"rows": 1, "at": AT})
    log = Path(FleetStore.of(config).directory(tables.OUTCOMES).uri) / "_delta_log" / f"{1:020}.json"
    (info,) = [
        action["commitInfo"] for action in map(json.loads, log.read_text().splitlines()) if "commitInfo" in action
    ]
    assert json.loads(info["userMetadata"]) == {
        "format": 1,
        "query": "ingest", "step": "s", "batch_id": 5, "checkpoint": "c1", "notes": {"rows": 1, "at": str(AT)},
        "part": 0,
    }  # fmt: skip
    assert writer(config).last_commit("s").notes["rows"] == 1


def test_commits_that_are_nobodys_step_are_passed_over(configured, put) -> None:
    config = configured()
    delta.create_tables(FleetStore.of(config))
    writer(config).append(arrow(config, tables.OUTCOMES, outcome()), step="s", batch_id=2)
    put(config, tables.OUTCOMES, [outcome(event_id="by hand")])
    DeltaTable(FleetStore.of(config).directory(tables.OUTCOMES).uri).optimize.compact()
    assert writer(config).is_stored("s", 2)


def test_a_foreign_checkpoint_is_refused_before_anything_is_written(configured) -> None:
    config = configured()
    delta.create_tables(FleetStore.of(config))
    writer(config).append(arrow(config, tables.OUTCOMES, outcome()), step="s", batch_id=2)
    with pytest.raises(
        StoreError, match=r"query ingest: table outcomes was written from checkpoint c1 \(up to batch 2\), .* now is c2"
    ):
        writer(config, checkpoint="c2")
    writer(config, "labels", "c2")


def test_a_writer_announces_a_step_once_after_it_was_stored(configured) -> None:
    config = configured()
    delta.create_tables(FleetStore.of(config))
    stored = []
    with observed_by(lambda name, batch: stored.append((name, batch, ids(config)))):
        writer(config).append(arrow(config, tables.OUTCOMES, outcome()), step="s", batch_id=2)
        writer(config).append(arrow(config, tables.OUTCOMES, outcome()), step="s", batch_id=2)
    assert stored == [("ingest.s", 2, ["e1"])]


def test_columns_declared_in_another_order_are_the_same_columns(configured) -> None:
    delta.create_tables(FleetStore.of(configured()))
    swapped = configured(('shop = "string"\ndept = "int"', 'dept = "int"\nshop = "string"'))
    assert delta.create_tables(FleetStore.of(swapped)) == []
    place = FleetStore.of(swapped).directory(tables.EVENTS)
    event = {"group_key": "k", "event_id": "e", "shop": "a", "dept": 3, "price": 1.5, "brand": "b", "event_time": AT}
    DirectoryWriter(place, "ingest", "c").append(arrow(swapped, tables.EVENTS, event), step="s", batch_id=0)
    for config in (configured(), swapped):
        (row,) = delta.read_table(FleetStore.of(config), tables.EVENTS).to_pylist()
        assert {name: row[name] for name in event} == event


def test_a_step_is_found_however_many_commits_of_others_came_after_it(configured, put, monkeypatch) -> None:
    monkeypatch.setattr(delta, "HISTORY_COMMITS", 3)
    config = configured()
    delta.create_tables(FleetStore.of(config))
    rows = arrow(config, tables.OUTCOMES, outcome())
    writer(config).append(rows, step="rare", batch_id=2)
    for batch_id in range(3, 6):
        writer(config).append(rows, step="often", batch_id=batch_id)
    again = writer(config)
    assert again.is_stored("rare", 2)
    assert not again.is_stored("rare", 3)
    assert not again.append(rows, step="rare", batch_id=2)
    for _ in range(4):
        put(config, tables.OUTCOMES, [outcome()])
    assert writer(config).last_commit("often").batch_id == 5
    with pytest.raises(StoreError, match="was written from checkpoint c1"):
        writer(config, checkpoint="c2")


def test_a_step_written_now_is_its_last_whatever_the_history_says(configured, put, monkeypatch) -> None:
    monkeypatch.setattr(delta, "HISTORY_COMMITS", 1)
    config = configured()
    delta.create_tables(FleetStore.of(config))
    rows = arrow(config, tables.OUTCOMES, outcome())
    writer(config).append(rows, step="a", batch_id=1)
    writer(config).append(rows, step="b", batch_id=1)
    now = writer(config)  # has seen the commit of b alone
    now.append(rows, step="b", batch_id=2)
    assert now.last_commit("a").batch_id == 1
    assert now.last_commit("b").batch_id == 2


def test_a_writer_opens_its_table_again_after_some_commits_as_appends_become_slower(configured, monkeypatch) -> None:
    config = configured()
    delta.create_tables(FleetStore.of(config))
    made, opened_at, open_table = writer(config), [], delta.open_table
    monkeypatch.setattr(delta, "REOPEN_AFTER_COMMITS", 3)

    def noted(*arguments):
        table = open_table(*arguments)
        opened_at.append(table.version())
        return table

    monkeypatch.setattr(delta, "open_table", noted)
    for n in range(8):
        made.append(arrow(config, tables.OUTCOMES, outcome(event_id=f"a{n}")), step="s", batch_id=n)
    assert opened_at == [3, 6]
    assert ids(config) == [f"a{n}" for n in range(8)]


def test_a_writer_goes_on_from_the_version_that_it_opened_whatever_others_commit(configured, monkeypatch) -> None:
    config = configured()
    delta.create_tables(FleetStore.of(config))
    made, other = writer(config), writer(config, "load", "c2")
    opened = delta.open_table
    monkeypatch.setattr(delta, "open_table", lambda *_: pytest.fail("opened again"))
    for n in range(3):
        made.append(arrow(config, tables.OUTCOMES, outcome(event_id=f"a{n}")), step="s", batch_id=n)
        other.append(arrow(config, tables.OUTCOMES, outcome(event_id=f"b{n}")), step="s", batch_id=n)
    DeltaTable(FleetStore.of(config).directory(tables.OUTCOMES).uri).optimize.compact()
    made.append(arrow(config, tables.OUTCOMES, outcome(event_id="a3")), step="s", batch_id=3)
    monkeypatch.setattr(delta, "open_table", opened)
    monkeypatch.setattr(delta, "REOPEN_AFTER_S", -1.0)
    made.append(arrow(config, tables.OUTCOMES, outcome(event_id="a4")), step="s", batch_id=4)
    assert ids(config) == ["a0", "a1", "a2", "a3", "a4", "b0", "b1", "b2"]
    assert writer(config).last_commit("s").batch_id == 4
