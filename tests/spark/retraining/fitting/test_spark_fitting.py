"""Fitting through Spark: the same models as one group at a time, however the work is cut."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xxhash
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from schemas import tables
from spinney.core import keys
from spinney.core.errors import StoreError
from spinney.core.models.codec import load
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Recipe, Shadow
from spinney.core.training.fitting import fit_groups
from spinney.retraining.fitting import champion_reader, spark_fitting
from spinney.retraining.fitting.champion_reader import StoredChampions
from spinney.retraining.fitting.spark_fitting import RESULT_TYPES, Fitter, block_ranges, cut_into_tasks
from spinney.retraining.fitting.training_row_reader import TrainingTables, events_per_key
from spinney.retraining.round_fitting import fit_plan
from spinney.retraining.round_request import READ
from spinney.spark.task_errors import unwrap_task_errors
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.snapshot import ShardRange, take_snapshots

SIGNER = Signer(b"k" * 32)
START = pd.Timestamp("2024-05-01", tz="UTC")
CLOCK = START + timedelta(days=5)
SIZES = {'["a","1"]': 40, '["a","2"]': 25, '["ü\\"","3"]': 12, '["thin","1"]': 3, '["none","1"]': 0}
ALL = "{}"
KEYS = [*SIZES, ALL]
INSIDE = ('outcomes = "sold"', "")


def sales() -> pd.DataFrame:
    frames = []
    for key, count in SIZES.items():
        random = np.random.default_rng([count, *key.encode()])
        frame = pd.DataFrame(
            {"price": random.normal(size=count), "stock": random.integers(0, 9, count).astype("int32")}
        )
        frame.loc[frame.index % 7 == 3, "price"] = np.nan
        frame["label"] = 2.0 * frame["price"].fillna(0.0) - frame["stock"] + random.normal(size=count) * 0.1
        # Two rows an hour: of equal times the event_id decides.
        times = START + pd.to_timedelta(np.arange(count) // 2, unit="h")
        frame.insert(0, "group_key", key)
        frame.insert(1, "event_id", [f"{key}{(n * 7) % max(count, 1):03}" for n in range(count)])
        frame.insert(2, "event_time", times.astype("datetime64[us, UTC]"))
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def sampled(rows: pd.DataFrame) -> pd.DataFrame:
    """The sample of the parent of all: 40 rows, by the hashes of their ids, seeded by those of their groups' keys."""

    def hashed(group_key: str, event_id: str) -> np.int64:
        seed = xxhash.xxh64_intdigest(group_key.encode(), 42)
        return np.uint64(xxhash.xxh64_intdigest(event_id.encode(), seed)).view(np.int64)

    numbers = [hashed(*each) for each in zip(rows["group_key"], rows["event_id"], strict=True)]
    return rows.assign(number=numbers).sort_values("number").head(40).drop(columns="number").assign(group_key=ALL)


@dataclass
class Stored:
    """Sales and champions in the tables of a fleet, and how they are fitted."""

    spark: Any
    fleet: Any

    def sell(self, rows: pd.DataFrame) -> None:
        events = []
        for row in rows.astype(object).where(rows.notna(), None).to_dict("records"):
            shop, dept = keys.decode(row["group_key"])
            named = {"price": row["price"], "stock": row["stock"], "sold": row["label"]}
            events.append(self.fleet.event(shop, int(dept), row["event_id"], row["event_time"], **named))
        for part in (events[: len(events) // 2], events[len(events) // 2 :]):
            self.fleet.put(tables.EVENTS, part)

    def keep(self, models: pd.DataFrame) -> None:
        rows = models.astype(object).where(models.notna(), None).to_dict("records")
        shard = {"fitted_at": CLOCK.to_pydatetime(), "batch_id": 0}
        whole = [{**row, **shard, "shard": keys.shard_of(row["group_key"], 4)} for row in rows]
        self.fleet.put(tables.MODELS, whole, "batch")

    def fit(self, recipe: Recipe, champions: pd.DataFrame | None = None, events: dict[str, int] | None = None) -> Any:
        """events: as the plan counted them; by default as they are."""
        config = self.fleet.config
        source = TrainingTables.of(
            FleetStore.of(config),
            config.recipe,
            delta.pin_versions(FleetStore.of(config), *READ),
            CLOCK.to_pydatetime(),
        )
        counted = {**events_per_key(source, KEYS), **(events or {})}
        known = {} if champions is None else dict(zip(champions["group_key"], champions["model_id"], strict=True))
        plan = pd.DataFrame({"group_key": KEYS[::-1]})
        plan["shard"] = [keys.shard_of(key, 4) for key in plan["group_key"]]
        plan["champion_id"] = [known.get(key) for key in plan["group_key"]]
        plan["predecessor_id"] = None
        plan["events"] = [counted[key] for key in plan["group_key"]]
        fitting = Fitter(
            recipe, SIGNER, CLOCK.to_pydatetime(), source, tuple(take_snapshots(FleetStore.of(config), tables.MODELS))
        )
        found = fit_plan(self.spark, plan, fitting)
        assert found.columns == list(RESULT_TYPES)
        return found.toArrow().to_pandas().set_index("group_key").sort_index()


@pytest.fixture
def stored(spark, world):
    def make(rows: pd.DataFrame, *changes: tuple[str, str]) -> Stored:
        made = Stored(spark, world(INSIDE, ('parents = [["dept"], []]', "parents = [[]]"), *changes))
        made.sell(rows)
        return made

    return make


def one_by_one(rows: pd.DataFrame, recipe: Recipe, champions: pd.DataFrame | None = None) -> pd.DataFrame:
    """Each group fitted in a call of its own."""
    names = {f"champion_{name}": name for name in ("codec", "payload", "signature", "trained_through")}
    names["champion_id"] = "model_id"
    known = pd.DataFrame(columns=["group_key", *names.values()]) if champions is None else champions
    parts = []
    for key in KEYS:
        request = pd.DataFrame({"group_key": [key]})
        for name, of in names.items():
            request[name] = request["group_key"].map(dict(zip(known["group_key"], known[of], strict=True)))
        request["champion_trained_through"] = request["champion_trained_through"].astype("datetime64[us, UTC]")
        mine = sampled(rows) if key == ALL else rows[rows["group_key"] == key]
        parts.append(fit_groups(mine, request, recipe, CLOCK.to_pydatetime(), SIGNER))
    return pd.concat(parts).set_index("group_key").sort_index()


SAME = ["status", "model_id", "recipe_id", "error_class", "error", "rows", "metrics", "codec", "payload", "signature"]


def same(left: pd.DataFrame, right: pd.DataFrame) -> None:
    assert left.index.tolist() == right.index.tolist()
    for name in SAME:
        mine, theirs = (frame[name].astype(object).where(frame[name].notna(), None).tolist() for frame in (left, right))
        assert mine == theirs, name


@pytest.mark.parametrize("events", [2_000_000, 20])
def test_any_tasks_and_any_order_give_the_models_of_one_group_at_a_time(stored, monkeypatch, events: int) -> None:
    monkeypatch.setattr(spark_fitting, "TASK_EVENTS", events)
    rows = sales()
    made = stored(rows.sample(frac=1.0, random_state=events))
    recipe = Recipe.of(made.fleet.config)
    found = made.fit(recipe)
    same(found, one_by_one(rows, recipe))
    statuses = {'["thin","1"]': "too_few_rows", '["none","1"]': "too_few_rows"}
    assert found["status"].to_dict() == {key: statuses.get(key, "fitted") for key in sorted(KEYS)}


@pytest.mark.parametrize("key", ['["a","1"]', '["none","1"]', ALL])
def test_a_request_without_the_rows_that_the_plan_counted_fails_the_round(stored, key: str) -> None:
    made = stored(sales())
    expected = f"group {re.escape(key)}: expected the 99 events that the round's plan counted in the table events; read"
    with pytest.raises(StoreError, match=expected), unwrap_task_errors():
        made.fit(Recipe.of(made.fleet.config), events={key: 99})


def test_a_shadow_is_compared_in_the_workers_as_in_one_call_and_gives_no_other_model(stored) -> None:
    rows = sales()
    made = stored(rows)
    recipe = Recipe.of(made.fleet.config)
    watching = replace(recipe, shadow=Shadow(replace(recipe, estimator="constant", params=()), 1.0))
    found = made.fit(watching)
    same(found, one_by_one(rows, watching))
    alone = one_by_one(rows, recipe)
    assert found["payload"].dropna().to_dict() == alone["payload"].dropna().to_dict()
    shadows = {key: "shadow" in json.loads(text) for key, text in found["metrics"].items()}
    assert shadows == {key: SIZES.get(key, 0) >= recipe.min_rows for key in KEYS}


@pytest.mark.parametrize("at_once", [256 << 20, 0])
def test_champions_are_compared_and_the_same_rows_are_kept(stored, monkeypatch, at_once: int) -> None:
    monkeypatch.setattr(
        champion_reader, "MAX_HELD_PAYLOAD_BYTES", at_once
    )  # of this process: the workers read all at once
    rows = sales()
    made = stored(rows)
    recipe = Recipe.of(made.fleet.config)
    older = rows[rows["event_time"] < START + timedelta(hours=8)]
    before = one_by_one(older, recipe).reset_index()
    before = before[before["status"] == "fitted"]
    made.keep(before)
    found = made.fit(recipe, before)
    same(found, one_by_one(rows, recipe, before))
    assert found.loc['["ü\\"","3"]', "status"] == "kept"
    assert '"champion_loss": null' not in found.loc['["a","1"]', "metrics"]


def test_a_champion_is_its_newest_row_and_never_that_of_another_group(stored) -> None:
    made = stored(sales())
    base = {"codec": "linear", "status": "fitted", "trained_through": CLOCK, "metrics": "{}"}
    rows = [
        {"group_key": '["a","1"]', "model_id": "m1", "payload": b"1", "signature": b"old", **base},
        {"group_key": '["a","1"]', "model_id": "m0", "payload": b"0", "signature": b"older", **base},
        {"group_key": '["a","2"]', "model_id": "m9", "payload": b"9", "signature": b"other", **base},
    ]
    made.keep(pd.DataFrame(rows))
    later = {**rows[0], "signature": b"new", "fitted_at": CLOCK + timedelta(days=1), "shard": 0, "batch_id": 1}
    made.fleet.put(tables.MODELS, [{**later, "shard": keys.shard_of('["a","1"]', 4)}], "stream")
    asked = pa.table(
        {
            "shard": pa.array([keys.shard_of(key, 4) for key in KEYS], pa.int32()),
            "group_key": KEYS,
            "champion_id": pa.array(["m1", None, "m9", "gone", None, None]),
            "predecessor_id": pa.array(["m0", None, None, "m1", None, None]),
            "events": pa.array([0] * 6, pa.int64()),
        }
    )
    files = [
        path
        for each in take_snapshots(FleetStore.of(made.fleet.config), tables.MODELS)
        for path in each.files_for(ShardRange(0, 3))
    ]
    whole = StoredChampions(files, asked)
    assert whole.of(0, 6).column("champion_signature").to_pylist() == [b"new", None, None, None, None, None]
    assert whole.of(0, 6).column("champion_id").to_pylist() == ["m1", None, None, None, None, None]
    assert whole.of(0, 2).column("champion_payload").to_pylist() == [b"1", None]
    assert whole.of(0, 6).column("predecessor_id").to_pylist() == ["m0", None, None, None, None, None]
    assert whole.of(0, 6).column("predecessor_signature").to_pylist() == [b"older", None, None, None, None, None]


def test_payloads_that_do_not_fit_together_are_read_block_by_block(stored, monkeypatch) -> None:
    made = stored(sales())
    base = {"codec": "linear", "status": "fitted", "trained_through": CLOCK, "metrics": "{}", "signature": b"s"}
    made.keep(pd.DataFrame([{"group_key": key, "model_id": key, "payload": key.encode(), **base} for key in SIZES]))
    shards = pa.array([keys.shard_of(key, 4) for key in SIZES], pa.int32())
    none = pa.nulls(len(SIZES), pa.string())
    asked = pa.table({"shard": shards, "group_key": [*SIZES], "champion_id": [*SIZES], "predecessor_id": none})
    files = [
        path
        for each in take_snapshots(FleetStore.of(made.fleet.config), tables.MODELS)
        for path in each.files_for(ShardRange(0, 3))
    ]
    at_once = StoredChampions(files, asked).of(1, 4)
    monkeypatch.setattr(champion_reader, "MAX_HELD_PAYLOAD_BYTES", 0)
    assert StoredChampions(files, asked).of(1, 4).equals(at_once)
    assert at_once.column("champion_payload").to_pylist() == [key.encode() for key in [*SIZES][1:4]]


def test_predictions_are_those_of_scikit_learn_by_applyinpandas(spark, stored) -> None:
    rows = sales()
    rows = rows[~rows["group_key"].isin(['["thin","1"]'])]
    made = stored(rows, ("window_rows = 30", 'window_rows = 2000\nestimator = "ridge"'))
    recipe = Recipe.of(made.fleet.config)
    features = ["price", "stock"]

    def oracle(frame: pd.DataFrame) -> pd.DataFrame:
        pipeline = make_pipeline(SimpleImputer(), StandardScaler(), Ridge(alpha=1.0))
        pipeline.fit(frame[features], frame["label"])
        return frame.assign(expected=pipeline.predict(frame[features]))[["group_key", "event_id", "expected"]]

    types = "group_key string, event_id string, event_time timestamp, price double, stock int, label double"
    plain = rows.astype({"event_time": object}).astype(object).where(rows.notna(), None)
    grouped = spark.createDataFrame(plain, types).groupBy("group_key")
    expected = grouped.applyInPandas(oracle, "group_key string, event_id string, expected double").toPandas()
    models = made.fit(recipe)
    both = rows.merge(expected, on=["group_key", "event_id"])
    assert len(both) == len(rows)
    for key, mine in both.groupby("group_key"):
        answers = load(models.loc[key, "codec"], models.loc[key, "payload"]).predict(mine)
        np.testing.assert_allclose(answers, mine["expected"], rtol=1e-6, atol=1e-6)


def test_a_group_that_raises_is_one_failed_row_and_the_others_are_fitted(stored) -> None:
    rows = sales()
    # Numbers whose squares overflow: this group's sums are not finite.
    mine = rows["group_key"] == '["a","2"]'
    rows.loc[mine & rows["event_id"].str.endswith("004"), "price"] = 1e308
    rows.loc[mine & rows["event_id"].str.endswith("005"), "price"] = -1e308
    made = stored(rows)
    recipe = Recipe.of(made.fleet.config)
    found = made.fit(recipe)
    same(found, one_by_one(rows, recipe))
    assert found["status"].to_dict()['["a","2"]'] == "failed"
    assert found.loc['["a","2"]', ["error_class", "payload", "model_id"]].notna().tolist() == [True, False, False]
    assert found.loc[['["a","1"]', '["ü\\"","3"]'], "status"].tolist() == ["fitted"] * 2


@pytest.mark.parametrize(("events_per_task", "tasks"), [(400, 3), (334, 3), (200, 6), (130, 9)])
def test_the_number_of_large_tasks_is_a_multiple_of_the_cores_so_that_they_end_together(
    monkeypatch, events_per_task: int, tasks: int
) -> None:
    """1,000 events on 3 cores: 2.5, 3, 5 and 7.7 tasks would be needed."""
    monkeypatch.setattr(spark_fitting, "TASK_EVENTS", events_per_task)
    requests = pa.table({"shard": [0] * 100, "group_key": [f"g{n:02}" for n in range(100)], "events": [10] * 100})
    cut = cut_into_tasks(requests, cores=3)
    assert len(cut) == tasks
    sizes = [each.num_rows for each in cut]
    assert max(sizes) - min(sizes) <= 1


def test_tasks_hold_every_request_once_in_order_and_none_is_too_large(monkeypatch) -> None:
    monkeypatch.setattr(spark_fitting, "TASK_EVENTS", 100)
    events = [0, 0, 40, 70, 10, 5, 500, 1, None, 0, 30, 0]
    named = [(at % 3, f"g{at:02}") for at in range(len(events))]
    requests = pa.table(
        {
            "shard": pa.array([shard for shard, _ in named], pa.int32()),
            "group_key": [key for _, key in named],
            "champion_id": pa.nulls(len(events), pa.string()),
            "predecessor_id": pa.nulls(len(events), pa.string()),
            "events": pa.array(events, pa.int64()),
        }
    )
    cut = cut_into_tasks(requests, cores=2)
    assert [key for each in cut for key in each.column("group_key").to_pylist()] == [key for _, key in sorted(named)]
    assert all(each.num_rows for each in cut)
    of_tasks = [each.column("events").fill_null(0).to_pylist() for each in cut]
    assert all(sum(events) - max(events) <= 100 for events in of_tasks)  # one group alone may have more
    monkeypatch.setattr(spark_fitting, "TASK_EVENTS", 1_000)
    assert len(cut_into_tasks(requests, cores=2)) == 1  # too few groups to be worth a second task
    assert list(block_ranges(np.array([30_000, 30_000, 10_000, 70_000, 0, 0]))) == [(0, 1), (1, 3), (3, 4), (4, 6)]
