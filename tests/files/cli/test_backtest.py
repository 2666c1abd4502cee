from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from batch.load.loading import load
from spinney.cli import main
from spinney.storage.config_file import read_config

FLIGHTS = Path(__file__).parents[3] / "examples" / "flights"


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
    """Five weeks of one carrier's flights."""
    flights = pd.read_parquet(FLIGHTS / "departures.parquet")
    is_wanted = (flights["carrier"] == "AA") & (flights["scheduled_departure"] < pd.Timestamp("2013-02-05", tz="UTC"))
    file = tmp_path_factory.mktemp("backtest") / "history.parquet"
    flights[is_wanted].to_parquet(file)
    return file


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["backtest", "--config", str(FLIGHTS / "fleet.toml"), *words])


def test_candidates_are_compared_with_the_configuration_and_drawn(rows: Path, tmp_path: Path) -> None:
    weekly, plot = tmp_path / "weekly.toml", tmp_path / "out" / "frontier.svg"
    weekly.write_text('[staleness]\nmax_age = "7d"\nnew_rows = 100000\n')
    words = ["--rows", str(rows), "--candidate", str(weekly), "--plot", str(plot)]
    found = json.loads(run(*words, "--json").stdout)
    assert (found["steps"], found["step_seconds"], found["loss"]) == (35, 86400.0, "absolute")
    ours, other = found["candidates"]
    assert (ours["name"], other["name"]) == ("as configured", "weekly")
    assert ours["ratio"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert other["ratio"]["value"] == pytest.approx(other["loss"] / ours["loss"])
    assert ours["fits_by_policy"]["new_group"] == other["fits_by_policy"]["new_group"] > 10
    assert ours["fits"] > 2 * other["fits"]
    assert found["compared_events"] <= ours["answered"] < found["events"]
    texts = [element.text for element in ET.parse(plot).iter() if element.tag.endswith("text")]
    assert {"as configured", "weekly", "models fitted"} <= set(texts)


def test_a_table_is_printed_and_everything_else_is_on_standard_error(rows: Path) -> None:
    result = run("--rows", str(rows), "--step", "7d")
    heading, line = result.stdout.splitlines()
    assert heading.split("\t")[:5] == ["candidate", "loss", "ratio", "95 %", "fits"]
    assert line.split("\t")[0] == "as configured"
    assert dict(zip(heading.split("\t"), line.split("\t"), strict=True))["held"] == "0"
    assert "6 steps of 7 days" in result.stderr
    assert "mean absolute error of the" in result.stderr


def test_the_tables_of_a_fleet_give_the_result_of_the_file_that_was_loaded(rows: Path, tmp_path: Path) -> None:
    config = tmp_path / "fleet.toml"
    config.write_text((FLIGHTS / "fleet.toml").read_text())
    words = ["backtest", "--config", str(config), "--step", "7d", "--json"]
    absent = CliRunner().invoke(main, words)
    assert (absent.exit_code, absent.stdout) == (1, "")
    assert "no table events" in absent.stderr
    load(read_config(config), str(rows))
    stored, of_file = (
        json.loads(CliRunner().invoke(main, each).stdout) for each in (words, [*words, "--rows", str(rows)])
    )
    assert stored["candidates"][0]["loss"] == of_file["candidates"][0]["loss"]
    assert stored["candidates"][0]["fits_by_policy"] == of_file["candidates"][0]["fits_by_policy"]
    assert stored["source"] == f"the tables below {tmp_path / 'work' / 'flights'}"


def test_baselines_follow_the_candidates(rows: Path) -> None:
    found = json.loads(run("--rows", str(rows), "--step", "7d", "--baselines", "--json").stdout)
    names = [each["name"] for each in found["candidates"]]
    assert names[:3] == ["as configured", "never again", "all every 7 d"]
    assert names[-1] == "hindsight, at most as many"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--step", "0s"], 2, "--step"),
        (["--step", "often"], 2, "expected"),
        (["--candidate", "absent.toml"], 2, "absent.toml: expected a file of TOML"),
    ],
)
def test_wrong_usage_is_reported(rows: Path, words: list[str], code: int, message: str) -> None:
    result = run("--rows", str(rows), *words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr


def test_rows_without_labels_are_refused(rows: Path, tmp_path: Path) -> None:
    file = tmp_path / "unlabelled.parquet"
    pd.read_parquet(rows).drop(columns="air_time_min").to_parquet(file)
    result = run("--rows", str(file))
    assert result.exit_code == 1
    assert "expected a column air_time_min with the labels" in result.stderr
