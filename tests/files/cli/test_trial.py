from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from spinney.cli import main

FLIGHTS = Path(__file__).parents[3] / "examples" / "flights"
KEY = '["AA","LGA","DFW"]'


def run(folder: Path, *words: str) -> Result:
    given = ["--config", str(FLIGHTS / "fleet.toml"), "--rows", str(FLIGHTS / "departures.parquet")]
    return CliRunner().invoke(main, ["try", *given, "--out", str(folder), *words])


def test_a_group_of_the_flights_is_tried_from_its_file_and_drawn(tmp_path: Path) -> None:
    result = run(tmp_path, "--group", '["AA", "LGA", "DFW"]')
    assert result.exit_code == 0
    output = {line[:9].strip(): line[10:] for line in result.stdout.splitlines()}
    assert output["group"] == "AA · LGA · DFW"
    assert output["target"] == "air_time_min"
    assert output["loss"].startswith("Mean absolute error: ")
    assert output["html"] == str(tmp_path / "AA-LGA-DFW.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["AA-LGA-DFW.html", "AA-LGA-DFW.png"]


def test_json_is_one_document(tmp_path: Path) -> None:
    result = run(tmp_path, "--group", '["AA","LGA","DFW"]', "--json")
    found = json.loads(result.stdout)
    assert (found["group_key"], found["loss"], found["heldout_rows"]) == (
        '["AA","LGA","DFW"]',
        "absolute",
        39,  # of the newest three days: weight_half_life
    )
    assert found["recipe"]["params"] == {"alpha": 30.0}
    assert found["files"] == {kind: str(tmp_path / f"AA-LGA-DFW.{kind}") for kind in ("png", "html")}


@pytest.mark.parametrize(
    ("key", "code", "message"),
    [
        ('["AA","LGA","XXX"]', 1, "expected rows of group"),
        ("AA", 1, "expected 3 columns, carrier, origin, dest"),
        ('["AA",', 2, "KEY"),
    ],
)
def test_what_cannot_be_tried_is_reported_and_draws_nothing(tmp_path: Path, key: str, code: int, message: str) -> None:
    result = run(tmp_path / "out", "--group", key)
    assert result.exit_code == code
    assert message in result.stderr
    assert not (tmp_path / "out").exists()
