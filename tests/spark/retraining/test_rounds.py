"""A round is carried out once, whatever happens between its writes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from schemas import tables
from schemas.vocabulary import RoundKind
from spinney.core import keys
from spinney.core.config import parse
from spinney.core.errors import StoreError
from spinney.core.recipes.recipe import Recipe
from spinney.fleet import Fleet
from spinney.retraining import rounds
from spinney.retraining.fitting import spark_fitting
from spinney.retraining.round_plan import PLANNED_SCHEMA
from spinney.retraining.round_request import READ, RoundRequest
from spinney.retraining.rounds import Rounds
from spinney.storage.layout import FleetStore
from spinney.storage.step_observer import observed_by
from spinney.tables import delta

START = datetime(2024, 5, 1, tzinfo=UTC)
CLOCK = START + timedelta(days=5)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
A, B, C, THIN, ALL = '["a","1"]', '["b","1"]', '["c","1"]', '["thin","1"]', "{}"
EVERY = (A, B, C, THIN, ALL)


class Crash(Exception):  # noqa: N818 - said as what is so
    """The process ends here."""


def champion_of(fleet, key: str) -> str | None:
    rows = [row for row in fleet.rows(tables.PROMOTIONS) if row["group_key"] == key]
    mine = [row for row in rows if row["decision"] in ("promoted", "unproven")]
    return max(mine, key=lambda row: (row["trained_through"], row["fitted_at"]))["model_id"] if mine else None


def plan(fleet, runner: Rounds, batch_id: int, *group_keys: str, pinned: str = "", deferred: int = 0) -> None:
    rows = [
        {
            "shard": keys.shard_of(key, 4), "group_key": key, "policy": "asked", "decision": "fit", "epoch": 0,
            "model_id": champion_of(fleet, key), "numbers": json.dumps({"pinned": key == pinned}), "judged_at": NOW,
        }
        for key in group_keys
    ]  # fmt: skip
    # What the judge says besides is stored with the plan, and is no part of it.
    rows.append({**rows[0], "group_key": '["fresh","9"]', "decision": "deferred"})
    request = RoundRequest(
        round_id=f"stream-{batch_id}", groups_in=len(group_keys) + deferred, deferred=deferred,
        reasons={"asked": len(group_keys)}, clock=CLOCK, now=NOW + timedelta(hours=batch_id), budget_seconds=5.0,
        predicted_seconds=1.5, pins=delta.pin_versions(FleetStore.of(fleet.config), *READ),
    )  # fmt: skip
    runner.plan(pa.Table.from_pylist(rows, schema=PLANNED_SCHEMA), request, batch_id)


def whole_round(fleet, runner: Rounds) -> None:
    plan(fleet, runner, 0, A, B, THIN, ALL)
    runner.carry_out(0)


def runner_of(spark, fleet) -> Rounds:
    return Rounds(spark, fleet.config, fleet.signer, RoundKind.STREAM, "c1")


def stored(fleet) -> dict[str, Any]:
    """What a round leaves, but for how long it took."""
    models = sorted(fleet.rows(tables.MODELS), key=lambda row: row["group_key"])
    promotions = sorted(fleet.rows(tables.PROMOTIONS), key=lambda row: (row["decided_at"], row["group_key"]))
    slow = ("fit_ms", "seconds", "predicted_seconds", "pins")
    all_rows = {"models": models, "promotions": promotions, "rounds": fleet.rows(tables.ROUNDS)}
    all_rows["verdicts"] = sorted(fleet.rows(tables.VERDICTS), key=lambda row: row["group_key"])
    return {
        table: [{name: value for name, value in row.items() if name not in slow} for row in rows]
        for table, rows in all_rows.items()
    }


@pytest.fixture
def fleet(world):
    made = world(('parents = [["dept"], []]', "parents = [[]]"), ("max_rows = 40", "max_rows = 25"))
    for shop, count in (("a", 40), ("b", 20), ("c", 24), ("thin", 3)):
        made.sell(shop, 1, count)
    return made


def test_a_round_with_a_shadow_decides_the_same_and_says_what_it_lost(spark, fleet) -> None:
    root = fleet.config.storage.root
    shutil.copytree(root, f"{root}-beside")
    whole_round(fleet, runner_of(spark, fleet))
    beside = parse(
        f"{fleet.config.text}\n[shadow]\nestimator = 'constant'\nshare = 1.0\n", "fleet.toml",
        {"SPINNEY_STORAGE__ROOT": f"{root}-beside"},
    )  # fmt: skip
    other = replace(fleet, config=beside)
    whole_round(other, runner_of(spark, other))
    plainly, with_shadow = stored(fleet), stored(other)
    report = {row["group_key"]: json.loads(row["metrics"]) for row in with_shadow["models"]}
    assert {key for key, metrics in report.items() if "shadow" in metrics} == {A, B}
    for row in with_shadow["models"]:
        report[row["group_key"]].pop("shadow", None)
        row["metrics"] = json.dumps(report[row["group_key"]])
    assert with_shadow == plainly
    # A constant knows nothing of the price.
    (pair,) = Fleet(beside).shadow()
    assert (pair.groups, pair.rows, pair.wins, pair.estimator) == (2, 6 + 4, 0, "constant")
    assert pair.shadow_loss > 10 * pair.recipe_loss
    assert "; in shadow constant: loss " in str(Fleet(beside).why(A))


def test_one_round_after_the_other_adds_up_is_kept_and_held(spark, fleet) -> None:
    runner = runner_of(spark, fleet)
    plan(fleet, runner, 0, *EVERY, deferred=2)
    assert runner.unfinished()[0] == 0
    assert runner.carry_out(0).request.round_id == "stream-0"
    assert runner.unfinished() is None
    (first,) = fleet.rows(tables.ROUNDS)
    counts = {name: first[name] for name in ("groups_in", "fitted", "failed", "too_few_rows", "kept", "deferred")}
    assert counts == {"groups_in": 7, "fitted": 4, "failed": 0, "too_few_rows": 1, "kept": 0, "deferred": 2}
    # The newest 30 of 40 rows, 20, 24, and 25 sampled of all: a fifth is held out, evidence needs three.
    assert (first["promoted"], first["unproven"], first["refused"], first["held"]) == (4, 0, 0, 0)
    assert (first["kind"], first["started_at"], first["clock"]) == ("stream", NOW, CLOCK)
    assert json.loads(first["seconds"]).keys() == {"plan", "fit", "gate"}
    assert first["recipe_id"] == Recipe.of(fleet.config).recipe_id
    models = {row["group_key"]: row for row in fleet.rows(tables.MODELS)}
    assert {key: (row["status"], row["rows"]) for key, row in models.items()} == {
        A: ("fitted", 30), B: ("fitted", 20), C: ("fitted", 24), THIN: ("too_few_rows", 3), ALL: ("fitted", 25),
    }  # fmt: skip
    assert all(row["shard"] == keys.shard_of(row["group_key"], 4) for row in models.values())
    promotions = {row["group_key"]: row for row in fleet.rows(tables.PROMOTIONS)}
    assert promotions.keys() == {A, B, C, ALL}
    for key, row in promotions.items():
        for name in ("model_id", "payload", "signature", "codec", "trained_through", "fitted_at", "rows"):
            assert row[name] == models[key][name], name

    # A has new rows, B has none, C has new ones and is pinned.
    for shop in "ac":
        fleet.sell(shop, 1, 10, since=START + timedelta(days=3))
    again = runner_of(spark, fleet)
    plan(fleet, again, 1, A, B, C, THIN, pinned=C)
    again.carry_out(1)
    second = (
        fleet.rows(tables.ROUNDS)[1] if fleet.rows(tables.ROUNDS)[1]["batch_id"] == 1 else fleet.rows(tables.ROUNDS)[0]
    )
    counts = {name: second[name] for name in ("groups_in", "fitted", "too_few_rows", "kept", "held", "deferred")}
    assert counts == {"groups_in": 4, "fitted": 2, "too_few_rows": 1, "kept": 1, "held": 1, "deferred": 0}
    decided = {row["group_key"]: row for row in fleet.rows(tables.PROMOTIONS) if row["batch_id"] == 1}
    assert decided[B]["decision"] == "kept"
    assert decided[B]["model_id"] == promotions[B]["model_id"]
    assert decided[C]["decision"] == "held"
    assert decided[C]["reason"].startswith("pinned by a person; without the pin: ")
    assert decided[A]["champion_loss"] is not None
    assert decided[A]["rows_compared"] == 5  # the newest half of the ten rows that are new to its champion
    compared = [decided[key]["challenger_loss"] for key in (A, C)]
    assert second["mean_challenger_loss"] == pytest.approx(sum(compared) / 2)
    assert B not in {row["group_key"] for row in fleet.rows(tables.MODELS) if row["batch_id"] == 1}


def test_a_round_cut_off_after_any_write_ends_as_if_it_had_not_been(spark, fleet, monkeypatch, tmp_path) -> None:
    expected = None
    for step in ("", "plan", "fit", "gate", "record"):
        mine = world_copy(fleet, tmp_path, step)
        if not step:
            runner = runner_of(spark, mine)
            whole_round(mine, runner)
            expected = stored(mine)
            continue

        def crash(name: str, batch_id: int, at: str = f"retrain.{step}") -> None:
            if name == at:
                raise Crash

        with observed_by(crash):
            runner = runner_of(spark, mine)
            with pytest.raises(Crash):
                whole_round(mine, runner)
        # The world moves on: B gets other rows, A another champion.
        mine.sell("b", 1, 9, since=START + timedelta(days=4))
        other = {"group_key": A, "model_id": "people's", "decision": "pinned", "epoch": 7, "decided_at": NOW}
        mine.put(tables.PROMOTIONS, [{**other, "shard": 0, "batch_id": 0}], "people")
        mine.put(tables.MODELS, [{"group_key": A, "model_id": "people's", "status": "fitted", "batch_id": 0}], "batch")
        # And what was begun by one recipe ends by it, when the configuration has another since.
        edited = parse(mine.config.text.replace("[recipe]\n", "[recipe]\nparams = { alpha = 7.0 }\n"), "fleet.toml", {})
        now = mine.config if step == "plan" else edited
        again = Rounds(spark, now, mine.signer, RoundKind.STREAM, "c1")
        assert again.is_planned(0)
        assert (again.unfinished() is None) == (step == "record")
        again.carry_out(0)
        again.carry_out(0)
        found = stored(mine)
        found["promotions"] = [row for row in found["promotions"] if row["model_id"] != "people's"]
        found["models"] = [row for row in found["models"] if row["model_id"] != "people's"]
        assert found == expected, f"crash after {step}"


def world_copy(fleet, tmp_path, step: str):
    """The same fleet in tables of its own."""
    root = tmp_path / f"root-{step or 'undisturbed'}"
    shutil.copytree(tmp_path / "root", root)
    text = fleet.config.text.replace(f"{tmp_path}/root", str(root))
    return type(fleet)(parse(text, "fleet.toml", {}))


def test_nothing_planned_is_nothing_to_carry_out(spark, fleet) -> None:
    runner = runner_of(spark, fleet)
    assert runner.next_batch() == 0
    assert runner.carry_out(0) is None
    assert runner.unfinished() is None
    assert fleet.rows(tables.ROUNDS) == []


def in_order(frame: pd.DataFrame) -> list[dict[str, Any]]:
    known = frame.astype(object).where(frame.notna(), None)
    return sorted(known.to_dict("records"), key=lambda row: row["group_key"])


def test_few_groups_and_many_are_decided_and_written_alike(spark, fleet, monkeypatch, tmp_path) -> None:
    first = runner_of(spark, fleet)
    plan(fleet, first, 0, *EVERY)
    first.carry_out(0)
    fleet.sell("a", 1, 10, since=START + timedelta(days=3))
    found = []
    for few in (rounds.MAX_GATED_GROUPS, 2):
        mine = world_copy(fleet, tmp_path, f"few{few}")
        with monkeypatch.context() as patch:
            patch.setattr(rounds, "MAX_GATED_GROUPS", few)
            patch.setattr(spark_fitting, "TASK_EVENTS", few)
            runner = runner_of(spark, mine)
            plan(mine, runner, 1, *EVERY, pinned=C)
            runner.carry_out(1)
        rows = {base.name: pd.DataFrame(mine.rows(base)) for base in (tables.PROMOTIONS, tables.MODELS)}
        found.append({name: in_order(of[of["batch_id"] == 1].drop(columns=["fit_ms"])) for name, of in rows.items()})
    few_rows, many_rows = found
    assert few_rows == many_rows
    assert [row["group_key"] for row in few_rows["promotions"]] == sorted({*EVERY} - {THIN})


def test_few_groups_and_parents_are_fitted_without_spark_as_with_it(spark, fleet, monkeypatch, tmp_path) -> None:
    def refuse():
        raise AssertionError("Spark was asked for")

    found = []
    for start in (spark, refuse):
        mine = world_copy(fleet, tmp_path, "with" if start is spark else "without")
        runner = Rounds(start, mine.config, mine.signer, RoundKind.STREAM, "c1")
        plan(mine, runner, 0, *EVERY)
        runner.carry_out(0)
        found.append(stored(mine))
    assert found[0] == found[1]
    assert {row["group_key"] for row in found[0]["models"]} == {*EVERY}
    monkeypatch.setattr(spark_fitting, "TASK_EVENTS", 5)
    plan(mine, runner, 1, ALL)
    with pytest.raises(AssertionError, match="Spark was asked for"):  # one process would read for too long
        runner.carry_out(1)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('window = "10d"', 'window = "4d"'),
        ('label_delay = "1h"', 'label_delay = "23h"'),
        ("parents = [[]]", 'parents = [["dept"], []]'),
    ],
)
def test_a_configuration_that_was_edited_after_the_plan_does_not_stop_its_round(spark, fleet, before, after) -> None:
    plan(fleet, runner_of(spark, fleet), 0, A, B, THIN, ALL)
    assert before in fleet.config.text
    edited = parse(fleet.config.text.replace(before, after), "fleet.toml", {})
    Rounds(spark, edited, fleet.signer, RoundKind.STREAM, "c1").carry_out(0)
    (recorded,) = fleet.rows(tables.ROUNDS)
    assert recorded["groups_in"] == 4


def test_rows_that_the_plan_counted_and_that_are_not_there_stop_the_round(spark, fleet) -> None:
    runner = runner_of(spark, fleet)
    plan(fleet, runner, 0, A, B, THIN, ALL)
    row = next(row for row in fleet.rows(tables.VERDICTS) if row["group_key"] == B and row["decision"] == "fit")
    assert json.loads(row["numbers"]) == {"pinned": False, "events": 20}
    (log,) = Path(FleetStore.of(fleet.config).directory(tables.EVENTS).uri, "_delta_log").glob("*1.json")
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    lost = [action for action in actions if "add" not in action]
    log.write_text("\n".join(map(json.dumps, lost)))
    with pytest.raises(StoreError, match=r"expected the \d+ events that the round's plan counted in the table events"):
        runner.carry_out(0)
    assert fleet.rows(tables.MODELS) == fleet.rows(tables.PROMOTIONS) == fleet.rows(tables.ROUNDS) == []
