"""A root that an earlier version has written is opened, and says what it said then."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner
from deltalake import DeltaTable
from earlier_root import EarlierRoot

from batch.weekly import retrain
from schemas import tables
from spinney import Fleet
from spinney.cli import main
from spinney.core.stored_formats import CHARTER
from spinney.operations.dead_letters import ledger
from spinney.retraining.round_request import RoundRequest
from spinney.serving.model_cache import cache
from spinney.storage import charter, last_configuration, signing_key
from spinney.storage.layout import FleetStore
from spinney.tables import delta, lookup, recipe_store
from spinney.tables.lookup import RowFilter

COUNTS = ("fitted", "failed", "too_few_rows", "kept", "deferred")


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EarlierRoot:
    monkeypatch.delenv("SPINNEY_SIGNING_KEY", raising=False)
    cache.cache_clear()
    return EarlierRoot.unpack(tmp_path)


def answer_of(earlier: EarlierRoot, *arguments: str) -> Any:
    done = CliRunner().invoke(main, [*arguments, "--config", str(earlier.file), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def records(answers: pd.DataFrame) -> list[dict[str, Any]]:
    return list(answers.astype(object).where(answers.notna(), None).to_dict("records"))


def test_its_models_are_of_every_codec_but_pickle(earlier: EarlierRoot) -> None:
    models = delta.read_table(FleetStore.of(earlier.config), tables.MODELS).to_pandas()
    assert set(models["codec"].dropna()) == {"linear", "seasonal", "sklearn-arrays", "skops"}


def test_the_fleet_stands_as_it_stood(earlier: EarlierRoot) -> None:
    for arguments, name in ((("fleet",), "fleet"), (("fleet", "--as-of", "batch-0"), "as_of")):
        assert answer_of(earlier, *arguments) == [with_loss_name(earlier, status) for status in earlier.expected[name]]


def with_loss_name(earlier: EarlierRoot, status: dict[str, Any]) -> dict[str, Any]:
    """The status of a group with a field that came later: all losses are by the loss that the fleet was made with."""
    return {**status, "loss_name": None if status["loss"] is None else str(earlier.config.fleet.loss)}


def test_each_groups_life_is_reported_as_it_was(earlier: EarlierRoot) -> None:
    for key, story in earlier.expected["why"].items():
        assert answer_of(earlier, "why", key) == {
            **story,
            "standing": with_loss_name(earlier, story["standing"]),
            "is_pinned": False,
            "request": None,
            "has_two_losses": False,
        }  # fields that came later


def without_intervals(earlier: EarlierRoot) -> list[dict[str, Any]]:
    """Its answers. No interval is bounded: it stored no held-out losses."""
    return [{**answer, "lower": None, "upper": None} for answer in earlier.expected["answers"]]


def test_each_row_is_answered_as_it_was_to_the_bit(earlier: EarlierRoot) -> None:
    rows = pd.DataFrame(earlier.expected["asked"])
    assert records(Fleet.open(earlier.file).predict(rows)) == without_intervals(earlier)
    answered = Counter(each["answered_by"] for each in earlier.expected["answers"])
    assert answered == {"own": 15, "global": 3}


def test_a_registered_version_is_loaded_by_its_own_code_and_answers_the_same(
    earlier: EarlierRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("SPINNEY_SIGNING_KEY", earlier.signing_key)
    code = (earlier.folder / "registered" / "registered_fleet.py").read_text()
    assert "from spinney.stores.manifest import" in code
    (earlier.folder / "root").rename(earlier.folder / "gone")
    model = mlflow.pyfunc.load_model(str(earlier.folder / "registered"))
    assert records(model.predict(pd.DataFrame(earlier.expected["asked"]))) == without_intervals(earlier)


def test_retraining_goes_on(earlier: EarlierRoot) -> None:
    before = delta.read_table(FleetStore.of(earlier.config), tables.ROUNDS).to_pandas()
    row = retrain(earlier.config)
    assert row is not None
    assert row["round_id"] not in set(before["round_id"])
    assert sum(row[name] for name in COUNTS) == row["groups_in"] == 8  # 5 groups, 2 regions, all together
    assert row["failed"] == row["deferred"] == 0
    after = delta.read_table(FleetStore.of(earlier.config), tables.ROUNDS).to_pandas()
    assert len(after) == len(before) + 1
    answers = Fleet.open(earlier.file).predict(pd.DataFrame(earlier.expected["asked"]))
    assert answers["prediction"].notna().all()


def test_its_recipes_are_fitted_again_where_they_are_asked_for(earlier: EarlierRoot) -> None:
    store = FleetStore.of(earlier.config)
    found = recipe_store.load_recipes(store, signing_key.load_signer(store))
    assert set(found) == {file.stem for file in (store.folder / "recipes").glob("*.json")}
    assert {recipe.estimator for recipe in found.values()} == {
        "ridge", "seasonal", "my_estimators:scaled", "my_estimators:neighbours",
    }  # fmt: skip


@pytest.mark.parametrize(("kind", "query"), [("batch", "weekly"), ("stream", "retrain")])
def test_the_plan_of_its_last_round_is_read_from_its_commit(earlier: EarlierRoot, kind: str, query: str) -> None:
    store = FleetStore.of(earlier.config)
    place = store.directory(tables.VERDICTS, kind)
    (text,) = {
        each["checkpoint"]
        for each in (json.loads(entry.get("userMetadata") or "{}") for entry in DeltaTable(place.uri).history())
        if "checkpoint" in each
    }
    plan = delta.DirectoryWriter(place, query, text).last_commit("plan")
    assert plan is not None
    request = RoundRequest.of_notes(plan.notes)
    assert request.round_id == f"{kind}-{plan.batch_id}"
    assert request.pins.keys() >= {"events", "outcomes"}


def test_files_beside_the_tables_are_read_and_get_a_version_when_they_change(earlier: EarlierRoot) -> None:
    store = FleetStore.of(earlier.config)
    file = store.folder / "charter.json"
    assert "format" not in json.loads(file.read_text())
    made = charter.ensure_charter(FleetStore.of(earlier.config))
    assert len(made.editions) == 2  # the ranges were edited once
    assert len(ledger.read_replayed(store)) == 1
    assert ledger.unfinished_replays(store) == []
    before = last_configuration.read_last_configuration(store)
    assert before is not None
    assert before.fleet.ranges["x"] == (-100.0, 2e9)
    earlier.file.write_text(earlier.file.read_text().replace("x = [-100.0, 2000000000.0]", "x = [-5.0, 5.0]"))
    assert len(charter.amend_charter(FleetStore.of(earlier.config)).editions) == 3
    assert json.loads(file.read_text())["format"] == CHARTER.version
    assert charter.ensure_charter(FleetStore.of(earlier.config)).fleet_id == made.fleet_id


def test_columns_that_came_later_are_null_in_its_tables_however_they_are_looked_up(earlier: EarlierRoot) -> None:
    store = FleetStore.of(earlier.config)
    columns = ["group_key", "model_id", "heldout_losses"]
    keys = lookup.read_group_keys(store, tables.MODELS)
    few = lookup.read_rows(store, tables.MODELS, columns, RowFilter.of_groups(keys[:2]))
    more_than_one_query_takes = [*keys, *(f'["unknown {n}"]' for n in range(lookup.MAX_LOOKUP_GROUPS))]
    many = lookup.read_rows(store, tables.MODELS, columns, RowFilter.of_groups(more_than_one_query_takes))
    where = lookup.read_where(store, tables.MODELS, columns)
    stored = delta.read_table(store, tables.MODELS, columns)
    assert few.num_rows >= 2
    assert many.num_rows == where.num_rows == stored.num_rows == delta.read_table(store, tables.MODELS).num_rows
    for table in (few, many, where, stored):
        assert table["heldout_losses"].null_count == table.num_rows
