"""Rows of a few groups, read without the files that cannot hold them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from new_tables import create_tables

from schemas import tables
from spinney.core import keys
from spinney.core.config import Config
from spinney.core.errors import StoreError
from spinney.storage.layout import FleetStore
from spinney.tables import delta, lookup
from spinney.tables.lookup import ContainsText, NotAfter, NotBefore, RowFilter

START = datetime(2024, 5, 1, tzinfo=UTC)
COLUMNS = ["group_key", "model_id", "fitted_at", "payload"]
ODD = ['["it\'s","1"]', '["a\\\\","1"]', '["é\\"","1"]', '["x","1"]', "{}"]


@pytest.fixture
def config(configured) -> Config:
    made = configured(shards=8)
    create_tables(FleetStore.of(made))
    return made


def model(key: str, n: int) -> Mapping[str, Any]:
    return {
        "group_key": key, "model_id": f"{key} {n}", "status": "fitted", "fitted_at": START + timedelta(hours=n),
        "payload": f"{key} {n}".encode(), "batch_id": n,
    }  # fmt: skip


def found(config: Config, wanted: RowFilter) -> list[tuple[Any, ...]]:
    rows = lookup.to_dicts(lookup.read_rows(FleetStore.of(config), tables.MODELS, COLUMNS, wanted))
    return sorted(tuple(row.values()) for row in rows)


def expected(*models: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return sorted(tuple(row[name] for name in COLUMNS) for row in models)


def test_rows_of_groups_come_from_every_directory_whatever_their_keys_hold(config, put) -> None:
    made = [model(key, n) for key, n in itertools.product(ODD, range(3))]
    for n, part in enumerate(("stream", "batch", "people")):
        put(config, tables.MODELS, made[n::3], part)
    for key in ODD:
        assert found(config, RowFilter.of_groups([key])) == expected(*(row for row in made if row["group_key"] == key))
    assert found(config, RowFilter.of_groups(ODD)) == expected(*made)
    one = {made[7]["model_id"]: made[7]["group_key"], "of nobody": ODD[0]}
    assert found(config, RowFilter.of_models(one)) == expected(made[7])
    assert found(config, RowFilter.of_groups(ODD[:1], NotAfter("fitted_at", START + timedelta(hours=1)))) == expected(
        *made[:2]
    )
    assert found(config, RowFilter.of_groups(["nobody"])) == []


def test_many_groups_are_scanned_for_the_same_rows(config, put, monkeypatch) -> None:
    made = [model(key, n) for key, n in itertools.product(ODD, range(3))]
    put(config, tables.MODELS, made, "batch")
    until = NotAfter("fitted_at", START + timedelta(hours=1))
    cases = [RowFilter.of_groups(ODD[1:4]), RowFilter.of_groups(ODD, until)]
    cases += [RowFilter.of_models({row["model_id"]: row["group_key"] for row in made[::2]})]
    few = [found(config, each) for each in cases]
    monkeypatch.setattr(lookup, "MAX_LOOKUP_GROUPS", 0)
    assert [found(config, each) for each in cases] == few
    assert few[2] == expected(*made[::2])


def test_more_groups_than_one_query_names_are_asked_for_in_several(config, put, monkeypatch) -> None:
    monkeypatch.setattr(lookup, "GROUPS_PER_QUERY", 2)
    made = [model(key, n) for key, n in itertools.product(ODD, range(2))]
    put(config, tables.MODELS, made, "batch")
    assert found(config, RowFilter.of_groups(ODD)) == expected(*made)
    assert found(config, RowFilter.of_models({row["model_id"]: row["group_key"] for row in made})) == expected(*made)


@pytest.fixture
def without_file_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has served no gateway: a gateway's index reads the keys of every file once."""
    monkeypatch.setattr(lookup, "_files_of_groups", None)


@pytest.mark.usefixtures("without_file_index")
@pytest.mark.parametrize("by", ["group", "shard"])
def test_files_that_cannot_hold_the_group_are_not_opened(config, put, by: str) -> None:
    """Those of other keys, and those of other shards whose keys lie around this one. They are gone, and it is found."""
    names = [keys.encode([f"s{n:03}", 1]) for n in range(200)]
    mine = names[100]
    shard = keys.shard_of(mine, 8)
    if by == "group":
        put(config, tables.MODELS, [model(mine, 1)], "batch")
        others = [names[:100], names[101:]]
    else:
        put(config, tables.MODELS, [model(key, 1) for key in names if keys.shard_of(key, 8) == shard], "batch")
        others = [[key for key in names if keys.shard_of(key, 8) == other] for other in range(8) if other != shard]
    place = FleetStore.of(config).directory(tables.MODELS, "batch")
    kept = set(delta.open_table(place).file_uris())
    for group_keys in others:
        put(config, tables.MODELS, [model(key, 1) for key in group_keys], "batch")
    for uri in set(delta.open_table(place).file_uris()) - kept:
        Path(unquote(urlsplit(uri).path)).unlink()
    assert found(config, RowFilter.of_groups([mine])) == expected(model(mine, 1))


def test_a_column_without_statistics_loses_no_row(config, put) -> None:
    """Spark's Delta writes them of a table's first columns only; Arrow would take such a column for all nulls."""
    place = FleetStore.of(config).directory(tables.MODELS, "batch")
    for columns in (1, 32):
        delta.open_table(place).alter.set_table_properties({"delta.dataSkippingNumIndexedCols": str(columns)})
        put(config, tables.MODELS, [model(key, columns) for key in ODD], "batch")
    made = [model(ODD[2], columns) for columns in (1, 32)]
    assert found(config, RowFilter.of_groups([ODD[2]], NotAfter("fitted_at", START + timedelta(hours=32)))) == expected(
        *made
    )
    assert found(config, RowFilter.of_models({made[0]["model_id"]: ODD[2]})) == expected(made[0])
    assert lookup.read_rows_after(delta.open_table(place), place, ["model_id"], 0).num_rows == 2 * len(ODD)


def test_every_row_and_every_key_once(config, put) -> None:
    made = [model(key, n) for key, n in itertools.product(ODD, range(3))]
    put(config, tables.MODELS, made[:7], "batch")
    put(config, tables.MODELS, made[7:], "stream")
    rows = lookup.read_where(FleetStore.of(config), tables.MODELS, COLUMNS)
    assert sorted(tuple(row.values()) for row in lookup.to_dicts(rows)) == expected(*made)
    until = NotAfter("fitted_at", START + timedelta(minutes=90))
    assert lookup.read_where(FleetStore.of(config), tables.MODELS, COLUMNS, until).num_rows == 10
    assert lookup.read_group_keys(FleetStore.of(config), tables.MODELS) == sorted(ODD)
    assert (
        lookup.read_group_keys(FleetStore.of(config), tables.MODELS, NotAfter("fitted_at", START - timedelta(hours=1)))
        == []
    )


def test_the_newest_rows_are_the_same_at_each_call_also_of_one_time(config, put) -> None:
    names = [f"s{n:02}" for n in range(20)]
    for part, of_part in (("stream", names[::-2]), ("batch", names[::2])):
        for some in (of_part[5:], of_part[:5]):
            put(config, tables.MODELS, [model(name, 1) for name in some], part)
    put(config, tables.MODELS, [model("z", 2), model("a", 0)], "batch")
    for limit in (1, 7, 22):
        newest = lookup.read_newest(FleetStore.of(config), tables.MODELS, COLUMNS, "fitted_at", limit)
        assert newest.column("group_key").to_pylist() == ["z", *names, "a"][:limit]


def test_what_later_batches_wrote(config, put) -> None:
    place = FleetStore.of(config).directory(tables.MODELS, "batch")
    put(config, tables.MODELS, [model(ODD[0], n) for n in range(5)], "batch")
    rows = lookup.read_rows_after(delta.open_table(place), place, ["model_id"], 2)
    assert sorted(rows.column("model_id").to_pylist()) == [f"{ODD[0]} 3", f"{ODD[0]} 4"]


def test_a_table_without_rows_has_none_whatever_is_asked(config) -> None:
    store, wanted = FleetStore.of(config), RowFilter.of_groups(['["x","1"]'])
    assert lookup.read_rows(store, tables.MODELS, COLUMNS, wanted).num_rows == 0
    assert lookup.read_newest(store, tables.MODELS, COLUMNS, "fitted_at", 5).column_names == COLUMNS
    assert lookup.latest_time(store, tables.MODELS, "fitted_at") is None
    assert lookup.read_group_keys(store, tables.MODELS) == []
    assert [*lookup.read_batches_where(store, tables.MODELS, COLUMNS)] == []


def test_a_table_that_was_never_made_is_named(configured) -> None:
    with pytest.raises(StoreError, match=r"table models/stream: nothing at .*spinney init"):
        lookup.read_rows(FleetStore.of(configured()), tables.MODELS, COLUMNS, RowFilter.of_groups(ODD))


def test_a_text_inside_a_column_is_found_as_it_is_written(config, put) -> None:
    texts = {"underscore": 'a "b_c"', "other": 'a "b-c"', "percent": "50% it's", "null": None}
    put(
        config, tables.MODELS, [{**model("{}", 0), "model_id": name, "metrics": texts[name]} for name in texts], "batch"
    )

    def holding(text: str) -> list[str]:
        rows = lookup.read_where(FleetStore.of(config), tables.MODELS, ["model_id"], ContainsText("metrics", text))
        return sorted(rows.column("model_id").to_pylist())

    assert [holding(text) for text in ("b_c", "0%", "t's", "a ", "z")] == [
        ["underscore"], ["percent"], ["percent"], ["other", "underscore"], [],
    ]  # fmt: skip


def test_the_latest_time_is_that_of_all_directories_and_no_later_than_asked(config, put) -> None:
    store = FleetStore.of(config)
    assert lookup.latest_time(store, tables.MODELS, "fitted_at") is None
    for n, part in enumerate(("stream", "batch")):
        put(config, tables.MODELS, [model(ODD[0], n), model(ODD[1], n + 2)], part)
    assert lookup.latest_time(store, tables.MODELS, "fitted_at") == START + timedelta(hours=3)
    at = START + timedelta(hours=2.5)
    assert lookup.latest_time(store, tables.MODELS, "fitted_at", at) == START + timedelta(hours=2)
    assert lookup.earliest_time(store, tables.MODELS, "fitted_at") == START


def test_rows_by_condition_can_be_those_of_some_groups_only(config, put) -> None:
    put(config, tables.MODELS, [model(key, n) for key, n in itertools.product(ODD, range(3))], "stream")
    late, wanted = NotBefore("fitted_at", START + timedelta(hours=2)), RowFilter.of_groups(ODD[:2])
    batches = lookup.read_batches_where(FleetStore.of(config), tables.MODELS, COLUMNS, late, wanted=wanted)
    rows = [row["model_id"] for batch in batches for row in lookup.to_dicts(batch)]
    assert sorted(rows) == sorted(f"{key} 2" for key in ODD[:2])
