"""A round gives each first model the champion of its nearest parent, read once by a task."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from edited_fleet import NOW, TEXT, no_spark, sell
from new_tables import create_tables

from batch.group_selection import BatchView, Scope, plan_verdicts
from batch.weekly import NAME, retrain
from schemas import tables
from schemas.vocabulary import RoundKind
from spinney.core.config import Config, parse
from spinney.core.keys import encode, is_parent, shard_of
from spinney.core.models.codec import load
from spinney.core.planning.batch_parts import PartPacing
from spinney.retraining.fitting.parent_champions import ParentChampions, PlannedChampions, with_parents
from spinney.retraining.round_fitting import requests_of
from spinney.retraining.round_request import RoundRequest
from spinney.retraining.rounds import Rounds
from spinney.storage import signing_key
from spinney.storage.layout import FleetStore
from spinney.storage.step_observer import observed_by
from spinney.tables import delta
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.readers.current_champions import read_champions
from spinney.tables.snapshot import filter_of_groups, take_snapshots

NEW = '["s002"]'
PARENT = "{}"


def make(root: Path, recipe: str = "") -> Config:
    """A fleet with a parent of all stores."""
    text = TEXT.replace("parents = []", "parents = [[]]")
    return parse(text.format(root=root, estimator="ridge", features='["x"]', recipe=recipe), "fleet.toml", {})


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A fleet of two stores with models, and a parent of all."""
    monkeypatch.setenv(signing_key.KEY, "k" * 32)
    config = make(tmp_path / "root")
    sell(config, 2)
    retrain(config, spark=no_spark)
    return config


def rows(config: Config, base: Any) -> dict[str, dict[str, Any]]:
    """The newest row of each group."""
    return {row["group_key"]: row for row in delta.read_table(FleetStore.of(config), base).to_pylist()}


def rounds_of(config: Config, kind: RoundKind) -> Rounds:
    return Rounds(no_spark, config, signing_key.load_signer(FleetStore.of(config)), kind, NAME)


def planned(config: Config, kind: RoundKind = RoundKind.STREAM, groups: Sequence[str] | None = None) -> Rounds:
    """A planned round of some groups, or of all."""
    view = BatchView.now_of(FleetStore.of(config))
    plan = plan_verdicts(no_spark, config, Scope.of(groups), view)
    rounds = rounds_of(config, kind)
    request = RoundRequest("r", plan.num_rows, 0, {}, view.clock, view.now, 5.0, 1.0, view.pins)
    rounds.plan(plan, request, rounds.next_batch())
    return rounds


def carry_out(rounds: Rounds, pace: PartPacing | None = None) -> None:
    """Carry out the round that was planned last."""
    rounds.carry_out(rounds.next_batch() - 1, pace)


def streamed(config: Config, key: str) -> None:
    """A round of the stream that fits one group."""
    carry_out(planned(config, groups=[key]))


def interrupt_after(step: str) -> Callable[[str, int], None]:
    """In place of the end of the process."""

    def interrupt(announced: str, _: int) -> None:
        if announced == step:
            raise KeyboardInterrupt

    return interrupt


def champion(config: Config, key: str) -> str:
    known = read_champions(FleetStore.of(config), {}, filter_of_groups([key], config.fleet.shards))
    return str(known.column("model_id")[0].as_py())


def plan_of(*keys: str, champion: str | None = None) -> pd.DataFrame:
    return pd.DataFrame({"shard": 0, "group_key": list(keys), "champion_id": champion, "events": 30})


def test_a_first_model_of_the_stream_has_to_beat_its_parents(config: Config) -> None:
    parent = rows(config, tables.PROMOTIONS)["{}"]
    sell(config, range(2, 3), first=30)
    streamed(config, NEW)
    found = json.loads(rows(config, tables.MODELS)[NEW]["metrics"])["parent"]
    assert (found["model_id"], found["group_key"], found["rows"]) == (parent["model_id"], "{}", 6)
    assert "that of parent {}, " in rows(config, tables.PROMOTIONS)[NEW]["reason"]


@pytest.mark.parametrize("recipe", ["", "pooling_rows = 20"])
def test_a_round_takes_the_parents_champion_that_it_was_planned_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    monkeypatch.setenv(signing_key.KEY, "k" * 32)
    config = make(tmp_path / "root", recipe)
    sell(config, 2)
    retrain(config, spark=no_spark)
    sell(config, range(2, 3), first=30)
    rounds, before = planned(config, groups=[NEW]), champion(config, PARENT)
    sell(config, range(2), first=60)
    retrain(config, groups=[PARENT], spark=no_spark)
    assert champion(config, PARENT) != before
    carry_out(rounds)
    made = rows(config, tables.MODELS)[NEW]
    assert json.loads(made["metrics"])["parent"]["model_id"] == before
    assert made["parent_model_id"] == (before if recipe else None)


def test_first_models_are_compared_with_the_same_models_however_many_parts_a_batch_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(signing_key.KEY, "k" * 32)
    found = []
    for name, pace in (("one", None), ("many", PartPacing(1e-9, 1.0, is_measured=True))):
        config = make(tmp_path / name)
        sell(config, 2)
        retrain(config, spark=no_spark)
        before = champion(config, PARENT)
        sell(config, range(3), first=30)
        carry_out(planned(config, RoundKind.BATCH), pace)
        assert champion(config, PARENT) != before
        of_parent = json.loads(rows(config, tables.MODELS)[NEW]["metrics"])["parent"]
        assert (of_parent["model_id"], of_parent["rows"]) == (before, 6)
        found.append((of_parent, rows(config, tables.PROMOTIONS)[NEW]["reason"]))
    assert found[0] == found[1]


def test_a_batch_that_goes_on_pools_with_the_parents_that_it_has_fitted_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(signing_key.KEY, "k" * 32)
    config = make(tmp_path / "root", "pooling_rows = 20")
    sell(config, 3)
    with pytest.raises(KeyboardInterrupt), observed_by(interrupt_after("weekly.gate")):
        retrain(config, spark=no_spark)
    own = champion(config, PARENT)
    sell(config, 3, first=30)
    streamed(config, PARENT)
    assert champion(config, PARENT) != own
    carry_out(rounds_of(config, RoundKind.BATCH))
    models = delta.read_table(FleetStore.of(config), tables.MODELS).to_pylist()
    of_batch = {
        row["group_key"]: row["parent_model_id"]
        for row in models
        if row["batch_id"] == 0 and not is_parent(row["group_key"])
    }
    assert of_batch == dict.fromkeys(['["s000"]', '["s001"]', NEW], own)


def sell_in_regions(config: Config, regions: int, stores: int) -> None:
    """Ten events of each store. Regions differ by 100."""
    create_tables(FleetStore.of(config))
    place, random = FleetStore.of(config).directory(tables.EVENTS), np.random.default_rng(4)
    schema, sold = arrow_schema(place.contract), []
    for region, store, at in product(range(regions), range(stores), range(10)):
        key, x = encode([f"r{region}", f"s{store}"]), float(random.normal())
        sold.append({
            "shard": shard_of(key, config.fleet.shards), "group_key": key, "event_id": f"e{region}-{store}-{at}",
            "event_time": NOW + timedelta(hours=at), "region": f"r{region}", "store": f"s{store}", "x": x,
            "sold": 100.0 * region + 10 * x + float(random.normal()), "topic": "t.events", "kafka_partition": 0,
            "kafka_offset": at, "ingested_at": NOW, "ingested_on": NOW.date(), "batch_id": 0,
        })  # fmt: skip
    rows = [{name: row.get(name) for name in schema.names} for row in sold]
    write_deltalake(place.uri, pa.Table.from_pylist(rows, schema=schema), mode="append")


def test_with_estimated_weights_a_batch_fits_parents_after_their_own_parents_and_groups_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(signing_key.KEY, "k" * 32)
    text = TEXT.replace('group = ["store"]', 'group = ["region", "store"]').replace("= []", '= [["region"], []]')
    text = text.replace('store = "string"', 'store = "string"\nregion = "string"').replace(
        "min_rows = 5", "min_rows = 1"
    )
    recipe = 'pooling_rows = "estimated"'
    text = text.format(root=tmp_path / "root", estimator="ridge", features='["x"]', recipe=recipe)
    config = parse(text, "fleet.toml", {})
    sell_in_regions(config, 4, 2)
    retrain(config, spark=no_spark)
    made = rows(config, tables.MODELS)
    region = made['{"region":"r2"}']
    assert (made["{}"]["parent_model_id"], region["parent_model_id"]) == (None, made["{}"]["model_id"])
    assert made['["r2","s1"]']["parent_model_id"] == region["model_id"]
    everywhere = load(made["{}"]["codec"], made["{}"]["payload"]).estimator.group_variances
    assert everywhere.shape == (2, 4)
    assert everywhere[0, 0] > 100 * everywhere[1, 0], "regions differ, and the stores of a region do not"
    assert "pooled with the model of parent" in rows(config, tables.PROMOTIONS)['["r2","s1"]']["reason"]
    row = pd.DataFrame({"x": [0.0]})
    assert load(region["codec"], region["payload"]).predict(row)[0] == pytest.approx(200.0, abs=2.0)


def test_groups_with_a_champion_and_parents_get_no_parent(config: Config) -> None:
    store, champion = FleetStore.of(config), rows(config, tables.PROMOTIONS)["{}"]["model_id"]
    plan = pd.concat([plan_of(NEW, "{}"), plan_of('["s000"]', champion="c")], ignore_index=True)
    found = with_parents(plan, PlannedChampions(store, {}))
    assert found["parent_key"].tolist() == ["{}", None, None]
    assert found["parent_id"].tolist() == [champion, None, None]


def test_the_payload_of_a_parent_is_held_once_however_many_groups_it_has(config: Config) -> None:
    store = FleetStore.of(config)
    requests = requests_of(with_parents(plan_of(*(f'["s{n:03}"]' for n in range(2, 50))), PlannedChampions(store, {})))
    parents = ParentChampions(take_snapshots(store, tables.MODELS), requests, config.fleet.shards).of(0, 48)
    payload = parents.column("parent_payload").combine_chunks()
    assert (len(payload), len(payload.dictionary)) == (48, 1)
    model = rows(config, tables.MODELS)["{}"]
    assert parents.slice(47, 1).to_pylist()[0] == {
        "parent_key": "{}", "parent_id": model["model_id"], "parent_codec": model["codec"],
        "parent_payload": model["payload"], "parent_signature": model["signature"],
        "parent_trained_through": model["trained_through"], "parent_recipe_id": model["recipe_id"],
    }  # fmt: skip


def test_a_parent_whose_model_is_not_stored_is_named_all_the_same(config: Config) -> None:
    store = FleetStore.of(config)
    plan = plan_of(NEW).assign(parent_key="{}", parent_id="gone")
    parents = ParentChampions(take_snapshots(store, tables.MODELS), requests_of(plan), config.fleet.shards).of(0, 1)
    assert parents.to_pylist() == [dict.fromkeys(parents.column_names) | {"parent_key": "{}", "parent_id": "gone"}]


def test_pooled_groups_of_a_batch_of_one_group_and_of_the_stream_are_the_same_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(signing_key.KEY, "k" * 32)
    config = make(tmp_path / "pooled", "pooling_rows = 20\nparents = { max_rows = 40 }")
    sell(config, 3)
    retrain(config, spark=no_spark)
    first = rows(config, tables.MODELS)
    prior = first[PARENT]["model_id"]
    assert {key: row["parent_model_id"] for key, row in first.items()} == {
        PARENT: None, '["s000"]': prior, '["s001"]': prior, NEW: prior,
    }  # fmt: skip
    assert retrain(config, groups=[NEW], spark=no_spark)["kept"] == 1
    # The parent gets another champion; the rows of the group stay as they are.
    sell(config, range(2), first=30)
    retrain(config, groups=[PARENT], spark=no_spark)
    later = champion(config, PARENT)
    assert later != prior
    streamed(config, NEW)
    retrain(config, groups=[NEW], spark=no_spark)
    attempts = [
        row for row in delta.read_table(FleetStore.of(config), tables.MODELS).to_pylist() if row["group_key"] == NEW
    ]
    by_prior = {row["parent_model_id"]: row["model_id"] for row in attempts}
    assert by_prior.keys() == {prior, later}
    assert {row["model_id"] for row in attempts} == set(by_prior.values())
