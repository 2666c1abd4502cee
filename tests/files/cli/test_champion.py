"""promote, rollback, pin and unpin as they are typed."""

from __future__ import annotations

import getpass
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from handwritten_history import Past, fleet_toml, hour

from spinney.cli import main
from spinney.storage import signing_key
from spinney.storage.config_file import read_config
from spinney.storage.layout import FleetStore

A, B = '["a","1"]', '["b","1"]'


@pytest.fixture
def past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Past:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPINNEY_SIGNING_KEY", raising=False)
    (tmp_path / "fleet.toml").write_text(fleet_toml(), encoding="utf-8")
    config = read_config("fleet.toml")
    signing_key.ensure_key(FleetStore.of(config))
    made = Past(config, signing_key.load_signer(FleetStore.of(config)))
    made.first = made.round(1, {A: 1.0, B: 21.0})
    made.second = made.round(2, {A: 2.0, B: 22.0})
    return made


def run(*words: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(main, words, input=typed)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the command sits before it."""
    monkeypatch.setattr("spinney.cli.options.somebody_is_there", lambda: True)


def test_a_dry_run_shows_group_both_models_and_why_and_writes_nothing(past: Past) -> None:
    done = run("promote", "a", "1", "--model", past.first[A], "--reason", "so", "--dry-run")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "group\tfrom\tto\twhy",
        f"{A}\t{past.second[A]}\t{past.first[A]}\tasked for by name; {past.second[A]} is withdrawn",
    ]
    assert past.decided() == []


def test_with_yes_it_is_written_with_name_and_reason(past: Past) -> None:
    done = run("rollback", "a", "1", "--reason", " overshoots ", "--by", "ada", "--yes")
    assert done.exit_code == 0, done.output
    assert "written: 1 group, in force from the stream's next batch on" in done.stderr
    assert past.answers() == {A: past.first[A], B: past.second[B]}
    assert {(row["by"], row["reason"]) for row in past.decided()} == {("ada", "rolled back: overshoots")}


def test_the_login_name_decides_when_no_other_is_given(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "grace")
    assert run("pin", "a", "1", "--reason", "so", "--yes").exit_code == 0
    assert past.decided()[0]["by"] == "grace"


@pytest.mark.parametrize("name", ["stream", "batch", " "])
def test_nobody_decides_under_a_machines_name_or_none(past: Past, name: str) -> None:
    done = run("pin", "a", "1", "--reason", "so", "--yes", "--by", name)
    assert done.exit_code == 2
    assert "expected a person's name" in done.stderr


def test_without_a_terminal_nothing_is_written_unless_it_was_confirmed_beforehand(past: Past) -> None:
    done = run("pin", "a", "1", "--reason", "so")
    assert done.exit_code == 2
    assert "no terminal to ask on: add --yes, or --dry-run to look only" in done.stderr
    assert past.decided() == []


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal_it_is_asked_and_no_means_no(past: Past) -> None:
    done = run("pin", "a", "1", "--reason", "so", "--by", "ada", typed="n\n")
    assert done.exit_code == 1
    assert "1 group change, by ada. Write it?" in done.output
    assert past.decided() == []
    assert run("pin", "a", "1", "--reason", "so", "--by", "ada", typed="y\n").exit_code == 0
    assert [row["decision"] for row in past.decided()] == ["pinned"]


@pytest.mark.parametrize("verb", ["promote", "rollback", "pin", "unpin"])
def test_a_reason_is_asked_for_and_an_empty_one_is_none(past: Past, verb: str) -> None:
    model = ["--model", "x"] if verb == "promote" else []
    assert "Missing option '--reason'" in run(verb, "a", "1", *model, "--yes").stderr
    done = run(verb, "a", "1", *model, "--yes", "--reason", " ")
    assert (done.exit_code, "expected words" in done.stderr) == (2, True)


@pytest.mark.parametrize("words", [(), ("a", "1", "--all"), ("--all", "--group", A), ("a", "1", "--group", B)])
def test_a_rollback_is_of_one_group_of_several_or_of_all(past: Past, words: tuple[str, ...]) -> None:
    done = run("rollback", *words, "--as-of", "stream-1", "--reason", "so", "--yes")
    assert done.exit_code == 2
    assert "expected one of: KEY, at least one --group KEY, --all" in done.stderr


@pytest.mark.parametrize("words", [("--all",), ("--group", A, "--group", B)])
def test_several_groups_go_back_to_a_time_or_a_round(past: Past, words: tuple[str, ...]) -> None:
    assert "expected --as-of with several groups" in run("rollback", *words, "--reason", "so", "--yes").stderr
    for named in ("stream-1", hour(1).isoformat()):
        done = run("rollback", *words, "--as-of", named, "--reason", "so", "--dry-run", "--json")
        assert done.exit_code == 0, done.output
        assert {each["group_key"]: each["after"] for each in json.loads(done.stdout)["changes"]} == past.first
    run("rollback", *words, "--as-of", "stream-1", "--reason", "so", "--yes")
    assert past.answers() == past.first


def test_as_json_it_says_what_was_written_and_what_was_left_and_asks_nothing(past: Past) -> None:
    assert "with --json nothing is asked" in run("unpin", "a", "1", "--reason", "so", "--json").stderr
    run("pin", "a", "1", "--reason", "so", "--yes")
    done = run("rollback", "--all", "--as-of", "stream-1", "--reason", "so", "--yes", "--json")
    report = json.loads(done.stdout)
    assert report["written"] is True
    assert [(each["group_key"], each["before"], each["after"], each["withdrawn"]) for each in report["changes"]] == [
        (B, past.second[B], past.first[B], past.second[B])
    ]
    assert report["left"] == [{"group_key": A, "model_id": past.second[A], "why": "pinned", "wanting": False}]


def test_what_cannot_be_done_is_one_sentence_and_exit_code_1(past: Past) -> None:
    run("pin", "a", "1", "--reason", "so", "--yes")
    for words, reported in (
        (("promote", "a", "1", "--model", past.first[A]), f"spinney: group {A}: pinned to {past.second[A]}"),
        (("pin", "a", "2"), 'spinney: group ["a","2"]: no model of it is known; the nearest are'),
        (("unpin", "b", "1"), f"spinney: group {B}: not pinned"),
    ):
        done = run(*words, "--reason", "so", "--yes")
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.startswith(reported)
        assert len(done.stderr.splitlines()) == 1


def test_what_would_change_nothing_says_so(past: Past) -> None:
    done = run("promote", "a", "1", "--model", past.second[A], "--reason", "so", "--yes")
    assert done.exit_code == 0
    assert done.stderr.splitlines() == ["nothing to change", f"left as it is: {A}: answers already"]


def test_a_fleet_that_could_not_go_back_whole_is_exit_code_1(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPINNEY_SIGNING_KEY", "another key of enough length")
    done = run("rollback", "--all", "--as-of", "stream-1", "--reason", "so", "--yes")
    assert done.exit_code == 1
    assert f"left as it is: {A} and 1 more: the model's signature does not hold" in done.stderr
    assert past.answers() == past.second


def test_help_imports_no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spinney.operations.interventions", None)
    assert run("rollback", "--help").exit_code == 0
