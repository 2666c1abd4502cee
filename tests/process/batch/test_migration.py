"""A living fleet gets other columns: loaded, fitted, migrated, and it goes on. Without Spark."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from deltalake.table import TableAlterer
from edited_fleet import no_spark
from handwritten_history import Past
from loaded_stores import START, fit, sell

from batch.load import load
from batch.weekly import retrain
from schemas import tables
from schemas.messages import EVENT, OUTCOME
from spinney.core.config import Config, parse
from spinney.core.errors import Busy, StoreError
from spinney.core.records.rules import build_rules
from spinney.core.records.validation import validate
from spinney.fleet import Fleet
from spinney.local.backtest.file_rows import open_history, read_history
from spinney.local.trial.rows import open_rows, read_file_rows
from spinney.operations import clustering
from spinney.operations.dead_letters.assessment import RecordAssessor, RecordId
from spinney.operations.migration import MigrationPlan, carry_out_migration, events_table, plan_migration
from spinney.serving.manifest import Manifest, write_manifest
from spinney.sources.options import ReadOptions
from spinney.storage import charter, leases, signing_key
from spinney.storage.layout import FleetStore
from spinney.storage.step_observer import observed_by
from spinney.tables import delta, table_files
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.delta import DirectoryWriter

TEXT = """\
[fleet]
name = "stores"
group = ["store"]
event_id = "id"
event_time = "at"
target = "sold"
features = {features}
[fleet.columns]
store = "string"
sold = "double"
{columns}
[fleet.fields]
{fields}
[recipe]
min_rows = 5
[kafka]
events = "t.events"
{kafka}
[storage]
root = "{root}"
[tracking]
mode = "off"
"""
X = 'x = "int"'
Edit = Callable[..., Config]


SECRET = "k" * 32


@pytest.fixture
def edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Edit:
    """The fleet's configuration with other columns besides store and sold."""
    monkeypatch.setenv(signing_key.KEY, SECRET)
    return editor(tmp_path)


def editor(place: Path) -> Edit:
    def edit(
        *columns: str, features: tuple[str, ...] = ("x",), fields: str = "", kafka: str = "", root: str = "root"
    ) -> Config:
        text = TEXT.format(
            root=place / root,
            features=json.dumps(list(features)),
            columns="\n".join(columns or (X,)),
            fields=fields,
            kafka=kafka,
        )
        (place / "fleet.toml").write_text(text)
        return parse(text, "fleet.toml", {})

    return edit


def seventh(n: int) -> int:
    return n % 7


def events(config: Config) -> list[dict[str, Any]]:
    """What is stored of store s1, oldest first."""
    place = FleetStore.of(config).directory(tables.EVENTS)
    rows = DeltaTable(place.uri).to_pyarrow_table().to_pylist()
    return sorted((row for row in rows if row["store"] == "s1"), key=lambda row: row["event_time"])


def answers(config: Config, **columns: list[Any]) -> tuple[list[float], list[str]]:
    frame = pd.DataFrame({"store": ["s0", "s1"], "at": [START] * 2, **columns})
    found = Fleet(config).predict(frame)
    return found["prediction"].tolist(), found["answered_by"].tolist()


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of three stores with 40 events each, all with a model."""
    place = tmp_path_factory.mktemp("fitted")
    config = editor(place)()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(signing_key.KEY, SECRET)
        sell(config, place, 0, x=seventh)
        fit(config)
    return place / "root"


@pytest.fixture
def living(fitted: Path, edited: Edit, tmp_path: Path) -> Config:
    """The same fleet at a root of its own."""
    shutil.copytree(fitted, tmp_path / "root")
    return edited()


@pytest.fixture
def made(edited: Edit) -> Config:
    """A fleet that has begun and has no events."""
    config = edited()
    charter.ensure_charter(FleetStore.of(config))
    delta.create_tables(FleetStore.of(config))
    return config


def test_an_added_column_is_null_in_old_rows_read_from_then_on_and_fitted(
    living: Config, edited: Edit, tmp_path: Path
) -> None:
    before, files = (
        answers(living, x=[1, 2]),
        DeltaTable(FleetStore.of(living).directory(tables.EVENTS).uri).file_uris(),
    )
    config = edited(X, 'rate = "double"', features=("x", "rate"))
    with pytest.raises(StoreError, match=r"fleet.columns was \{\} .* is \{\"rate\": \"double\"\} now.*spinney migrate"):
        sell(config, tmp_path, 40, x=seventh, rate=float)
    done = carry_out_migration(FleetStore.of(config), {})
    assert [(each.kind, each.name, each.becomes) for each in done.changes] == [("added", "rate", "double")]
    assert DeltaTable(FleetStore.of(config).directory(tables.EVENTS).uri).file_uris() == files
    assert answers(config, x=[1, 2], rate=[0.0, 0.0]) == before
    sell(config, tmp_path, 40, x=seventh, rate=float)
    stored = events(config)
    assert [row["rate"] for row in stored] == [None] * 40 + [float(n) for n in range(40, 80)]
    fit(config)
    assert answers(config, x=[1, 2], rate=[50.0, 50.0])[1] == ["own", "own"]
    story = Fleet(config).why('["s1"]')
    assert "with rate" not in str(story) or story.happened
    assert len(Fleet(config).groups()) == 3


def test_a_dropped_column_stays_in_the_table_and_its_models_answer_as_where_it_is_missing(
    edited: Edit, tmp_path: Path
) -> None:
    both = (X, 'z = "double"')
    config = edited(*both, features=("x", "z"))
    sell(config, tmp_path, 0, x=seventh, z=float)
    fit(config)
    missing = answers(config, x=[1, 2], z=[None, None])
    config = edited()
    carry_out_migration(FleetStore.of(config), {})
    assert answers(config, x=[1, 2]) == missing
    sell(config, tmp_path, 40, x=seventh)
    assert [row["z"] for row in events(config)] == [float(n) for n in range(40)] + [None] * 40
    fit(config, unproven=True)
    assert answers(config, x=[1, 2])[1] == ["own", "own"]
    # Declared again, its values of before are there.
    config = edited(*both, features=("x", "z"))
    carry_out_migration(FleetStore.of(config), {})
    read = delta.read_table(FleetStore.of(config), tables.EVENTS, ["z"]).column("z")
    assert (read.null_count, len(read)) == (120, 240)


def test_a_renamed_column_keeps_its_values_and_its_models(living: Config, edited: Edit, tmp_path: Path) -> None:
    before = answers(living, x=[1, 2])
    message = plan_migration(
        FleetStore.of(edited('size = "int"', features=("size",), fields='size = "x"')), {"x": "size"}
    ).notes
    assert any("Messages and files keep the name x for the field" in each for each in message)
    config = edited('size = "int"', features=("size",))
    done = carry_out_migration(FleetStore.of(config), {"x": "size"})
    assert any("Messages and files must name the field size from now on" in each for each in done.notes)
    assert answers(config, size=[1, 2]) == before
    sell(config, tmp_path, 40, size=seventh)
    assert [row["size"] for row in events(config)] == [n % 7 for n in range(80)]
    assert "x" not in events(config)[0]
    reported: list[Any] = []
    retrain(config, spark=no_spark, show=lambda _, message: reported.append(message))
    assert any("compared on its newest rows with a refit of the old recipe" in str(each) for each in reported)
    assert answers(config, size=[1, 2])[1] == ["own", "own"]


def test_a_widened_column_keeps_each_value_and_its_models_are_compared(
    living: Config, edited: Edit, tmp_path: Path
) -> None:
    before = answers(living, x=[1, 2])
    config = edited('x = "double"')
    carry_out_migration(FleetStore.of(config), {})
    assert answers(config, x=[1, 2]) == before
    sell(config, tmp_path, 40, x=lambda n: n % 7 + 0.5)
    stored = [float(n % 7) for n in range(40)] + [n % 7 + 0.5 for n in range(40, 80)]
    assert [row["x"] for row in events(config)] == stored
    fit(config)
    decided = delta.read_table(
        FleetStore.of(config), tables.PROMOTIONS, ["group_key", "fitted_at", "champion_loss"]
    ).sort_by("fitted_at")
    assert [row["champion_loss"] is not None for row in decided.to_pylist()] == [False] * 3 + [True] * 3


def test_what_is_registered_after_a_migration_answers_by_the_models_of_before(
    living: Config, edited: Edit, tmp_path: Path
) -> None:
    before = answers(living, x=[1, 2])
    config = edited('size = "int"', features=("size",))
    carry_out_migration(FleetStore.of(config), {"x": "size"})
    (tmp_path / "manifest").mkdir()
    write_manifest(config, Fleet(config).champions(), tmp_path / "manifest")
    frame = pd.DataFrame({"store": ["s0", "s1"], "at": [START] * 2, "size": [1, 2]})
    assert Manifest(tmp_path / "manifest").predict(frame)["prediction"].tolist() == before[0]


def test_a_dry_run_says_what_would_happen_and_changes_nothing(living: Config, edited: Edit, tmp_path: Path) -> None:
    def all_files() -> dict[str, bytes]:
        return {str(file): file.read_bytes() for file in (tmp_path / "root").rglob("*") if file.is_file()}

    there = all_files()
    (table,) = plan_migration(FleetStore.of(edited('size = "int"', features=("size",))), {"x": "size"}).tables
    (file,) = table_files.list_files(DeltaTable(FleetStore.of(living).directory(tables.EVENTS).uri))
    assert (table.table, table.rows, table.files, table.bytes) == ("events", 120, 1, file.bytes)
    assert table.what == "every file is written again, in one commit"
    found = plan_migration(FleetStore.of(edited(X, 'rate = "double"')), {})
    assert found.tables[0].what == "its schema gets rate, null in its rows; no file is touched"
    found = plan_migration(FleetStore.of(edited('y = "int"', features=("y",))), {})
    assert [str(each.kind) for each in found.changes] == ["added", "dropped"]
    assert any("--rename x=y" in each for each in found.notes)
    assert plan_migration(FleetStore.of(living), {}).changes == ()
    assert all_files() == there


def test_files_keep_their_order_their_partitions_and_their_statistics_when_they_are_written_again(
    living: Config, edited: Edit, tmp_path: Path
) -> None:
    place = FleetStore.of(living).directory(tables.EVENTS)
    sell(living, tmp_path, 40, x=lambda n: n)
    clustering.cluster(DeltaTable(place.uri), "events", is_requested=True)
    sell(living, tmp_path, 80, x=lambda n: n)
    before = {file.path for file in table_files.list_files(DeltaTable(place.uri))}
    rows = DeltaTable(place.uri).to_pyarrow_table().sort_by([("group_key", "ascending"), ("event_time", "ascending")])
    config = edited('x = "bigint"')
    carry_out_migration(FleetStore.of(config), {})
    table = DeltaTable(place.uri)
    files = table_files.list_files(table)
    assert len(files) == 2
    assert not before & {file.path for file in files}
    assert sorted((file.is_clustered, file.rows, file.ranges["x"]) for file in files) == [
        (False, 120, (80, 119)),
        (True, 240, (0, 79)),
    ]
    assert all(file.partition["ingested_on"] is not None for file in files)
    for file in files:
        read = pq.read_table(table_files.table_folder(table) / file.path, partitioning=None)
        order = read.select(["shard", "group_key", "event_time", "event_id"]).to_pylist()
        assert order == sorted(order, key=lambda row: tuple(row.values()))
    now = table.to_pyarrow_table().sort_by([("group_key", "ascending"), ("event_time", "ascending")])
    assert now.to_pylist() == rows.to_pylist()
    assert table.protocol().min_reader_version == 1
    assert table.metadata().configuration["delta.checkpointInterval"] == "200"


def test_a_batch_that_was_stored_before_the_migration_is_not_stored_again(living: Config, edited: Edit) -> None:
    place = FleetStore.of(living).directory(tables.EVENTS)
    row = {"shard": 1, "group_key": "k", "event_id": "e", "store": "s", "x": 1, "event_time": START}
    row["ingested_on"] = START.date()
    schema = arrow_schema(place.contract)
    rows = pa.Table.from_pylist([{name: row.get(name) for name in schema.names}], schema=schema)
    assert DirectoryWriter(place, "ingest", "c").append(rows, step="events", batch_id=7, notes={"seen": 1})
    config = edited('size = "bigint"', features=("size",))
    carry_out_migration(FleetStore.of(config), {"x": "size"})
    place = FleetStore.of(config).directory(tables.EVENTS)
    later = DirectoryWriter(place, "ingest", "c")
    assert later.is_stored("events", 7)
    assert not later.is_stored("events", 8)
    last = later.last_commit("events")
    assert last is not None
    assert last.notes == {"seen": 1}


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ('x = "string"', r"fleet.columns.x: was int and is string now: expected the same type or a wider one"),
        ('x = "tinyint"', r"fleet.columns.x: was int and is tinyint now"),
    ],
)
def test_a_type_that_does_not_hold_every_value_is_refused(made: Config, edited: Edit, columns: str, says: str) -> None:
    with pytest.raises(StoreError, match=says):
        plan_migration(FleetStore.of(edited(columns)), {})


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ('group = ["store"]', 'group = ["store", "x"]', r"fleet.group was .* every stored key, model and decision"),
        ('event_id = "id"', 'event_id = "sale"', r"fleet.event_id was \"id\""),
        ('event_time = "at"', 'event_time = "when"', r"fleet.event_time was"),
        ('target = "sold"', 'target = "x2"', r"fleet.target was"),
        ('target = "sold"', 'target = "sold"\nclock = "wall"', r"fleet.clock was"),
        ('target = "sold"', 'target = "sold"\nshards = 8', r"fleet.shards was 64"),
        ('events = "t.events"', 'events = "u.events"', r"kafka.events was .* the checkpoints hold offsets"),
        ('events = "t.events"', 'events = "t.events"\noutcomes = "t.o"', r"kafka.outcomes was null"),
    ],
)
def test_what_no_migration_changes_is_refused_with_the_reason_and_a_way(
    made: Config, tmp_path: Path, before: str, after: str, says: str
) -> None:
    text = (tmp_path / "fleet.toml").read_text().replace(before, after).replace(X, f'{X}\nx2 = "int"')
    with pytest.raises(StoreError, match=says + r"(.|\n)*another storage.root and give it the history: spinney load"):
        plan_migration(FleetStore.of(parse(text, "fleet.toml", {})), {})


def test_a_whole_number_without_a_double_stops_the_migration_before_it_changes_anything(
    edited: Edit, tmp_path: Path
) -> None:
    config = edited('x = "bigint"')
    sell(config, tmp_path, 0, x=lambda n: 2**53 + n)
    there = DeltaTable(FleetStore.of(config).directory(tables.EVENTS).uri).version()
    with pytest.raises(StoreError, match=r"column x: expected values that are exact as double"):
        carry_out_migration(FleetStore.of(edited('x = "double"')), {})
    assert DeltaTable(FleetStore.of(config).directory(tables.EVENTS).uri).version() == there
    # What was begun is forgotten with the configuration as it was.
    carry_out_migration(FleetStore.of(edited('x = "bigint"')), {})
    assert charter.ensure_charter(FleetStore.of(edited('x = "bigint"'))).unfinished_migration is None


def test_a_migration_waits_for_every_process_of_the_fleet(made: Config, edited: Edit) -> None:
    config = edited(X, 'rate = "double"')
    for name in ("score", "people", "registry"):
        with (
            leases.held(FleetStore.of(config), [name]),
            pytest.raises(Busy, match=f"query {name} of fleet stores: another process"),
        ):
            carry_out_migration(FleetStore.of(config), {})
    carry_out_migration(FleetStore.of(config), {})


def test_a_dropped_column_declared_with_other_case_is_refused_before_anything_is_begun(
    edited: Edit, made: Config
) -> None:
    carry_out_migration(FleetStore.of(edited(X, 'size = "double"')), {})
    carry_out_migration(FleetStore.of(edited()), {})
    with pytest.raises(StoreError, match="Call it size, or choose another name"):
        carry_out_migration(FleetStore.of(edited(X, 'Size = "double"')), {})
    assert charter.ensure_charter(FleetStore.of(edited())).unfinished_migration is None


def test_what_delta_refuses_is_reported_and_the_columns_may_be_put_back(
    edited: Edit, made: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise DeltaError("no such column mapping")

    config = edited(X, 'rate = "double"')
    with monkeypatch.context() as patched:
        patched.setattr(TableAlterer, "add_columns", refuse)
        with pytest.raises(StoreError, match=r"got no such column mapping. Run `spinney migrate --yes` with"):
            carry_out_migration(FleetStore.of(config), {})
    with pytest.raises(StoreError, match=r"or put \[fleet.columns\] and fleet.loss back and run it"):
        charter.check_unchanged(FleetStore.of(config))
    assert carry_out_migration(FleetStore.of(edited()), {}).changes == ()
    charter.check_unchanged(FleetStore.of(edited()))


def test_nobody_begins_to_write_while_a_fleet_is_migrated(
    edited: Edit, made: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    free: list[str] = []

    def look(*_: Any) -> None:
        for name in ("labels", "people", "registry", "replay", "retrain", "tracking", "weekly"):
            with suppress(Busy), leases.held(FleetStore.of(made), [name]):
                free.append(name)

    monkeypatch.setattr(events_table, "alter_table", look)
    carry_out_migration(FleetStore.of(edited(X, 'rate = "double"')), {})
    assert free == []


def begun(config: Config, query: str, batch: int, topic: dict[str, int], *, ended: bool) -> None:
    """Write what Spark writes when it begins a batch, and when it ends it."""
    place = Path(FleetStore.of(config).checkpoint(query))
    for log in ("offsets", "commits"):
        (place / log).mkdir(parents=True, exist_ok=True)
    reported = ["v1", '{"batchWatermarkMs":0,"batchTimestampMs":1}', json.dumps({"t.events": topic})]
    (place / "offsets" / str(batch)).write_text("\n".join(reported))
    if ended:
        (place / "commits" / str(batch)).write_text("v1\n{}")


def test_a_batch_that_will_be_repeated_sees_the_columns_that_it_began_with(made: Config, edited: Edit) -> None:
    config = edited(X, 'rate = "double"')
    begun(config, "ingest", 3, {"0": 10}, ended=True)
    begun(config, "score", 2, {"0": 10}, ended=False)
    with pytest.raises(StoreError, match=r"query score: batch 2 is unfinished.*`spinney stream --once`"):
        carry_out_migration(FleetStore.of(config), {})
    assert len(plan_migration(FleetStore.of(config), {}).obstacles) == 1
    begun(config, "score", 2, {"0": 10}, ended=True)
    carry_out_migration(FleetStore.of(config), {})
    charter.ensure_charter(FleetStore.of(config))


def test_a_record_is_validated_by_the_columns_of_its_offset_whichever_query_reads_it(
    made: Config, edited: Edit
) -> None:
    begun(made, "ingest", 3, {"0": 10}, ended=True)
    begun(made, "score", 1, {"0": 7}, ended=True)
    config = edited('size = "double"', 'rate = "double"', features=("size",))
    carry_out_migration(FleetStore.of(config), {"x": "size"})
    before, now = charter.amend_charter(FleetStore.of(config)).editions
    assert now.since == {"t.events": {"0": 10}}

    def validated(edition: charter.Edition, **fields: Any) -> Any:
        message = {"store": "s", "id": "e", "at": "2024-05-01T00:00:00Z", "sold": 1.0, **fields}
        rules = build_rules(config.record_schema, EVENT, edition.settings)
        found = validate(json.dumps(message).encode(), START, rules)
        return found.values and {name: found.values[name] for name in ("size", "rate")}, found.field

    # Offset 8, say: ingest has stored it with the old columns, and score answers it after the migration.
    assert validated(before, x=3, rate="much") == ({"size": 3, "rate": None}, None)
    assert validated(before, x=3.5) == (None, "size")
    assert validated(now, size=3.5, rate=2.5) == ({"size": 3.5, "rate": 2.5}, None)
    assert validated(now, size=3, rate="much") == (None, "rate")


HASHED = 'id = "*"'
"""Of `[fleet.fields]`: ids are hashes of the records."""


def test_a_file_that_is_loaded_again_after_columns_were_added_renamed_and_widened_adds_nothing(
    edited: Edit, tmp_path: Path
) -> None:
    file = tmp_path / "sales.csv"
    rows = (f"s,2024-05-01T0{n}:00:00Z,{n}.5,{value},0.5" for n, value in enumerate(["0.1", "0.7", "1e-7", "3", "1.3"]))
    file.write_text("\n".join(["store,at,sold,x,rate", *rows]))
    assert load(edited('x = "float"', fields=HASHED), str(file)).added["events"] == 5
    config = edited('size = "double"', 'rate = "double"', features=("size",), fields=f'{HASHED}\nsize = "x"')
    carry_out_migration(FleetStore.of(config), {"x": "size"})
    again = load(config, str(file))
    assert (again.added["events"], again.duplicates["events"]) == (0, 5)

    # What reads files or records without storing them gives them the stored ids too.
    place = FleetStore.of(config).directory(tables.EVENTS)
    stored = set(DeltaTable(place.uri).to_pyarrow_table()["event_id"].to_pylist())
    schema, options = config.record_schema, ReadOptions()
    originals = charter.original_columns_of(FleetStore.of(config))
    replayed = read_history(schema, open_history(schema, str(file), options), options, originals=originals)
    tried = read_file_rows(schema, open_rows(schema, str(file), options), '["s"]', originals)
    assert {*replayed.frame["event_id"]} == {*tried.frame["event_id"]} == stored
    record = b'{"store": "s", "at": "2024-05-01T00:00:00Z", "sold": 0.5, "x": 0.1, "rate": 0.5}'
    found = RecordAssessor(schema, originals).name_of("t.events", record)
    assert isinstance(found, RecordId)
    assert found.event_id in stored


def test_a_query_that_lags_behind_a_migration_gives_a_record_the_id_that_the_other_one_gave_it(edited: Edit) -> None:
    made = edited('x = "float"', 'y = "int"', fields=HASHED)
    charter.ensure_charter(FleetStore.of(made))
    delta.create_tables(FleetStore.of(made))
    begun(made, "ingest", 3, {"0": 10}, ended=True)
    (first,) = charter.amend_charter(FleetStore.of(made)).editions
    config = edited('size = "double"', 'rate = "double"', features=("size",), fields=HASHED)
    carry_out_migration(FleetStore.of(config), {"x": "size"})
    before, now = charter.amend_charter(FleetStore.of(config)).editions

    def event_id(config: Config, edition: charter.Edition, **fields: Any) -> Any:
        message = {"store": "s", "at": "2024-05-01T00:00:00Z", "sold": 1.0, **fields}
        rules = build_rules(config.record_schema, EVENT, edition.settings, edition.originals)
        found = validate(json.dumps(message).encode(), START, rules)
        assert found.values is not None, found.detail
        return found.values["id"]

    assert event_id(config, before, x=0.1, y=2, rate=1.5) == event_id(made, first, x=0.1, y=2, rate=1.5)
    assert event_id(config, now, size=0.1) == event_id(made, first, x=0.1)


def test_a_dry_run_says_what_a_change_means_for_ids_that_are_hashes(edited: Edit) -> None:
    store = FleetStore.of(edited(X, 'y = "int"', fields=HASHED))
    charter.ensure_charter(store)
    delta.create_tables(store)

    def notes(*columns: str, fields: str = HASHED) -> str:
        return "\n".join(plan_migration(FleetStore.of(edited(*columns, fields=fields)), {}).notes)

    assert "rate: no part of the events' ids" in notes(X, 'y = "int"', 'rate = "int"')
    assert "y: no longer part of the events' ids" in notes(X)
    assert "ids" not in notes(X, 'rate = "int"', fields="")
    assert "ids" not in notes('x = "double"', 'y = "int"')


def called(place: Path, crash_at: str = "") -> subprocess.CompletedProcess[str]:
    run = ["-m", "spinney.testing.crash", crash_at] if crash_at else ["-c", "from spinney.cli import main; main()"]
    return subprocess.run(
        [sys.executable, *run, "migrate", "--config", str(place / "fleet.toml"), "--rename", "x=size", "--yes"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_killed_anywhere_the_same_call_again_ends_it(living: Config, edited: Edit, tmp_path: Path) -> None:
    before = answers(living, x=[1, 2])
    config = edited('size = "double"', features=("size",))
    for crash_at in ("migrate.begun", "migrate.files", "migrate.table"):
        assert called(tmp_path, crash_at).returncode == -signal.SIGKILL
        for each in (living, config):
            with pytest.raises(StoreError, match=r"a migration was started .* `spinney migrate --yes`"):
                charter.ensure_charter(FleetStore.of(each))
    again = called(tmp_path)
    assert again.returncode == 0, again.stderr
    assert "was completed" in again.stderr
    assert [row["size"] for row in events(config)] == [float(n % 7) for n in range(40)]
    assert answers(config, size=[1, 2]) == before
    there = charter.ensure_charter(FleetStore.of(config))
    assert [dict(each.renamed) for each in there.migrations] == [{"x": "size"}]
    assert not list((tmp_path / "root").rglob("_rewriting"))
    assert plan_migration(FleetStore.of(config), {"x": "size"}).changes == ()


def test_columns_may_be_changed_again_and_again(living: Config, edited: Edit, tmp_path: Path) -> None:
    before = answers(living, x=[1, 2])
    carry_out_migration(FleetStore.of(edited('size = "int"', features=("size",))), {"x": "size"})
    carry_out_migration(
        FleetStore.of(edited('area = "bigint"', 'rate = "float"', features=("area",))), {"size": "area"}
    )
    config = edited('x = "bigint"', features=("x",), fields='x = "amount"')
    carry_out_migration(FleetStore.of(config), {"area": "x"})
    assert answers(config, x=[1, 2]) == before
    sell(config, tmp_path, 40, amount=seventh)
    assert [row["x"] for row in events(config)] == [n % 7 for n in range(80)]
    assert np.isfinite(answers(config, x=[1, 2])[0]).all()


@pytest.mark.parametrize("crash", [False, True])
def test_the_target_and_the_groups_column_get_new_names_and_everything_goes_on(
    living: Config, edited: Edit, tmp_path: Path, crash: bool
) -> None:
    before = answers(living, x=[1, 2])
    text = (tmp_path / "fleet.toml").read_text()
    for old, new in (('["store"]', '["shop"]'), ('"sold"', '"sales"'), ("store =", "shop ="), ("sold =", "sales =")):
        text = text.replace(old, new)
    config = parse(text, "fleet.toml", {})
    store, renames = FleetStore.of(config), {"store": "shop", "sold": "sales"}
    with pytest.raises(StoreError, match=r"fleet.group was .* `spinney migrate --rename OLD=NEW`"):
        charter.check_unchanged(store)
    with pytest.raises(StoreError, match=r"fleet.group was \[\"store\"\]"):
        plan_migration(store, {"sold": "sales"})
    if crash:
        with pytest.raises(Crash), observed_by(crash_at("migrate.table")):
            carry_out_migration(store, renames)
        renames = {}
    carry_out_migration(store, renames)
    assert plan_migration(store, {"sold": "sales"}).changes == ()
    frame = pd.DataFrame({"shop": ["s0", "s1"], "at": [START] * 2, "x": [1, 2]})
    assert Fleet(config).predict(frame)["prediction"].tolist() == before[0]
    rows = [
        {"shop": f"s{shop}", "id": f"e{n}", "at": START + timedelta(hours=n), "sales": float(3 * n % 7), "x": n % 7}
        for shop in range(3)
        for n in range(40, 80)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "later.parquet")
    assert load(config, str(tmp_path / "later.parquet")).added["events"] == 120
    stored = delta.read_table(store, tables.EVENTS, ["group_key", "shop", "sales"])
    assert (stored.num_rows, stored["sales"].null_count, stored["shop"].null_count) == (240, 0, 0)
    assert set(stored["group_key"].to_pylist()) == {'["s0"]', '["s1"]', '["s2"]'}
    fit(config)
    decided = delta.read_table(store, tables.PROMOTIONS, ["champion_loss"])
    assert decided["champion_loss"].null_count == 3  # new models were compared with the old recipe
    assert Fleet(config).predict(frame)["answered_by"].tolist() == ["own", "own"]
    assert {status.group_key for status in Fleet(config).groups()} == {'["s0"]', '["s1"]', '["s2"]'}


class Crash(BaseException):
    """Ends a call as a signal would."""


def crash_at(point: str) -> Callable[[str, int], None]:
    def crash(step: str, _: int) -> None:
        if step == point:
            raise Crash

    return crash


def test_late_labels_are_read_under_the_targets_new_name(edited: Edit, tmp_path: Path) -> None:
    kafka = 'outcomes = "t.outcomes"'
    store = FleetStore.of(edited(kafka=kafka))
    charter.ensure_charter(store)
    delta.create_tables(store)
    begun(edited(kafka=kafka), "ingest", 3, {"0": 10}, ended=True)
    text = (tmp_path / "fleet.toml").read_text().replace('"sold"', '"sales"').replace("sold =", "sales =")
    config = parse(text, "fleet.toml", {})
    carry_out_migration(FleetStore.of(config), {"sold": "sales"})
    before, now = charter.amend_charter(FleetStore.of(config)).editions

    def label(edition: charter.Edition, **fields: Any) -> Any:
        message = {"store": "s", "id": "e", "observed_at": "2024-05-01T00:00:00Z", **fields}
        rules = build_rules(config.record_schema, OUTCOME, edition.settings)
        found = validate(json.dumps(message).encode(), START, rules)
        return found.values and found.values["sales"]

    assert (label(before, sold=2.0), label(before, sales=2.0)) == (2.0, None)
    assert (label(now, sales=2.0), label(now, sold=2.0)) == (2.0, None)


def test_a_column_of_parents_keeps_its_name_since_their_keys_have_it(edited: Edit, tmp_path: Path) -> None:
    edited(X, 'floor = "string"')
    text = (tmp_path / "fleet.toml").read_text().replace('["store"]', '["store", "floor"]\nparents = [["store"]]')
    store = FleetStore.of(parse(text, "fleet.toml", {}))
    charter.ensure_charter(store)
    delta.create_tables(store)

    def plan(old: str, new: str) -> MigrationPlan:
        renamed = text.replace(f'"{old}"', f'"{new}"').replace(f"{old} =", f"{new} =")
        return plan_migration(FleetStore.of(parse(renamed, "fleet.toml", {})), {old: new})

    with pytest.raises(
        StoreError, match=r'--rename store=shop: .* in no parent .* by \[fleet.fields\]: store = "shop"'
    ):
        plan("store", "shop")
    assert [change.name for change in plan("floor", "level").changes] == ["level"]


def test_a_column_of_parents_with_models_keeps_its_name_though_the_same_edit_drops_the_parents(
    edited: Edit, tmp_path: Path
) -> None:
    edited(X, 'floor = "string"')
    text = (tmp_path / "fleet.toml").read_text().replace('["store"]', '["store", "floor"]\nparents = [["store"]]')
    past = Past(parse(text, "fleet.toml", {}))
    charter.ensure_charter(FleetStore.of(past.config))
    past.round(1, {'{"store":"s0"}': 1.0})
    renamed = text.replace("store", "shop").replace('parents = [["shop"]]', "parents = []")
    store = FleetStore.of(parse(renamed, "fleet.toml", {}))
    with pytest.raises(StoreError, match=r"--rename store=shop: .* no stored model of a parent"):
        plan_migration(store, {"store": "shop"})
