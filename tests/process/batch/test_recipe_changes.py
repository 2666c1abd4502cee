"""A fleet whose recipe is edited between two batches: what is compared, said beforehand, and decided. Without Spark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from edited_fleet import Edit, decided, editor, estimators, no_spark, sell

from batch.weekly import retrain
from schemas import tables
from spinney.cli import main
from spinney.core.config import Config
from spinney.core.errors import ContractError
from spinney.core.planning.batch_parts import Progress
from spinney.core.recipes.recipe import Recipe
from spinney.fleet import Fleet
from spinney.storage import last_configuration, signing_key
from spinney.storage.layout import FleetStore
from spinney.tables import delta, recipe_store


@pytest.fixture
def edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Edit:
    """The fleet's configuration with another recipe."""
    monkeypatch.setenv(signing_key.KEY, "k" * 32)
    return editor(tmp_path)


def run(config: Config, **how: Any) -> list[str]:
    """Retrain all; what was told beforehand."""
    reported: list[str] = []

    def show(_: str, message: Progress | str) -> None:
        if isinstance(message, str):
            reported.append(message)

    retrain(config, spark=no_spark, show=show, **how)
    return reported


def features_of_last(config: Config) -> tuple[str, ...]:
    found = last_configuration.read_last_configuration(FleetStore.of(config))
    assert found is not None
    return tuple(found.fleet.features)


def test_a_worse_recipe_on_the_same_rows_is_compared_and_refused(edited: Edit) -> None:
    sell(edited(), 2)
    assert run(edited()) == []
    reported = run(edited("constant"))
    assert reported == [
        "2 groups: recipe changed (ridge → constant): each compared on its newest rows with a refit of the old recipe"
    ]
    for row in decided(edited()):
        assert (row["decision"], row["rows_compared"]) == ("refused", 6)
        assert row["challenger_loss"] > 2 * row["champion_loss"]
        assert row["reason"].startswith("worse: loss ")
        assert "against the champion's recipe (ridge " in row["reason"]
    assert estimators(edited()) == {"ridge": 2}


def test_a_better_recipe_on_the_same_rows_is_promoted_with_evidence(edited: Edit) -> None:
    sell(edited(), 2, rows=200)
    run(edited("constant"))
    run(edited("ridge"))
    assert {(row["decision"], row["rows_compared"]) for row in decided(edited())} == {("promoted", 40)}
    assert estimators(edited()) == {"ridge": 2}


def test_the_recipe_that_was_left_is_reported_value_by_value(edited: Edit) -> None:
    sell(edited(), 1)
    run(edited(recipe='params = {alpha = 1.0}\nwindow = "30d"'))
    reported = run(edited(features='["x", "z"]', recipe='params = {alpha = 10.0}\nwindow = "60d"'))
    change = "recipe changed (alpha 1.0 → 10.0, with z, window 30d → 60d)"
    assert reported == [f"1 group: {change}: each compared on its newest rows with a refit of the old recipe"]


def test_a_fleet_is_not_changed_where_nothing_can_be_compared_unless_that_is_reported(edited: Edit) -> None:
    sell(edited(), 21)
    run(edited(features='["x", "z"]'))
    without = edited("constant")
    with pytest.raises(ContractError) as raised:
        run(without)
    assert str(raised.value) == (
        "retrain: 21 of 21 groups would get a model of another recipe with nothing to compare it by: expected at most "
        "10% of the fleet. Put the recipe back, wait for newer rows (they do not help where a feature "
        "was dropped), or add --unproven to promote them all without evidence. 21 groups: recipe changed (ridge → "
        "constant, without z), and the old one cannot be fitted again: it was fitted on z, no longer among "
        "fleet.features: 0 compared on rows newer than their model, 21 with nothing"
    )
    assert estimators(without) == {"ridge": 21}
    assert features_of_last(without) == ("x", "z"), "a refused batch is no run of the fleet"
    (reported,) = run(without, unproven=True)
    assert reported.endswith("0 compared on rows newer than their model, 21 with nothing")
    assert estimators(without) == {"constant": 21}
    assert features_of_last(without) == ("x",)
    assert {row["decision"] for row in decided(without)} == {"unproven"}


def test_a_fleet_of_two_groups_is_not_changed_either_but_a_group_that_is_named_is(edited: Edit) -> None:
    sell(edited(), 2)
    run(edited(features='["x", "z"]'))
    without = edited("constant")
    with pytest.raises(ContractError, match=r"retrain: 2 of 2 groups would get .* expected at most 50% of the fleet"):
        run(without)
    assert estimators(without) == {"ridge": 2}
    key = min(row["group_key"] for row in decided(without))
    run(without, groups=[key])
    assert estimators(without) == {"ridge": 1, "constant": 1}


def test_newer_rows_are_evidence_where_the_earlier_recipe_is_lost(edited: Edit) -> None:
    sell(edited(), 21)
    run(edited())
    for file in recipe_store.recipe_folder(FleetStore.of(edited())).glob("*.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"signature": "00" * 32}))
    sell(edited(), 21, rows=40, first=30)
    (reported,) = run(edited("constant"))
    assert reported.endswith(
        "is not stored with a signature that holds: 21 compared on rows newer than their model (21 of them on fewer "
        "than 30, gate.evidence), 0 with nothing"
    )
    assert {row["rows_compared"] for row in decided(edited())} == {14}


def test_newer_rows_are_no_evidence_where_a_feature_was_dropped(edited: Edit) -> None:
    sell(edited(), 21)
    run(edited(features='["x", "z"]'))
    sell(edited(), 21, rows=40, first=30)
    with pytest.raises(ContractError, match=r"21 of 21 groups would get .* with nothing to compare it by") as raised:
        run(edited())
    assert str(raised.value).endswith("0 compared on rows newer than their model, 21 with nothing")


def test_one_newer_row_is_compared_and_reported_as_thin_and_a_worse_recipe_refused_by_it(edited: Edit) -> None:
    sell(edited(), 2)
    run(edited(recipe='window = "60d"'))
    shorter = edited("constant", recipe='window = "30d"')
    sell(shorter, 2, rows=1, first=30)
    (reported,) = run(shorter)
    assert reported.endswith(
        "2 compared on rows newer than their model (2 of them on fewer than 30, gate.evidence), 0 with nothing"
    )
    for row in decided(shorter):
        assert row["rows_compared"] == 1
        assert row["challenger_loss"] > row["champion_loss"]
        assert row["decision"] == "refused"
        assert "(another recipe)" in row["reason"]
    assert estimators(shorter) == {"ridge": 2}


def test_newer_events_without_a_label_are_not_counted(edited: Edit) -> None:
    shorter = edited(recipe='window = "30d"')
    sell(shorter, 2, rows=20)
    run(edited(recipe='window = "60d"'))
    sell(shorter, 2, rows=20, first=20, labelled=False)
    assert run(shorter, unproven=True)[0].endswith("0 compared on rows newer than their model, 2 with nothing")


def test_of_many_newer_rows_the_newest_fifth_of_all_rows_is_compared(edited: Edit) -> None:
    shorter = edited(recipe='window = "30d"')
    sell(shorter, 2, rows=20)
    run(edited(recipe='window = "60d"'))
    sell(shorter, 2, rows=129, first=20)  # of 149 rows 29 are held out
    (reported,) = run(edited("constant", recipe='window = "30d"'))
    assert reported.endswith("(2 of them on fewer than 30, gate.evidence), 0 with nothing")
    assert {row["rows_compared"] for row in decided(shorter)} == {29}
    sell(shorter, 2, rows=1, first=149)
    assert run(shorter)[0].endswith("2 compared on rows newer than their model, 0 with nothing")
    assert {row["rows_compared"] for row in decided(shorter)} == {30}


def test_models_that_cannot_be_opened_are_not_reported_as_compared(
    edited: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    sell(edited(), 1)
    run(edited())
    monkeypatch.setenv(signing_key.KEY, "q" * 32)
    sell(edited(), 1, rows=10, first=30)
    (reported,) = run(edited("constant"), unproven=True)
    assert "0 compared on rows newer than their model, 1 with nothing, for their models cannot be asked: " in reported


def test_first_fits_need_no_evidence(edited: Edit) -> None:
    sell(edited(), 30)
    assert run(edited("constant")) == []
    assert estimators(edited()) == {"constant": 30}


def test_the_same_recipe_again_is_no_change(edited: Edit) -> None:
    sell(edited(), 2)
    run(edited())
    sell(edited(), 2, rows=10, first=30)
    assert run(edited()) == []
    assert {row["rows_compared"] for row in decided(edited())} == {5}


def test_going_back_to_a_recipe_is_compared_too(edited: Edit) -> None:
    sell(edited(), 2, rows=200)
    run(edited("constant"))
    run(edited("ridge"))
    run(edited("constant"))
    assert {row["decision"] for row in decided(edited())} == {"refused"}
    assert estimators(edited()) == {"ridge": 2}


def test_a_group_and_its_life_say_which_recipe_answers_without_a_key(edited: Edit, monkeypatch) -> None:
    sell(edited(), 1)
    run(edited())
    run(edited("constant"))
    monkeypatch.delenv(signing_key.KEY)
    fleet, ridge, constant = Fleet(edited()), Recipe.of(edited()).recipe_id[:8], Recipe.of(edited("constant")).recipe_id
    (standing,) = fleet.groups()
    assert standing.recipe == f"ridge {ridge}"
    head, *life = str(fleet.why('["s000"]')).splitlines()
    assert f"answered by model {(standing.model_id or '')[:12]} by ridge {ridge} trained through" in head
    assert any(f"by constant {constant[:8]}, 30 rows" in line for line in life)


def test_one_screen_says_how_many_stand_where_and_what_a_constant_would_have_lost(edited: Edit, tmp_path: Path) -> None:
    sell(edited(), 3)
    run(edited())
    (tmp_path / "fleet.toml").write_text(edited().text, encoding="utf-8")
    words = ["fleet", "--summary", "--config", str(tmp_path / "fleet.toml")]
    report = json.loads(CliRunner().invoke(main, [*words, "--json"], catch_exceptions=False).stdout)
    assert (report["groups"], report["states"]["fresh"], report["unmeasured"], report["worst"]) == (3, 3, 0, [])
    (against,) = report["against"]
    assert (against["other"], against["groups"], against["rows"], against["groups_worse"]) == ("constant", 3, 18, 0)
    rows = [json.loads(row["metrics"]) for row in delta.read_table(FleetStore.of(edited()), tables.MODELS).to_pylist()]
    assert against["fleet_loss"] == pytest.approx(np.mean([row["challenger_loss"] for row in rows]))
    assert against["other_loss"] == pytest.approx(np.mean([row["constant_loss"] for row in rows]))
    lines = CliRunner().invoke(main, words, catch_exceptions=False).stdout.splitlines()
    assert (lines[0], lines[1]) == ("state\tgroups", "fresh\t3")
    assert "other\tbasis\tgroups\trows\tfleet_loss\tother_loss\tgroups_worse" in lines
    assert CliRunner().invoke(main, [*words, "--shadow"]).exit_code == 2
