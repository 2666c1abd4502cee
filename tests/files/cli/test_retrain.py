"""`spinney retrain` up to where the batch begins."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from click.testing import CliRunner
from new_tables import create_tables

import batch.estimate
import batch.weekly
from batch.cost_prediction import Estimate
from schemas import tables
from spinney.cli import main
from spinney.core.planning.batch_parts import Progress
from spinney.storage.layout import FleetStore
from spinney.storage.retrain_requests import read_requests

KEY = '["AA","JFK","LAX"]'


RANGES: dict[str, Any] = {
    "seconds_low": 250.0,
    "seconds_high": 400.0,
    "memory_low_bytes": 800_000_000,
    "memory_high_bytes": 1_100_000_000,
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the batch is asked for; it says how far it is, and that there was nothing to do."""
    found: list[Any] = []

    def retrain(config: Any, groups: Any, *, stale: bool, unproven: bool, spark: Any, show: Any) -> None:
        found.append(("retrain", groups, stale, *(["unproven"] if unproven else [])))
        show("batch-3", "10 groups: recipe changed (ridge → constant)")
        show("batch-3", Progress(5, 1, 10, 90.0))
        show("batch-3", Progress(10, 1, 10, 0.0))

    def estimate(config: Any, groups: Any, *, stale: bool, spark: Any) -> Estimate:
        found.append(("estimate", groups, stale))
        return Estimate(50_000, 312.4, 6, 900_000_000, 21_500_000, 1_200, 3, **RANGES)

    monkeypatch.setattr(batch.weekly, "retrain", retrain)
    monkeypatch.setattr(batch.estimate, "estimate", estimate)
    monkeypatch.setattr("spinney.cli.retrain.load_config", lambda path: path)
    monkeypatch.setattr("spinney.cli.retrain.spark_session", lambda config: None)
    return found


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--all"], ("retrain", None, False)),
        (["--stale"], ("retrain", None, True)),
        (["--all", "--unproven"], ("retrain", None, False, "unproven")),
        (["--group", KEY, "--group", "{}"], ("retrain", [KEY, "{}"], False)),
        (["--stale", "--dry-run"], ("estimate", None, True)),
        (["--group", KEY, "--dry-run"], ("estimate", [KEY], False)),
    ],
)
def test_what_is_asked_for_is_what_the_batch_is_asked(asked, words: list[str], expected: tuple[Any, ...]) -> None:
    done = CliRunner().invoke(main, ["retrain", *words])
    assert (done.exit_code, asked) == (0, [expected]), done.output


@pytest.mark.parametrize("words", [[], ["--all", "--stale"], ["--all", "--group", KEY], ["--stale", "--group", KEY]])
def test_one_kind_of_groups_is_asked_for_or_nothing_is_done(asked, words: list[str]) -> None:
    done = CliRunner().invoke(main, ["retrain", *words])
    assert (done.exit_code, asked) == (2, [])
    assert "expected one of --all, --stale, or --group KEY (at least one)" in done.output


def test_on_a_pipe_each_part_is_a_line_beside_the_result(asked) -> None:
    done = CliRunner().invoke(main, ["retrain", "--all"])
    assert done.stderr.splitlines() == [
        "batch-3: 10 groups: recipe changed (ridge → constant)",
        "batch-3: 5 of 10 groups done, 1 failed, about 1 min 30 s left",
        "batch-3: 10 of 10 groups done, 1 failed",
        "nothing to do",
    ]
    assert done.stdout == ""


def test_an_estimate_is_a_sentence_or_an_object(asked) -> None:
    done = CliRunner().invoke(main, ["retrain", "--all", "--dry-run"])
    assert done.stdout.strip() == (
        "50,000 groups: about 5 min 12 s (4 min 10 s to 6 min 40 s) in 6 parts, 900 MB (800 to 1,100) of memory in "
        "Python workers, 21.5 MB more in tables; by a sample of 1,200, of which 3 failed"
    )
    changed = Estimate(1, 1.0, 1, 1, 1, 1, 0, ("1 group: recipe changed (a → b)",), "1 of 1 groups", **RANGES)
    assert str(changed).splitlines()[1:] == ["1 group: recipe changed (a → b)", "it would be refused: 1 of 1 groups"]
    done = CliRunner().invoke(main, ["retrain", "--all", "--dry-run", "--json"])
    assert json.loads(done.stdout)["table_bytes"] == 21_500_000


def test_a_request_is_left_to_the_stream_and_a_group_that_is_refused_is_an_exit_code_of_1(
    configured, put, monkeypatch
) -> None:
    config = configured()
    create_tables(FleetStore.of(config))
    known, other, unknown = '["a","1"]', '["b","1"]', '["x","1"]'
    event = {"event_id": "e", "event_time": datetime(2024, 5, 1, tzinfo=UTC), "topic": "sales"}
    event |= {"kafka_partition": 0, "kafka_offset": 0, "batch_id": 0}
    put(config, tables.EVENTS, [{**event, "group_key": key} for key in (known, other)])
    monkeypatch.setattr("spinney.cli.retrain.load_config", lambda _: config)
    words = ["retrain", "--request", "--reason", "overshoots", "--by", "ada", "--group", known]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    waits = f"{known}: requested; no stream runs, so the request waits until `spinney stream` is started\n"
    assert (done.stderr, done.stdout) == (waits, "")
    done = CliRunner().invoke(main, [*words, "--group", other, "--group", unknown, "--json"])
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert [order["request"]["by"] for order in found["requested"]] == ["ada"]
    assert [refusal["group_key"] for refusal in found["refused"]] == [known, unknown]
    assert {request.group_key for request in read_requests(FleetStore.of(config))} == {known, other}


@pytest.mark.parametrize(
    "words",
    [
        ["--all", "--request", "--reason", "why"],
        ["--group", KEY, "--reason", "why"],
        ["--group", KEY, "--request"],
        ["--group", KEY, "--request", "--reason", "why", "--dry-run"],
    ],
)
def test_a_request_names_groups_and_a_reason_or_nothing_is_done(asked, words: list[str]) -> None:
    done = CliRunner().invoke(main, ["retrain", *words])
    assert (done.exit_code, asked) == (2, [])
