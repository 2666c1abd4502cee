from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from deltalake import DeltaTable
from handwritten_history import Past, fleet_toml, hour

from schemas import tables
from spinney.cli import main
from spinney.core.champions.jump_holds import held_since
from spinney.core.timestamps import to_microseconds
from spinney.retraining.gate_input import read_past_decisions
from spinney.storage import leases
from spinney.storage.config_file import read_config
from spinney.storage.layout import Directory, FleetStore
from spinney.tables import delta

A, B, C, D = (f'["{shop}","1"]' for shop in "abcd")
JUMP = "jump: its predictions are 12 spreads of the champion's residuals from the champion's"


@pytest.fixture
def past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Past:
    """Eight models of long ago."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fleet.toml").write_text(fleet_toml(more='[retention]\nmodels = "1d"\n'), encoding="utf-8")
    made = Past(read_config("fleet.toml"))
    for at in range(1, 9):
        made.round(at, {A: float(at)})
    return made


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["tidy", *words])


def versions(past: Past) -> dict[str, int]:
    return {each.name: delta.current_version(each) for each in FleetStore.of(past.config).every_directory()}


def test_a_dry_run_says_what_would_go_and_changes_nothing(past: Past) -> None:
    before = versions(past)
    done = run("--dry-run", "--json")
    assert done.exit_code == 0, done.output
    report = {each["directory"]: each for each in json.loads(done.stdout)}
    assert set(report) == set(before)
    assert [report["models/stream"][name] for name in ("files", "small", "forgotten", "gone", "behind")] == [
        8,
        8,
        5,
        0,
        None,
    ]
    assert versions(past) == before


def test_each_table_is_opened_once_for_all_directories(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    """To open a table is to read its log: after a month of commits that takes longer than all else."""
    once, opened = dict.fromkeys(versions(past), 1), Counter[str]()

    def open_and_count(directory: Directory) -> DeltaTable | None:
        opened[directory.name] += 1
        return open_table(directory)

    open_table = delta.open_table
    monkeypatch.setattr(delta, "open_table", open_and_count)
    assert run("--dry-run").exit_code == 0
    assert opened == once


def test_a_table_that_does_not_exist_is_said_before_another_one_is_tidied(past: Past) -> None:
    store = FleetStore.of(past.config)
    models, missing = store.directory(tables.MODELS, "stream"), store.directory(tables.ROUNDS, "batch")
    before = delta.current_version(models)
    shutil.rmtree(missing.uri)
    done = run("--yes")
    assert (done.exit_code, "table rounds/batch: nothing at" in done.stderr) == (1, True), done.output
    assert delta.current_version(models) == before


def test_with_yes_it_is_done_and_reported(past: Past) -> None:
    done = run("--yes", "--json")
    assert done.exit_code == 0, done.output
    report = {each["directory"]: each for each in json.loads(done.stdout)}
    assert (report["models/stream"]["forgotten"], report["promotions/stream"]["forgotten"]) == (5, 5)
    again = {each["directory"]: each for each in json.loads(run("--dry-run", "--json").stdout)}
    assert [again["models/stream"][name] for name in ("files", "small", "forgotten")] == [1, 0, 0]


def test_it_asks_on_a_terminal_and_refuses_without_one(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (run().exit_code, "no terminal to ask on: add --yes" in run().stderr) == (2, True)
    monkeypatch.setattr("spinney.cli.options.somebody_is_there", lambda: True)
    before = versions(past)
    asked = CliRunner().invoke(main, ["tidy"], input="n\n")
    assert (asked.exit_code, "Tidy these?" in asked.output) == (1, True)
    assert versions(past) == before


def test_what_a_process_writes_that_does_not_serve_is_left_reported_and_exit_code_1(past: Past) -> None:
    with leases.held(FleetStore.of(past.config), ["retrain"]):
        before = versions(past)
        done = run("--yes", "--wait", "0")
    assert done.exit_code == 1
    assert "left as it is: what retrain writes: a process runs it that did not serve in time" in done.stderr
    assert {name for name, version in versions(past).items() if version != before[name]} == set()
    assert run("--yes", "--wait", "0").exit_code == 0


@pytest.mark.parametrize("hold", [{"reason": JUMP}, {"about_jump": True}], ids=["of an earlier version", "of this one"])
def test_the_hold_from_which_the_time_of_a_jump_counts_stays_and_what_ended_the_series_before(
    past: Past, hold: dict[str, Any]
) -> None:
    past.round(9, {B: 9.0, C: 9.0})
    past.round(10, {A: 10.0, B: 10.0, C: 10.0}, decision="held", kind="batch", **hold)
    past.round(11, {A: 11.0}, decision="held", kind="batch", **hold)
    past.round(11, {B: 11.0, C: 11.0}, decision="refused")
    past.round(12, {A: 12.0, C: 12.0}, decision="held", kind="batch", **hold)
    for kind in ("stream", "batch"):  # the newest batch, which is never deleted
        past.round(13, {D: 13.0}, kind=kind)
    assert run("--yes").exit_code == 0
    decisions = read_past_decisions(FleetStore.of(past.config), pa.array([A, B, C]))
    left = {key: {(row.decision, row.clock) for row in rows} for key, rows in decisions.items()}
    rows = (("promoted", 9), ("held", 10), ("refused", 11), ("held", 12))
    champion, first, refusal, second = ((decision, to_microseconds(hour(at))) for decision, at in rows)
    assert {row for row in left[A] if row[0] != "promoted"} == {first}
    assert left[B] == {champion, refusal}, "the stream's directory is tidied first, while the hold is still there"
    assert left[C] == {champion, refusal, second}
    assert [held_since(decisions[key]) for key in (A, B, C)] == [first[1], None, second[1]]
    assert run("--yes").exit_code == 0
    again = read_past_decisions(FleetStore.of(past.config), pa.array([A, B, C]))
    assert [len(again[key]) for key in (A, B, C)] == [len(left[A]), 1, 3]
