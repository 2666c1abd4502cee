"""The commands that list a fleet, and what they import, on tables as two weekly rounds leave them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from many_groups import key_of, model_id, write_fleet

import spinney.fleet
from spinney.cli import main
from spinney.core.config import Config
from spinney.core.reporting.group_status import State
from spinney.fleet import Fleet

GROUPS = 210
READ_ONLY_COMMANDS = Path(__file__).parents[2] / "benchmarks" / "read_only_commands.py"


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Config:
    return write_fleet(tmp_path_factory.mktemp("many"), GROUPS)


def output_of(config: Config, *words: str) -> str:
    done = CliRunner().invoke(main, [*words, "--config", str(Path(config.storage.root).parent / "fleet.toml")])
    assert done.exit_code == 0, done.output
    return done.stdout


def expected(n: int) -> tuple[State, str | None]:
    """State and champion of a group, by how the tables were made."""
    if n % 100 == 3:
        return State.NONE, None
    if n % 50 == 2:
        return State.FAILED, model_id(n, 0)
    if n % 20 == 1:
        return State.REFUSED, model_id(n, 0)
    if n == 0:
        return State.HELD, model_id(n, 0)
    return State.FRESH, model_id(n, 0 if n == 5 else 1)


def test_every_group_stands_where_its_rounds_and_people_put_it(config: Config) -> None:
    found = {each.group_key: (each.state, each.model_id) for each in Fleet(config).groups()}
    assert found == {key_of(n): expected(n) for n in range(GROUPS)}


def test_a_large_fleet_is_read_shard_after_shard_with_the_same_result(config: Config, monkeypatch) -> None:
    monkeypatch.setattr(spinney.fleet, "ROWS_AT_ONCE", 40)
    found = {each.group_key: (each.state, each.model_id) for each in Fleet(config).groups()}
    assert list(found.items()) == [(key_of(n), expected(n)) for n in range(GROUPS)]


def test_a_limited_list_a_state_and_the_whole_as_json_say_the_same(config: Config) -> None:
    whole = json.loads(output_of(config, "fleet", "--json"))
    assert [row["group_key"] for row in whole] == [key_of(n) for n in range(GROUPS)]
    failed = json.loads(output_of(config, "fleet", "--state", "failed", "--json"))
    assert failed == [row for row in whole if row["state"] == "failed"]
    assert [row["error"] for row in failed] == ["Input X contains infinity"] * 5
    head, *lines = output_of(config, "fleet", "--limit", "2").splitlines()
    assert head.split("\t") == [name for name in whole[0] if name != "loss_name"], "no loss was ever another"
    assert [line.split("\t")[:3] for line in lines] == [list(row.values())[:3] for row in whole[:2]]


def test_the_story_of_one_group_is_its_own(config: Config) -> None:
    story: dict[str, Any] = json.loads(output_of(config, "why", key_of(5), "--json"))
    assert [(each["what"], each.get("model_id")) for each in story["happened"]] == [
        ("judged fit", None),
        ("fitted", model_id(5, 0)),
        ("promoted", model_id(5, 0)),
        ("judged fit", None),
        ("fitted", model_id(5, 1)),
        ("promoted", model_id(5, 1)),
        ("promoted", model_id(5, 0)),
    ]
    assert story["happened"][-1]["by"] == "ada"


def test_looking_imports_neither_spark_nor_mlflow_nor_scikit_learn_and_a_story_not_even_pandas(config: Config) -> None:
    heavy = ("pyspark", "mlflow", "sklearn", "scipy", "matplotlib", "confluent_kafka", "pandas")
    file = Path(config.storage.root).parent / "fleet.toml"
    run = "import sys; from click.testing import CliRunner; from spinney.cli import main; found = {}\n"
    for words in (["--help"], ["why", key_of(7)], ["fleet", "--limit", "3"]):
        asked = [*words, "--config", str(file)] if words != ["--help"] else words
        run += f"assert CliRunner().invoke(main, {asked!r}).exit_code == 0\n"
        run += f"print([name for name in {heavy!r} if name in sys.modules])\n"
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "[]", "['pandas']"]


def test_the_benchmark_of_listing_runs(config: Config) -> None:
    arguments = ["--groups", "120", "--events", "2", "--runs", "1", "--json"]
    done = subprocess.run(
        [sys.executable, str(READ_ONLY_COMMANDS), *arguments], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    names = ["bare", "--help", "fleet --limit 3", "fleet --json", "why KEY"]
    assert [each["command"] for each in report["results"]] == names
    assert all(each["peak_mb"] > 10 and each["output_kb"] >= 0 for each in report["results"])
    assert (report["groups"], report["events"], set(report["versions"])) == (
        120,
        240,
        {"deltalake", "pandas", "pyarrow"},
    )
