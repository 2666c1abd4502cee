"""A small fleet is retrained without Spark, its parents too."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from file_cases import CLASSIC, NOON

from batch.load import load
from batch.weekly import retrain
from schemas import tables
from spinney.core.keys import is_parent
from spinney.core.recipes.recipe import Recipe
from spinney.retraining.fitting import parent_fitting
from spinney.storage import signing_key, step_observer
from spinney.storage.layout import FleetStore
from spinney.tables import delta

ROWS, STORES = 120, 3


def refuse():
    raise AssertionError("Spark was asked for")


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(signing_key.KEY, "k" * 32)
    frame = pd.DataFrame({"id": [f"s{n}" for n in range(ROWS)], "store": [f"{n % STORES}" for n in range(ROWS)]})
    frame["at"] = [NOON + timedelta(hours=n) for n in range(ROWS)]
    frame["x"] = [n * n % 97 / 7 for n in range(ROWS)]
    frame["sold"] = 3 * frame["x"] + 10 * frame["store"].astype(int)
    frame.to_parquet(tmp_path / "a.parquet", index=False)
    config = CLASSIC.config(tmp_path / "root")
    assert config.fleet.parents == ((),)
    load(config, str(tmp_path / "a.parquet"))
    return config


def test_every_group_and_the_parent_of_all_are_fitted_without_spark_and_kept_the_next_time(fleet) -> None:
    first, second = retrain(fleet, spark=refuse), retrain(fleet, spark=refuse)
    assert (first["groups_in"], first["fitted"], first["failed"]) == (STORES + 1, STORES + 1, 0)
    assert (second["groups_in"], second["kept"], second["fitted"]) == (STORES + 1, STORES + 1, 0)
    rows = {row["group_key"]: row["rows"] for row in delta.read_table(FleetStore.of(fleet), tables.MODELS).to_pylist()}
    assert rows == {'["0"]': 40, '["1"]': 40, '["2"]': 40, "{}": 120}
    assert sum(map(is_parent, rows)) == 1


def test_the_rows_of_all_parents_are_not_handed_over_as_one_batch(fleet, monkeypatch) -> None:
    """Blocks of whole parents are cut between batches: of one batch there would be one block, whatever its size."""
    handed: list[int] = []
    cut = parent_fitting.whole_groups

    def counted(batches, *rest):
        batches = list(batches)
        handed.extend(each.num_rows for each in batches)
        return cut(batches, *rest)

    monkeypatch.setattr(parent_fitting, "BATCH_ROWS", 50)
    monkeypatch.setattr(parent_fitting, "whole_groups", counted)
    assert retrain(fleet, ["{}"], spark=refuse)["fitted"] == 1
    assert max(handed) <= 50
    assert sum(handed) == ROWS + 1  # and one row that counts them
    (row,) = delta.read_table(FleetStore.of(fleet), tables.MODELS).to_pylist()
    assert row["rows"] == ROWS


def test_a_parent_alone_is_fitted_without_spark(fleet) -> None:
    assert retrain(fleet, ["{}"], spark=refuse)["fitted"] == 1


def test_a_parent_is_fitted_on_the_rows_of_all_its_groups_where_these_have_the_same_ids(tmp_path, monkeypatch) -> None:
    """An id has to be unique within its group: here it is the hour, as in docs/records.md the date."""
    monkeypatch.setenv(signing_key.KEY, "k" * 32)
    config = CLASSIC.config(tmp_path / "root")
    frame = pd.DataFrame(
        {"id": [f"h{n // STORES}" for n in range(ROWS)], "store": [f"{n % STORES}" for n in range(ROWS)]}
    )
    frame["at"] = [NOON + timedelta(hours=n // STORES) for n in range(ROWS)]
    frame["x"], frame["sold"] = 1.0, [float(n % STORES) for n in range(ROWS)]
    frame.to_parquet(tmp_path / "a.parquet", index=False)
    load(config, str(tmp_path / "a.parquet"))
    assert retrain(config, spark=refuse)["fitted"] == STORES + 1
    rows = {row["group_key"]: row["rows"] for row in delta.read_table(FleetStore.of(config), tables.MODELS).to_pylist()}
    assert rows == {'["0"]': 40, '["1"]': 40, '["2"]': 40, "{}": 120}


def test_a_round_that_was_closed_before_it_fitted_anything_names_no_recipe(fleet) -> None:
    """The recipe of the round before would be wrong."""

    def kill(step: str, batch_id: int) -> None:
        if (step, batch_id) == ("weekly.plan", 1):
            raise KeyboardInterrupt

    retrain(fleet, spark=refuse)
    with step_observer.observed_by(kill), pytest.raises(KeyboardInterrupt):
        retrain(fleet, spark=refuse)
    edited = fleet.model_copy(update={"recipe": fleet.recipe.model_copy(update={"min_rows": 9})})
    retrain(edited, spark=refuse)
    rounds = delta.read_table(FleetStore.of(fleet), tables.ROUNDS, ["round_id", "deferred", "recipe_id"]).to_pylist()
    recipes = {row["round_id"]: row["recipe_id"] for row in rounds}
    assert {row["round_id"]: row["deferred"] for row in rounds} == {"batch-0": 0, "batch-1": STORES + 1, "batch-2": 0}
    names = [Recipe.of(config).recipe_id for config in (fleet, edited)]
    assert recipes == {"batch-0": names[0], "batch-1": None, "batch-2": names[1]}


def test_an_interrupted_round_is_continued_without_spark(fleet) -> None:
    def kill(step: str, batch_id: int) -> None:
        if step == "weekly.plan":
            raise KeyboardInterrupt

    with step_observer.observed_by(kill), pytest.raises(KeyboardInterrupt):
        retrain(fleet, spark=refuse)
    done = retrain(fleet, spark=refuse)
    assert (done["round_id"], done["groups_in"], done["fitted"]) == ("batch-0", STORES + 1, STORES + 1)
