"""Only the files with rows of a group are opened, and what is found is what a query of the whole table finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from handwritten_history import Past, fleet_toml, hour

from schemas import tables
from spinney.core.config import parse
from spinney.storage.layout import Directory, FleetStore
from spinney.tables import delta, group_file_cache, lookup
from spinney.tables.empty_append import append_no_rows
from spinney.tables.group_file_cache import GroupFileCache
from spinney.tables.lookup import NotAfter, RowFilter

A, B, C = '["a","1"]', '["b","1"]', '["c","1"]'
SHARDS = 64
COLUMNS = ("group_key", "model_id", "decision", "decided_at", "round_id", "rows")


@pytest.fixture
def past(tmp_path: Path) -> Past:
    """Five rounds: A is in the first and the last, B in the second, C in none."""
    made = Past(parse(fleet_toml(tmp_path), "fleet.toml", {}))
    others = iter(range(100))
    for at, keys in enumerate(([A], [B], [], [], [A]), start=1):
        made.round(at, dict.fromkeys([*keys, *(f'["x{next(others)}","2"]' for _ in range(3))], float(at)))
    return made


@pytest.fixture
def store(past: Past) -> FleetStore:
    return FleetStore.of(past.config)


@pytest.fixture
def directory(store: FleetStore) -> Directory:
    return store.directory(tables.PROMOTIONS, "stream")


def names(files: GroupFileCache, directory: Directory, *keys: str) -> int | None:
    """How many files are opened for these groups; None if all are."""
    dataset = files.dataset_of(directory, delta.open_existing(directory), keys, SHARDS)
    return None if dataset is None else len(dataset.files)


def test_the_files_of_a_group_are_found_also_after_a_commit_a_compaction_and_with_a_group_in_none(
    past: Past, directory: Directory
) -> None:
    files = GroupFileCache()
    assert [names(files, directory, key) for key in (A, B, C)] == [2, 1, 0]
    assert names(files, directory, A, B) is None, "three of five: the whole table is read as fast"
    past.round(6, {C: 1.0})
    assert [names(files, directory, key) for key in (A, B, C)] == [2, 1, 1]
    DeltaTable(directory.uri).optimize.compact()
    assert names(files, directory, A) is None, "one of one"
    assert names(files, directory, '["nobody","1"]') == 0


def test_a_file_is_read_once(past: Past, directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    original = group_file_cache._read_keys
    monkeypatch.setattr(group_file_cache, "_read_keys", lambda *words: read.append(words) or original(*words))
    files = GroupFileCache()
    names(files, directory, A)
    names(files, directory, B)
    assert len(read) == 5
    past.round(6, {C: 1.0})
    names(files, directory, C)
    assert len(read) == 6


def test_no_keys_are_kept_of_a_directory_with_too_many_rows(directory: Directory, monkeypatch) -> None:
    monkeypatch.setattr(group_file_cache, "MAX_KEYS", 10)
    assert names(GroupFileCache(), directory, B) is None


def test_files_with_many_rows_are_left_to_statistics_that_exclude_the_others(
    past: Past, store: FleetStore, monkeypatch
) -> None:
    batch = store.directory(tables.PROMOTIONS, "batch")
    for name in "abcde":  # a file per group
        past.put(tables.PROMOTIONS, "batch", {"group_key": f'["{name}","1"]', "decision": "kept", "batch_id": 0})
    assert [names(GroupFileCache(), batch, key) for key in (A, B)] == [1, 1], "few rows"
    monkeypatch.setattr(group_file_cache, "FEW_ROWS", 0)
    assert [names(GroupFileCache(), batch, key) for key in (A, B)] == [None, None]
    stream = store.directory(tables.PROMOTIONS, "stream")
    wide = [A, *(f'["z{n}","1"]' for n in range(40))]  # of keys around B's, and of nearly all shards
    for at in range(6, 16):
        past.round(at, dict.fromkeys(wide, 1.0) if at < 15 else {B: 1.0})
    assert names(GroupFileCache(), stream, B) == 2, "statistics exclude no round"


def test_a_file_without_rows_changes_nothing(past: Past, directory: Directory) -> None:
    append_no_rows(directory, "retrain", "c1")
    assert [names(GroupFileCache(), directory, key) for key in (A, B, C)] == [2, 1, 0]


def test_a_lookup_finds_the_same_rows_whether_it_knows_the_files_or_not(past: Past, store, monkeypatch) -> None:
    by_batch = {"group_key": B, "round_id": "batch-0", "model_id": "m", "decision": "kept", "decided_at": hour(9)}
    past.put(tables.PROMOTIONS, "batch", {**by_batch, "epoch": 0, "clock": hour(9), "batch_id": 0})
    until = NotAfter("decided_at", hour(3))
    wanted = [RowFilter.of_groups(keys, bound) for bound in (None, until) for keys in ([A], [B], [C], [A, C])]

    def found() -> list[list[dict[str, Any]]]:
        read = (lookup.read_rows(store, tables.PROMOTIONS, COLUMNS, each).to_pylist() for each in wanted)
        return [sorted(rows, key=lambda row: (row["round_id"], row["group_key"])) for rows in read]

    of_queries = found()
    monkeypatch.setattr(lookup, "_files_of_groups", GroupFileCache().dataset_of)
    assert found() == of_queries
    assert [len(rows) for rows in of_queries] == [2, 2, 0, 2, 1, 1, 0, 1]
