"""A weekly batch by a user's rule of the gate: what it decides, and that a missing rule stops the batch beforehand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from edited_fleet import Edit, decided, editor, no_spark, sell

from batch.weekly import retrain
from schemas import tables
from spinney.core.errors import ConfigError
from spinney.storage import signing_key
from spinney.storage.layout import FleetStore
from spinney.tables import delta

NEVER = '[gate]\nrule = "rules_of_a_batch:never"'
SOURCE = "def never(comparison):\n    return False, f'{comparison.rows} rows, {comparison.built_in_promotes}'\n"


@pytest.fixture
def edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Edit:
    monkeypatch.setenv(signing_key.KEY, "k" * 32)
    (tmp_path / "rules_of_a_batch.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return editor(tmp_path)


def test_the_rule_decides_about_challengers_and_not_about_first_models(edited: Edit) -> None:
    own = edited(recipe=NEVER)
    sell(own, 2)
    retrain(own, spark=no_spark)
    assert [row["decision"] for row in decided(own)] == ["unproven", "unproven"]  # six rows held out of thirty
    sell(own, 2, rows=10, first=30)
    retrain(own, spark=no_spark)
    for row in decided(own):
        assert row["decision"] == "refused"
        assert row["reason"].startswith("rules_of_a_batch:never: 5 rows, True; not_worse: unproven, thin evidence")
    models = delta.read_table(FleetStore.of(own), tables.MODELS).to_pylist()
    answers = {row["batch_id"]: json.loads(row["metrics"]).get("user_rule") for row in models}
    assert answers == {0: None, 1: {"rule": "rules_of_a_batch:never", "promotes": False, "reason": "5 rows, True"}}


def test_a_rule_that_cannot_be_imported_stops_the_batch_before_anything_is_planned(edited: Edit) -> None:
    missing = edited(recipe='[gate]\nrule = "no_such_rules:rule"')
    sell(missing, 1)
    with pytest.raises(ConfigError, match="expected a module `no_such_rules`"):
        retrain(missing, spark=no_spark)
    assert delta.read_table(FleetStore.of(missing), tables.VERDICTS).num_rows == 0
