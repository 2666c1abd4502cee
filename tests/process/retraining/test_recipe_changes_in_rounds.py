"""A recipe that is edited while a stream runs: its rounds compare before anything changes, or keep the champion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from edited_fleet import Edit, editor, estimators, no_spark, sell

from batch.group_selection import BatchView, Scope, plan_verdicts
from batch.weekly import retrain
from schemas import tables
from schemas.vocabulary import RoundKind
from spinney.core.config import Config
from spinney.retraining.round_request import RoundRequest
from spinney.retraining.rounds import Rounds
from spinney.storage import signing_key
from spinney.storage.layout import FleetStore
from spinney.tables import delta, recipe_store

OWN = """\
import os

from sklearn.linear_model import Ridge


def ridge():
    if os.environ.get("OWN_IS_BROKEN"):
        raise RuntimeError("the licence has run out")
    return Ridge()
"""


@pytest.fixture
def edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Edit:
    """The fleet's configuration with another recipe."""
    monkeypatch.setenv(signing_key.KEY, "k" * 32)
    return editor(tmp_path)


def streamed(config: Config) -> dict[str, dict[str, Any]]:
    """What a round of the stream decides about every group."""
    view = BatchView.now_of(FleetStore.of(config))
    plan = plan_verdicts(no_spark, config, Scope(), view)
    runner = Rounds(no_spark, config, signing_key.load_signer(FleetStore.of(config)), RoundKind.STREAM, "c1")
    batch_id = runner.next_batch()
    request = RoundRequest(f"stream-{batch_id}", plan.num_rows, 0, {}, view.clock, view.now, 5.0, 1.0, view.pins)
    runner.plan(plan, request, batch_id)
    runner.carry_out(batch_id)
    rows = delta.read_table(FleetStore.of(config), tables.PROMOTIONS).to_pylist()
    return {row["group_key"]: row for row in rows if row["round_id"] == request.round_id}


def batched(config: Config, **how: Any) -> list[str]:
    """What a batch decides about every group."""
    done = retrain(config, spark=no_spark, **how)
    assert done is not None
    rows = delta.read_table(FleetStore.of(config), tables.PROMOTIONS).to_pylist()
    return [row["decision"] for row in rows if row["round_id"] == done["round_id"]]


def forget_recipes(config: Config) -> None:
    for file in recipe_store.recipe_folder(FleetStore.of(config)).glob("*.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"signature": "00" * 32}))


@pytest.mark.parametrize(
    ("before", "after", "decision"), [("ridge", "constant", "refused"), ("constant", "ridge", "promoted")]
)
def test_a_recipe_that_can_be_fitted_again_is_compared_on_the_held_out_rows(edited, before, after, decision) -> None:
    sell(edited(), 2, rows=200)
    streamed(edited(before))
    found = streamed(edited(after))
    assert {(row["decision"], row["rows_compared"]) for row in found.values()} == {(decision, 40)}
    assert all("against the champion's recipe" in row["reason"] for row in found.values())


def test_after_a_feature_was_dropped_the_champion_stays_and_a_new_group_gets_its_first_model(edited) -> None:
    sell(edited(), 2)
    assert {row["decision"] for row in streamed(edited(features='["x", "z"]')).values()} == {"unproven"}
    sell(edited(), 3, rows=40, first=30)
    found = streamed(edited("constant"))
    first = found.pop('["s002"]')
    assert (first["decision"], first["reason"]) == (
        "unproven",
        (
            "first model on thin evidence, 30 rows needed: loss 7.987 against a constant's 7.987 on 8 rows (equal; "
            "better with 50 % confidence)"
        ),
    )
    for key, row in found.items():
        assert (row["decision"], row["rows_compared"]) == ("refused", 0)
        assert row["reason"].startswith("not compared: the champion was fitted by another recipe, and champion "), row[
            "reason"
        ]
        assert row["reason"].endswith(
            f"of group {key}: expected features of the current recipe; it was fitted on z too. It is not compared. "
            "`spinney retrain --unproven` promotes without evidence"
        )
    assert estimators(edited("constant")) == {"ridge": 2, "constant": 1}
    assert batched(edited("constant"), unproven=True).count("unproven") == 2
    assert estimators(edited("constant")) == {"constant": 3}


def test_a_lost_recipe_waits_for_rows_that_are_newer_than_the_champion(edited) -> None:
    sell(edited(), 2)
    streamed(edited("constant"))
    forget_recipes(edited())
    held = streamed(edited("ridge"))
    (reason,) = {row["reason"] for row in held.values()}
    assert reason == (
        "not compared: the champion was fitted by another recipe, and no held-out row is newer than the champion. "
        "`spinney retrain --unproven` promotes without evidence"
    )
    assert {row["decision"] for row in held.values()} == {"refused"}
    sell(edited(), 2, rows=400, first=30)
    found = streamed(edited("ridge"))
    assert {(row["decision"], row["rows_compared"]) for row in found.values()} == {("promoted", 86)}


def test_a_comparison_that_was_promised_and_fails_changes_nothing_in_a_stream_or_a_batch(
    edited, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "licensed.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    sell(edited(), 2)
    streamed(edited("licensed:ridge"))
    monkeypatch.setenv("OWN_IS_BROKEN", "1")
    held = streamed(edited("ridge"))
    assert {row["decision"] for row in held.values()} == {"refused"}
    assert all("its recipe: " in row["reason"] and "the licence has run out" in row["reason"] for row in held.values())
    reported: list[Any] = []
    assert batched(edited("ridge"), show=lambda _, message: reported.append(message)) == ["refused", "refused"]
    assert str(reported[0]).endswith("each compared on its newest rows with a refit of the old recipe")
    assert estimators(edited("ridge")) == {"licensed:ridge": 2}
    assert batched(edited("ridge"), unproven=True) == ["unproven", "unproven"]


def test_a_batch_that_has_announced_few_groups_without_a_comparison_promotes_them(edited) -> None:
    sell(edited(), 2)
    streamed(edited("constant"))
    forget_recipes(edited())
    sell(edited(), range(2, 4))  # without new groups these would be more than half of the fleet
    done = retrain(edited("ridge"), spark=no_spark)
    assert done is not None
    rows = delta.read_table(FleetStore.of(edited()), tables.PROMOTIONS).to_pylist()
    found = {row["group_key"]: row["decision"] for row in rows if row["round_id"] == done["round_id"]}
    assert len(found) == 4
    assert [found[key] for key in ('["s000"]', '["s001"]')] == ["unproven", "unproven"]


def test_a_champion_whose_signature_does_not_hold_answers_nobody_and_is_not_kept(
    edited, monkeypatch: pytest.MonkeyPatch
) -> None:
    sell(edited(), 2)
    streamed(edited("constant"))
    monkeypatch.setenv(signing_key.KEY, "q" * 32)
    assert {row["decision"] for row in streamed(edited("ridge")).values()} == {"unproven"}
