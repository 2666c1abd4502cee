"""A batch of some groups reads what it was asked for. Who opens a file that is gone, fails."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from edited_fleet import NOW, Edit, editor, no_spark, sell
from new_tables import create_tables

from batch import group_selection
from batch.group_selection import BatchView, Scope, plan_verdicts
from batch.recipe_changes import recipe_changes
from batch.weekly import retrain
from schemas import tables
from schemas.contract import Contract
from spinney.core.config import Config
from spinney.core.errors import StoreError
from spinney.core.timestamps import to_microseconds
from spinney.retraining.round_plan import VERDICT_COLUMNS, groups_to_fit
from spinney.storage import signing_key
from spinney.storage.layout import FleetStore
from spinney.tables import delta, snapshot
from spinney.tables.table_files import GroupIndex, list_files, table_folder

ASKED = ['["s000"]', '["s002"]']


@pytest.fixture
def edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Edit:
    """The fleet's configuration with another recipe."""
    monkeypatch.setenv(signing_key.KEY, "k" * 32)
    return editor(tmp_path)


def remove_all_but(config: Config, base: Contract, *group_keys: str) -> int:
    """Remove the files that cannot hold these groups; how many are left."""
    left = 0
    for each in FleetStore.of(config).directories(base):
        table = delta.open_table(each)
        assert table is not None
        for file in list_files(table):
            if GroupIndex(group_keys, config.fleet.shards).overlaps(file.bounds):
                left += 1
            else:
                (table_folder(table) / file.path).unlink()
    return left


def test_of_two_named_groups_only_their_files_and_the_newest_events_are_opened(edited: Edit) -> None:
    config, after = edited(), edited("constant")
    for store in range(5):
        sell(config, range(store, store + 1), rows=20, first=20 * store)
        retrain(config, [f'["s{store:03}"]'], spark=no_spark)
    assert remove_all_but(config, tables.EVENTS, *ASKED, '["s004"]') == 3
    for base in (tables.PROMOTIONS, tables.MODELS):
        assert remove_all_but(config, base, *ASKED) == 2
    view = BatchView.now_of(FleetStore.of(after))
    assert view.clock == NOW + timedelta(hours=99)
    scope = Scope.of(ASKED)
    plan = plan_verdicts(no_spark, after, scope, view)
    assert plan.column("group_key").to_pylist() == ASKED
    assert plan.column("model_id").null_count == 0
    (line,) = recipe_changes(after, signing_key.load_signer(FleetStore.of(after)), plan, scope, view).lines
    assert line.startswith("2 groups: recipe changed (ridge → constant)")
    with pytest.raises(FileNotFoundError):
        delta.read_table(FleetStore.of(config), tables.PROMOTIONS)


def test_a_changed_recipe_without_newer_rows_opens_no_other_groups_events_either(edited: Edit) -> None:
    config, without = edited(features='["x", "z"]'), edited()
    for store in range(3):
        sell(config, range(store, store + 1), rows=20, first=20 * store)
        retrain(config, [f'["s{store:03}"]'], spark=no_spark)
    for base in (tables.EVENTS, tables.PROMOTIONS, tables.MODELS):
        assert remove_all_but(config, base, *ASKED) == 2
    view, scope = BatchView.now_of(FleetStore.of(without)), Scope.of(ASKED)
    plan = plan_verdicts(no_spark, without, scope, view)
    changes = recipe_changes(without, signing_key.load_signer(FleetStore.of(without)), plan, scope, view)
    assert (changes.unproven, changes.refusal) == (2, None)


def test_many_named_groups_are_read_by_shard_and_get_the_same_plan(
    edited: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = edited()
    sell(config, 4)
    retrain(config, spark=no_spark)
    view, scope = BatchView.now_of(FleetStore.of(config)), Scope.of(ASKED)
    looked_up = plan_verdicts(no_spark, config, scope, view)
    monkeypatch.setattr(snapshot, "WHOLE_SHARDS_FROM", 2)
    assert plan_verdicts(no_spark, config, scope, view) == looked_up


def test_the_plan_says_which_model_a_champion_replaced_and_is_read_back_as_it_was_written(edited: Edit) -> None:
    config = edited(recipe="[gate]\njump = inf")
    for first in (0, 20):
        sell(config, 2, rows=20, first=first)
        retrain(config, spark=no_spark)
    names = ["group_key", "batch_id", "model_id", "clock"]
    decided = delta.read_table(FleetStore.of(config), tables.PROMOTIONS, names).to_pylist()
    replaced = {row["group_key"]: row["model_id"] for row in decided if row["batch_id"] == 0}
    (since,) = {to_microseconds(row["clock"]) for row in decided if row["batch_id"] == 1}
    stores = ['["s000"]', '["s001"]']
    verdicts = plan_verdicts(no_spark, config, Scope.of(stores), BatchView.now_of(FleetStore.of(config)))
    assert verdicts.column("numbers").to_pylist() == [
        f'{{"pinned":false,"events":40,"predecessor":{{"model_id":"{replaced[key]}","since":{since}}}}}'
        for key in stores
    ]
    plan = groups_to_fit(verdicts.select(VERDICT_COLUMNS).to_pandas())
    assert plan["predecessor_id"].tolist() == [replaced[key] for key in stores]
    assert plan["watched_since"].tolist() == [since, since]


def test_a_fleet_without_an_event_has_no_clock(edited: Edit, monkeypatch: pytest.MonkeyPatch) -> None:
    create_tables(FleetStore.of(edited()))
    with pytest.raises(StoreError, match="fleet stores: no events in"):
        BatchView.now_of(FleetStore.of(edited()))
    assert group_selection.read_fleet_clock(FleetStore.of(edited())) is None
