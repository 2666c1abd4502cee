"""A batch in parts: killed, gone on with, beside the stream, estimated; the books say the same each time."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from batch import cost_prediction, estimate, sampled_costs, weekly
from schemas import tables
from schemas.vocabulary import RoundKind
from spinney.core import keys
from spinney.core.config import parse
from spinney.retraining.round_plan import PLANNED_SCHEMA
from spinney.retraining.round_request import READ, RoundRequest
from spinney.retraining.rounds import Rounds
from spinney.storage import signing_key
from spinney.storage.layout import FleetStore
from spinney.storage.step_observer import observed_by
from spinney.tables import delta

START = datetime(2024, 5, 1, tzinfo=UTC)
SHOPS = "abcdef"
ANSWERING = ("promoted", "unproven")


class Crash(Exception):  # noqa: N818 - said as what is so
    """The process ends here."""


def key(shop: str) -> str:
    return f'["{shop}","1"]'


@pytest.fixture
def fleet(world, monkeypatch):
    """Six shops and their two parents; a part has about one group's work in it."""
    monkeypatch.setenv(signing_key.KEY, "k" * 32)
    made = world(("[storage]", '[tracking]\nmode = "off"\n[budget]\npart_seconds = 0.008\n[storage]'))
    for shop in SHOPS:
        made.sell(shop, 1, 20)
    made.sell("f", 1, 1, since=START + timedelta(days=1))  # whatever came before is mature
    return made


def copied(fleet, tmp_path: Path, name: str):
    """The same fleet in tables of its own."""
    root = tmp_path / name
    shutil.copytree(tmp_path / "root", root)
    return type(fleet)(parse(fleet.config.text.replace(f"{tmp_path}/root", str(root)), "fleet.toml", {}))


def digest(fleet) -> str:
    """Of every model and decision, but for when they were made."""
    models = [(row["group_key"], row["model_id"], row["payload"]) for row in fleet.rows(tables.MODELS)]
    made = [
        (row["group_key"], row["model_id"], row["decision"], row["payload"]) for row in fleet.rows(tables.PROMOTIONS)
    ]
    return hashlib.sha256(repr((sorted(models), sorted(made))).encode()).hexdigest()


def counts(row: dict[str, Any]) -> dict[str, int]:
    names = ("groups_in", "fitted", "failed", "too_few_rows", "kept", "deferred", "promoted", "unproven", "refused")
    return {name: row[name] for name in names if row[name]}


def test_wherever_it_was_killed_nothing_is_fitted_twice_and_the_end_is_that_of_an_unbroken_run(
    spark, fleet, monkeypatch, tmp_path
) -> None:
    unbroken = copied(fleet, tmp_path, "unbroken")
    shown: list[str] = []
    stored: list[str] = []
    with observed_by(lambda name, batch_id: stored.append(name)):
        whole = weekly.retrain(
            unbroken.config, spark=spark, show=lambda name, progress: shown.append(f"{name} {progress}")
        )
    # Spark fits a part while the gate decides about the part before, but each waits to be stored in its turn.
    parts = ["", *(f".{number}" for number in range(1, len(shown)))]
    in_turn = [f"weekly.{step}{part}" for part in parts for step in ("fit", "gate")]
    assert stored == ["weekly.plan", *in_turn, "weekly.record"]
    # The parents first, then the groups; after each part how far it is.
    assert [line.split(", about")[0] for line in shown][:1] == ["batch-0 2 of 8 groups done, 0 failed"]
    assert shown[-1].startswith("batch-0 8 of 8 groups done")
    assert len(shown) > 2
    killed = copied(fleet, tmp_path, "killed")
    for point in ("weekly.fit", "weekly.fit.1", "weekly.gate.1"):

        def crash(name: str, batch_id: int, at: str = point) -> None:
            if name == at:
                raise Crash

        with observed_by(crash), pytest.raises(Crash):
            weekly.retrain(killed.config, spark=spark)
    before = Counter(row["group_key"] for row in killed.rows(tables.MODELS))
    assert len(before) == 5  # the parents, and three groups
    assert killed.rows(tables.ROUNDS) == []
    killed.sell("a", 1, 9, since=START + timedelta(days=3))  # what came meanwhile is for the next batch
    resumed = weekly.retrain(killed.config, spark=spark)
    assert set(Counter(row["group_key"] for row in killed.rows(tables.MODELS)).values()) == {1}
    assert digest(killed) == digest(unbroken)
    assert resumed["round_id"] == whole["round_id"] == "batch-0"
    assert counts(resumed) == counts(whole)
    assert weekly.retrain(killed.config, spark=spark)["round_id"] == "batch-1"


@pytest.mark.parametrize("because", ["its recipe was edited", "it is old"])
def test_a_round_that_nobody_asks_for_any_more_is_closed_as_far_as_it_came(
    spark, fleet, monkeypatch, because: str
) -> None:
    def crash(name: str, batch_id: int) -> None:
        if name == "weekly.fit.1":
            raise Crash

    with observed_by(crash), pytest.raises(Crash):
        weekly.retrain(fleet.config, spark=spark)
    fleet = whole_part(fleet)
    if because == "it is old":
        monkeypatch.setattr(weekly, "MAX_RESUME_AGE", timedelta(0))
    else:
        text = fleet.config.text.replace("[recipe]\n", "[recipe]\nparams = { alpha = 7.0 }\n")
        fleet = type(fleet)(parse(text, "fleet.toml", {}))
    today = weekly.retrain(fleet.config, spark=spark)
    assert today["round_id"] == "batch-1"
    rounds = {row["round_id"]: counts(row) for row in fleet.rows(tables.ROUNDS)}
    # Two parents and three groups were fitted, three were left.
    assert rounds["batch-0"] == {"groups_in": 8, "fitted": 5, "deferred": 3, "promoted": 5}
    fitted = {"its recipe was edited": {"fitted": 8}, "it is old": {"fitted": 3, "kept": 5}}[because]
    assert {name: rounds["batch-1"].get(name, 0) for name in fitted} == fitted
    assert rounds["batch-1"].get("deferred", 0) == 0


def whole_part(fleet):
    """The same fleet with parts of usual length."""
    return type(fleet)(parse(fleet.config.text.replace("part_seconds = 0.008", "part_seconds = 60"), "fleet.toml", {}))


def test_only_what_is_stale_or_was_never_tried_is_retrained(spark, fleet) -> None:
    whole = whole_part(fleet)
    # Every group's deadline is the whole week, so that whose attempt was half a day later is not due.
    staleness = '[staleness]\nmax_age = "7d"\nage_spread = 0.0\nnew_rows = 200\n'
    fleet = type(fleet)(parse(f"{whole.config.text}\n{staleness}", "fleet.toml", {}))
    assert counts(weekly.retrain(fleet.config, stale=True, spark=spark))["fitted"] == 8  # nobody was ever tried
    assert weekly.retrain(fleet.config, stale=True, spark=spark) is None
    fleet.sell("new", 1, 12, since=START + timedelta(days=1))
    # One of its events was scored; that a parent answered is no attempt of its own.
    answered = {"group_key": key("new"), "shard": keys.shard_of(key("new"), 4), "labelled": 1, "rows": 1, "loss": 1.0}
    at = {"last_event_time": START + timedelta(days=1), "observed_on": START.date(), "batch_id": 0}
    fleet.put(tables.HEALTH, [{**answered, **at}], "score")
    (champion,) = [row for row in fleet.rows(tables.PROMOTIONS) if row["group_key"] == key("b")]
    mine = {"group_key": key("b"), "shard": champion["shard"], "model_id": champion["model_id"], "batch_id": 0}
    seen = {"labelled": 200, "rows": 200, "loss": 1.0, "last_event_time": START + timedelta(hours=30)}
    fleet.put(tables.HEALTH, [{**mine, **seen, "observed_on": START.date()}], "labels")
    third = weekly.retrain(fleet.config, stale=True, spark=spark)
    assert third["reasons"] == {"new_group": 1, "new_rows": 1}
    verdicts = [row for row in fleet.rows(tables.VERDICTS) if row["round_id"] == third["round_id"]]
    expected = {row["group_key"]: (row["decision"], row["reason"]) for row in verdicts}
    assert expected == {
        key("new"): ("fit", "nobody has tried to fit it yet"),
        key("b"): ("fit", "200 new rows since the last attempt (limit 200)"),
    }
    fleet.sell("late", 1, 9, since=START + timedelta(days=8))  # a week has passed, but not for b
    assert weekly.retrain(fleet.config, stale=True, spark=spark)["reasons"] == {"max_age": 7, "new_group": 1}


def plan(fleet, runner: Rounds, champions: dict[str, str | None]) -> RoundRequest:
    """What the stream would plan for these groups now. champions: as its judge knows them."""
    now = datetime.now(UTC)
    rows = [
        {"shard": keys.shard_of(group, 4), "group_key": group, "policy": "max_age", "decision": "fit", "epoch": 0,
         "model_id": champion, "numbers": "{}", "judged_at": now}
        for group, champion in champions.items()
    ]  # fmt: skip
    newest = max(row["event_time"] for row in fleet.rows(tables.EVENTS))
    request = RoundRequest(
        "stream-0",
        len(rows),
        0,
        {"max_age": len(rows)},
        newest,
        now,
        5.0,
        1.0,
        delta.pin_versions(FleetStore.of(fleet.config), *READ),
    )
    runner.plan(pa.Table.from_pylist(rows, schema=PLANNED_SCHEMA), request, 0)
    return request


@pytest.mark.parametrize(("first", "newer"), [("stream", ""), ("batch", ""), ("stream", "stream"), ("batch", "batch")])
def test_whoever_decides_first_the_newest_data_answers_and_no_model_is_promoted_twice(
    spark, fleet, monkeypatch, first: str, newer: str
) -> None:
    """Both have planned before either fits; `first` ends its round before the other begins to fit."""
    fleet = whole_part(fleet)
    stream = Rounds(spark, fleet.config, fleet.signer, RoundKind.STREAM, "c1")
    groups = dict.fromkeys(map(key, "ab"))
    steps = {
        "plan": lambda: plan(fleet, stream, groups),
        "sell": lambda: fleet.sell("a", 1, 9, since=START + timedelta(days=2)),
        "end": lambda: stream.carry_out(0),
    }
    planned_before = ["plan", "sell"] if newer == "batch" else []
    at_the_barrier = {"": ["plan"], "stream": ["sell", "plan"], "batch": []}[newer]
    at_the_barrier += ["end"] if first == "stream" else []

    def at_barrier(name: str, batch_id: int) -> None:
        for step in at_the_barrier if name == "weekly.plan" else ():
            steps[step]()

    for step in planned_before:
        steps[step]()
    with observed_by(at_barrier):
        ended = weekly.retrain(fleet.config, list(groups), spark=spark)
    stream.carry_out(0)
    promotions = pd.DataFrame(fleet.rows(tables.PROMOTIONS))
    answering = promotions[promotions["decision"].isin(ANSWERING)]
    assert not answering.duplicated(["group_key", "model_id"]).any()
    # B's rows were the same for both: one model, promoted by the first, found there by the second.
    of_b = promotions[promotions["group_key"] == key("b")]
    assert of_b["model_id"].nunique() == 1
    assert dict(zip(of_b["by"], of_b["decision"], strict=True))[first] in ANSWERING
    assert "kept" in set(of_b["decision"])
    of_a = answering[answering["group_key"] == key("a")].set_index("by")["trained_through"]
    if newer:
        assert of_a[newer] == of_a.max() > START + timedelta(days=2)
        assert len(of_a) == 2
    rounds = {row["kind"]: row for row in fleet.rows(tables.ROUNDS)}
    assert rounds.keys() == {"stream", "batch"}
    assert ended["round_id"] == rounds["batch"]["round_id"]
    for row in rounds.values():
        assert (
            row["groups_in"] == 2 == row["fitted"] + row["failed"] + row["too_few_rows"] + row["kept"] + row["deferred"]
        )


def test_a_dry_run_stores_nothing_and_knows_the_bytes_of_the_real_one(spark, fleet, monkeypatch) -> None:
    fleet = whole_part(fleet)
    for n in range(30):
        fleet.sell(f"s{n}", 2, 12)
    for module in (cost_prediction, sampled_costs):
        monkeypatch.setattr(module, "SMALL_SAMPLE_GROUPS", 8)
    before = {each.name: len(fleet.rows(each)) for each in tables.ALL}
    assert not Path(fleet.config.storage.root, "charter.json").exists()
    reported = estimate.estimate(fleet.config, spark=spark)
    assert {each.name: len(fleet.rows(each)) for each in tables.ALL} == before
    assert not Path(fleet.config.storage.root, "charter.json").exists()
    assert (reported.groups, reported.parts, reported.failed) == (39, 1, 0)  # 36 shops, two departments, all together
    assert 3 + 8 < reported.sample <= 39
    assert 50e6 < reported.memory_low_bytes <= reported.memory_bytes <= reported.memory_high_bytes
    assert 0 < reported.seconds_low <= reported.seconds <= reported.seconds_high
    weekly.retrain(fleet.config, spark=spark)
    real = sum(
        path.stat().st_size
        for name in ("models", "promotions")
        for path in Path(fleet.config.storage.root, "tables", name, "batch").glob("*.parquet")
    )
    assert reported.table_bytes / 1.5 < real < reported.table_bytes * 1.5
    named = estimate.estimate(fleet.config, [key("a")], spark=spark)
    assert (named.groups, named.sample, named.parts) == (1, 1, 1)
    assert estimate.estimate(fleet.config, stale=True, spark=spark).groups == 0
    assert json.dumps(named.__dict__)
    recipe = fleet.config.recipe.model_copy(update={"estimator": "constant", "params": {}})
    edited = estimate.estimate(fleet.config.model_copy(update={"recipe": recipe}), [key("a")], spark=spark)
    how = "recipe changed (linear → constant): each compared on its newest rows with a refit of the old recipe"
    assert (named.changes, edited.changes, edited.refusal) == ((), (f"1 group: {how}",), None)
