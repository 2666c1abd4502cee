"""A fleet's champions read once and kept up to date. The oracle is `select_champion` over all rows of the table."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from deltalake import DeltaTable
from handwritten_history import Past, fleet_toml, hour
from linear_fleet import key_of, promote, write_fleet

from schemas import tables
from spinney.core import keys
from spinney.core.champions.promotion import PAYLOAD_COLUMNS
from spinney.core.config import parse
from spinney.serving import fleet_snapshot, stored_models
from spinney.serving.answers import answer_rows
from spinney.serving.fleet_snapshot import FleetSnapshot, advance, read_snapshot
from spinney.serving.model_cache import ModelCache, ModelSource
from spinney.serving.stored_models import RETRY_AFTER_S, StoredModels
from spinney.storage.layout import FleetStore

A, B, DEPT = '["a","1"]', '["b","1"]', '{"dept":"1"}'


@pytest.fixture
def past(tmp_path: Path) -> Past:
    return Past(parse(fleet_toml(tmp_path, parents='[["dept"]]'), "fleet.toml", {}))


@pytest.fixture
def store(past: Past) -> FleetStore:
    return FleetStore.of(past.config)


def champions(snapshot: FleetSnapshot, *keys: str) -> dict[str, str | None]:
    return {key: found.model_id if (found := snapshot.champion_of(key)) else None for key in keys}


def in_order(snapshot: FleetSnapshot) -> list[dict]:
    """All rows without payloads, in an order of their own: that within a group is no promise."""
    rows = snapshot.rows.drop_columns([*PAYLOAD_COLUMNS]).to_pylist()
    return sorted(rows, key=lambda row: (row["group_key"], row["decided_at"], row["decision"]))


def answered(snapshot: FleetSnapshot, past: Past, store: FleetStore, keys: list[str]) -> list[tuple[float, str]]:
    stored = StoredModels(store, past.signer)
    models = ModelSource(
        store, past.signer, lambda owners: stored.fetch(owners) | snapshot.payloads(owners), ModelCache()
    )
    found = answer_rows(pd.DataFrame({"price": [1.0] * len(keys)}), keys, snapshot, models)
    return list(zip(found.prediction.tolist(), found.answered_by.tolist(), strict=True))


def test_whatever_is_committed_after_it_was_read_is_added_from_new_files_alone(past, store, monkeypatch) -> None:
    past.round(1, {A: 1.0, DEPT: 9.0})
    snapshot = read_snapshot(store)
    assert champions(snapshot, A, B, DEPT) == {**past.answers(), B: None}
    monkeypatch.setattr(fleet_snapshot, "read_snapshot", lambda _: pytest.fail("all was read again"))
    for at, numbers, decision in ((2, {A: 2.0, B: 3.0}, "promoted"), (3, {B: 4.0}, "refused"), (4, {A: 5.0}, "pinned")):
        past.round(at, numbers, decision=decision)
        later = advance(snapshot, store)
        assert champions(later, A, B, DEPT) == past.answers()
        snapshot = later
    assert advance(snapshot, store) is snapshot


@pytest.mark.parametrize("limit", [0, 4, 1_000])
def test_a_snapshot_that_was_advanced_is_that_which_is_read_anew(past, store, monkeypatch, limit: int) -> None:
    monkeypatch.setattr(fleet_snapshot, "MIN_RECENT_ROWS", limit)
    random = np.random.default_rng(7)
    keys = [f'["{n}","1"]' for n in range(12)]
    past.round(1, {key: float(n) for n, key in enumerate(keys[:9])})
    snapshot = read_snapshot(store)
    for at in range(2, 7):
        chosen = random.choice(keys, 3, replace=False).tolist()
        past.round(at, dict.fromkeys(chosen, float(at)), decision=["promoted", "withdrawn", "refused"][at % 3])
        snapshot = advance(snapshot, store)
        anew = read_snapshot(store)
        assert in_order(snapshot) == in_order(anew)
        assert (len(snapshot), champions(snapshot, *keys)) == (len(anew), champions(anew, *keys))
        assert {key: set(rows) for key, rows in snapshot.promotions.items()} == {
            key: set(rows) for key, rows in anew.promotions.items()
        }
        shards = past.config.fleet.shards
        assert snapshot.pools(range(shards), shards) == anew.pools(range(shards), shards)
        owners = {promotion.model_id: key for key in keys if (promotion := anew.champion_of(key))}
        known = snapshot.payloads(owners)
        assert known
        assert known.items() <= anew.payloads(owners).items(), "that of a former champion comes from models"


def test_a_rollback_and_a_pin_by_people_are_seen(past, store) -> None:
    first, second = past.round(1, {A: 1.0}), past.round(2, {A: 2.0})
    snapshot = read_snapshot(store)
    assert champions(snapshot, A) == second
    past.put(
        tables.PROMOTIONS,
        "people",
        *(
            {
                "group_key": A, "round_id": "people-1", "epoch": 1, "model_id": name, "decision": decision,
                "trained_through": hour(0), "fitted_at": hour(1), "decided_at": hour(3), "clock": hour(3),
                "by": "ada", "reason": "by hand", "batch_id": 1,
            }
            for name, decision in ((first[A], "promoted"), (second[A], "withdrawn"))
        ),
    )  # fmt: skip
    later = advance(snapshot, store)
    assert champions(later, A) == first == past.answers()
    assert champions(snapshot, A) == second, "who holds the earlier snapshot still sees it"
    assert answered(later, past, store, [A]) == [(1.0, "own")], "its payload comes from models"


def test_a_compaction_adds_nothing_and_loses_nothing(past, store) -> None:
    for at in range(1, 4):
        past.round(at, {A: float(at), B: float(-at)})
    snapshot = read_snapshot(store)
    DeltaTable(store.directory(tables.PROMOTIONS, "stream").uri).optimize.compact()
    later = advance(snapshot, store)
    assert later.versions != snapshot.versions
    assert later.rows.equals(snapshot.rows)
    assert read_snapshot(store).rows.equals(snapshot.rows)


def test_rows_that_are_read_in_small_pieces_give_the_same(past, store, monkeypatch) -> None:
    for at in range(1, 6):
        past.round(at, {A: float(at), B: float(-at)})
    whole = read_snapshot(store)
    monkeypatch.setattr(fleet_snapshot, "ROWS_AT_ONCE", 1)
    assert read_snapshot(store).rows.equals(whole.rows)


def test_a_file_that_is_gone_before_it_was_read_is_an_error_that_asks_to_read_all(past, store) -> None:
    past.round(1, {A: 1.0})
    snapshot = read_snapshot(store)
    past.round(2, {A: 2.0})
    folder = Path(store.directory(tables.PROMOTIONS, "stream").uri)
    for file in folder.glob("*.parquet"):
        shutil.move(file, folder / "_gone")
    with pytest.raises(FileNotFoundError):
        advance(snapshot, store)


def test_payloads_of_champions_come_from_the_snapshot_and_large_ones_from_models(past, store) -> None:
    past.round(1, {A: 1.0})
    past.round(1, {B: 2.0}, big=True)
    assert answered(read_snapshot(store), past, store, [B, A, '["c","1"]']) == [
        (2.0, "own"), (1.0, "own"), (pytest.approx(float("nan"), nan_ok=True), "none"),
    ]  # fmt: skip


def test_where_a_model_is_stored_nowhere_the_parent_answers_and_it_is_not_looked_for_at_each_request(
    past, store, monkeypatch
) -> None:
    names = past.round(1, {A: 1.0, DEPT: 9.0}, big=True)
    now, looked_for = [0.0], []
    stored = StoredModels(store, past.signer, clock=lambda: now[0], max_misses=1)
    models = Path(store.directory(tables.MODELS, "stream").uri)
    shutil.rmtree(models)
    past.__post_init__()
    read = stored_models.read_stored_models
    monkeypatch.setattr(
        stored_models, "read_stored_models", lambda of, owners: looked_for.extend(owners.values()) or read(of, owners)
    )
    for _ in range(3):
        assert stored.fetch({names[A]: A}) == {}
    assert looked_for == [A], "once"
    stored.fetch({names[DEPT]: DEPT})
    assert len(stored._missed) == 1, "bounded"
    now[0] += RETRY_AFTER_S
    stored.fetch({names[DEPT]: DEPT})
    assert looked_for == [A, DEPT, DEPT]


def test_a_model_whose_signature_does_not_hold_is_passed_over(past, store) -> None:
    past.round(1, {A: 1.0, DEPT: 9.0}, big=True)
    other = Past(past.config, type(past.signer)(b"x" * 32))
    other.round(2, {A: 2.0}, big=True)
    assert answered(read_snapshot(store), past, store, [A]) == [(1.0, "own")]
    only = Past(past.config, type(past.signer)(b"x" * 32))
    only.round(3, {B: 2.0}, big=True)
    assert answered(read_snapshot(store), past, store, [B]) == [(9.0, "parent")]


def test_the_pools_of_shards_hold_the_losses_of_their_groups_champions_by_key_and_of_no_parent(tmp_path: Path) -> None:
    fleet = write_fleet(tmp_path, 200, more="[intervals]\ncoverage = 0.9")
    promote(fleet.config, {key_of(n): np.full(5, float(n)) for n in range(0, 200, 3)}, hour=2)
    snapshot, shards = read_snapshot(FleetStore.of(fleet.config)), fleet.config.fleet.shards
    pools: dict[int, list[bytes | None]] = {}
    for key in sorted(key_of(n) for n in range(200)):
        pools.setdefault(keys.shard_of(key, shards), []).append(snapshot.champion_of(key).heldout_losses)
    assert None not in pools[min(pools)]
    for wanted in ([], [max(pools)], [2, 0], range(shards), [shards]):
        assert snapshot.pools(wanted, shards) == {shard: pools[shard] for shard in wanted if shard in pools}
    promote(fleet.config, {key_of(n): np.full(5, 7.0 * n) for n in (3, 50, 51)}, hour=3)
    anew = read_snapshot(FleetStore.of(fleet.config)).pools(range(shards), shards)
    assert advance(snapshot, FleetStore.of(fleet.config)).pools(range(shards), shards) == anew != pools
