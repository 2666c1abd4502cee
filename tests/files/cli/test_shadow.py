"""`spinney fleet --shadow` over tables that are filled by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from handwritten_history import Past, fleet_toml, hour

from schemas import tables
from spinney.cli import main
from spinney.core.config import parse

A, B = '["a","1"]', '["b","1"]'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.toml"
    path.write_text(fleet_toml(tmp_path / "root"))
    return path


@pytest.fixture
def past(file: Path) -> Past:
    return Past(parse(file.read_text(), "fleet.toml", {}))


def attempted(past: Past, part: str, key: str, at: float, mine: float, theirs: float) -> None:
    shadow = {"estimator": "constant", "recipe_id": "5" * 64, "loss": theirs, "rows": 10}
    metrics = json.dumps({"challenger_loss": mine, "heldout_rows": 10, "shadow": shadow})
    row = {"group_key": key, "model_id": f"{key}{at}", "recipe_id": "e" * 64, "fitted_at": hour(at), "metrics": metrics}
    past.put(tables.MODELS, part, {**row, "shard": 0, "status": "fitted", "round_id": f"{part}-1", "batch_id": 1})


def show_shadow(file: Path, *more: str) -> Result:
    return CliRunner().invoke(main, ["fleet", "--shadow", "--config", str(file), *more])


def test_the_recipe_stands_beside_its_shadow_with_what_stream_and_batch_compared(past: Past, file: Path) -> None:
    past.round(1, {A: 1.0})
    attempted(past, "stream", A, 2, 2.0, 1.0)
    attempted(past, "batch", B, 3, 4.0, 2.0)
    result = show_shadow(file, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == [
        {
            "recipe_id": "e" * 64,
            "shadow_recipe_id": "5" * 64,
            "estimator": "constant",
            "groups": 2,
            "rows": 20,
            "recipe_loss": 3.0,
            "shadow_loss": 1.5,
            "difference": -1.5,
            "standard_error": 0.5,
            "wins": 2,
            "failed": 0,
            "error": None,
            "last_at": "2024-05-01T03:00:00Z",
        }
    ]
    names, values = (line.split("\t") for line in show_shadow(file).stdout.splitlines())
    row = dict(zip(names, values, strict=True))
    assert (row["recipe_id"], row["shadow_recipe_id"], row["difference"]) == ("e" * 12, "5" * 12, "-1.5")


def test_a_fleet_without_a_shadow_has_nothing_to_compare(past: Past, file: Path) -> None:
    past.round(1, {A: 1.0})
    result = show_shadow(file)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "nothing to compare: no group was retrained with a [shadow] beside it" in result.stderr
    assert json.loads(show_shadow(file, "--json").stdout) == []


def test_what_compares_all_groups_is_not_asked_for_some(past: Past, file: Path) -> None:
    result = show_shadow(file, "--state", "failed")
    assert result.exit_code == 2
    assert "expected --shadow alone" in result.stderr
