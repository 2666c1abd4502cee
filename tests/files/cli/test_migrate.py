from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from handwritten_history import Past, fleet_toml

from spinney.cli import main
from spinney.operations.migration import readiness
from spinney.storage import charter, leases
from spinney.storage.config_file import read_config
from spinney.storage.layout import FleetStore

A = '["a","1"]'


@pytest.fixture
def past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Past:
    """A fleet of shops with a model, whose configuration gets a column `rate`."""
    monkeypatch.chdir(tmp_path)
    text = fleet_toml()
    (tmp_path / "fleet.toml").write_text(text, encoding="utf-8")
    made = Past(read_config("fleet.toml"))
    charter.ensure_charter(FleetStore.of(made.config))
    made.round(1, {A: 1.0})
    (tmp_path / "fleet.toml").write_text(text.replace("[kafka]", 'rate = "double"\n[kafka]'), encoding="utf-8")
    return made


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["migrate", *words])


def test_without_yes_it_shows_what_would_change_and_that_nothing_was(past: Past) -> None:
    there = charter.load_charter(FleetStore.of(past.config))
    done = run()
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "kind\tname\told_name\twas\tbecomes",
        "added\trate\t–\t–\tdouble",
        "table\trows\tfiles\tbytes\twhat",
        "events\t0\t0\t0\tits schema gets rate, null in its rows; no file is touched",
    ]
    assert "- rate: null in the stored rows; read from the field rate from now on" in done.stderr
    assert "nothing was changed; add --yes" in done.stderr
    assert charter.load_charter(FleetStore.of(past.config)) == there


def test_with_yes_it_is_done_and_the_next_call_finds_nothing_to_do(past: Past) -> None:
    done = run("--yes", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["done"], [each["name"] for each in report["changes"]]) == (True, ["rate"])
    again = run("--yes")
    assert again.exit_code == 0, again.output
    assert "the columns and the loss are as the configuration says" in again.stderr
    assert run("--json").exit_code == 0
    assert charter.ensure_charter(FleetStore.of(read_config("fleet.toml"))).fixed["fleet.columns"]["rate"] == "double"


def test_a_change_of_the_loss_shows_what_converts_and_is_made_with_yes(past: Past) -> None:
    text = fleet_toml().replace('target = "sold"', 'target = "sold"\nloss = "squared"')
    Path("fleet.toml").write_text(text, encoding="utf-8")
    shown = run()
    assert shown.exit_code == 0, shown.output
    heading, *states = shown.stdout.splitlines()[:7]
    assert heading == "state\tgroups\twhat"
    assert "recent loss and reference loss, which rank due groups\t1\trestart with each group's next model" in states
    assert "- the loss changes from absolute to squared: new labels" in shown.stderr
    done = json.loads(run("--yes", "--json").stdout)
    assert (done["loss"]["was"], done["loss"]["becomes"], len(done["loss"]["states"])) == ("absolute", "squared", 6)
    assert charter.ensure_charter(FleetStore.of(read_config("fleet.toml"))).fixed["fleet.loss"] == "squared"
    assert "as the configuration says" in run().stderr


def test_a_rename_is_written_old_and_new(past: Past) -> None:
    for words in ("price", "=cost", "price="):
        done = run("--rename", words)
        assert (done.exit_code, f"expected OLD=NEW, each OLD once; got '{words}'" in done.stderr) == (2, True)
    assert "expected price to be gone" in run("--rename", "price=rate").stderr


def test_while_a_process_of_the_fleet_runs_it_is_refused_by_name(past: Past) -> None:
    with leases.held(FleetStore.of(past.config), ["score"]):
        done = run("--yes")
    assert done.exit_code == 1
    assert "query score of fleet shops: another process runs it (pid" in done.stderr


def test_what_has_to_be_done_first_is_shown_and_the_exit_code_says_so(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "find_obstacles", lambda config: iter(["query ingest: batch 3 has not ended"]))
    done = run()
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == "not now: query ingest: batch 3 has not ended"
    as_json = run("--json")
    assert (as_json.exit_code, json.loads(as_json.stdout)["obstacles"]) == (1, ["query ingest: batch 3 has not ended"])


def test_where_no_fleet_has_begun_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fleet.toml").write_text(fleet_toml("elsewhere"), encoding="utf-8")
    done = run()
    assert done.exit_code == 1
    assert "nothing to migrate: there is no fleet" in done.stderr
    assert not (tmp_path / "elsewhere").exists()
