"""Each benchmark runs, tiny, against this tier's Spark session and broker: that it measures at all, not how fast."""

from __future__ import annotations

import io
import json
import re
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from spinney.cli import main
from spinney.storage.config_file import read_config
from streaming.app import Application

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from harness import noop
from harness.commands import ENVIRONMENT
from harness.process_tree import Usage

SMALL = ["--runs", "1", "--json", "--spark", "spark.sql.streaming.pollingDelay=20ms"]


class Started:
    """Queries that run in this process' JVM, in place of a process."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self.began, self.runs, self._stop = time.monotonic(), True, stop

    def stop(self) -> Usage:
        self.kill()
        return used(self.began)

    def kill(self) -> None:
        if self.runs:
            self.runs = False
            self._stop()


def used(began: float) -> Usage:
    return Usage(time.monotonic() - began, 1.0, ((0.0, 100.0), (1.0, 100.0)))


class InThisProcess:
    """`harness.commands.Spinney` with one JVM for all commands: most of a command is otherwise its start."""

    def __init__(self, spark: Any, file: Path) -> None:
        self.spark, self.file = spark, file

    def run(self, *words: str) -> tuple[Usage, str]:
        began = time.monotonic()
        done = CliRunner().invoke(main, [*words, "--config", str(self.file)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return used(began), done.stdout

    def start(self, *words: str) -> Started:
        assert words == ("stream",)
        application = Application(self.spark, read_config(self.file))
        application.start()
        return Started(application.stop)

    def run_module(self, module: str, *words: str) -> tuple[Usage, str]:
        began, printed = time.monotonic(), io.StringIO()
        with redirect_stdout(printed):
            import_module(module).main(words)
        return used(began), printed.getvalue()

    def start_module(self, module: str, *words: str) -> Started:
        assert module == "harness.noop"
        query = noop.start(read_config(self.file), words[1], {"processingTime": "1 second"})
        return Started(query.stop)


@pytest.fixture
def benchmark(spark: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)

    def run(script: str, *words: str) -> dict[str, dict[str, Any]]:
        """Its results by what was measured."""
        monkeypatch.setattr(sys, "argv", [f"{script}.py"])
        import_module(script).main([*SMALL, *words], lambda file: InThisProcess(spark, file))
        whole = json.loads(capsys.readouterr().out)
        assert whole["benchmark"] == script
        assert {"python", "java", "pyspark", "numpy"} <= set(whole["versions"])
        assert "cores" in whole["machine"]
        return {f"{each['what'].strip()}, {each['unit']}": each for each in whole["results"]}

    return run


def test_the_backlog_benchmark_measures_both_queries_against_the_no_op_query(benchmark, broker: str) -> None:
    found = benchmark("stream", "--groups", "30", "--records", "500", "--bootstrap-servers", broker)
    for query in ("ingest", "score"):
        measure = found[f"{query}, backlog, events/s"]
        assert measure["ratio"] == pytest.approx(measure["value"] / measure["peer_value"], rel=1e-2)
    assert found["score against the consumer, events/s"]["peer_value"] > 0


def test_the_latency_benchmark_answers_every_event(benchmark, broker: str) -> None:
    sizes = ["--groups", "30", "--rate", "50", "--warm-up", "1", "--seconds", "2", "--noop-seconds", "1"]
    found = benchmark("latency", *sizes, "--bootstrap-servers", broker)
    assert found["events without a prediction, events"]["value"] == 0
    p50, p99 = (found[f"event → prediction, {name}, s"] for name in ("p50", "p99"))
    assert 0 < p50["value"] <= p99["value"]
    assert 0 < p50["peer_value"] <= p99["peer_value"]


def test_the_freshness_benchmark_sees_new_champions_answer(benchmark, broker: str) -> None:
    sizes = ["--groups", "20", "--turn", "1", "--rate", "30"]
    sizes += ["--warm-up", "1", "--seconds", "1", "--probe-seconds", "3"]
    found = benchmark("freshness", *sizes, "--bootstrap-servers", broker)
    longest = found["stale → new champion answers, longest, s"]
    assert longest["value"] >= found["stale → new champion answers, p50, s"]["value"] > 0
    assert found["groups still waiting at the end, groups"]["value"] == 0
    assert found["groups with a refused challenger, groups"]["value"] == 0


def test_the_refit_benchmark_fits_every_group_and_its_peers_do(benchmark) -> None:
    found = benchmark("refit", "--groups", "20", "--rows", "25", "--peer-groups", "10")
    second = found["retrain --all, with gate, 20, s"]
    assert second["value"] > 0
    assert found["of it per group, 20, ms"]["value"] == pytest.approx(second["value"] / 20 * 1000, rel=1e-2)


def test_the_benchmark_of_jumps_holds_them_twice_and_lets_them_go_live_after_two_weeks(benchmark) -> None:
    """Of 100 groups the labels of numbers 49 and 99 jump, by hundreds of spreads."""
    found = {name: each["value"] for name, each in benchmark("jump_holds", "--groups", "100").items()}

    def counts(what: str) -> list[int]:
        return [found[f"batch {number}: {what}, groups"] for number in (1, 2, 3, 4)]

    assert counts("held because of a jump") == [0, 2, 2, 0]
    live, others = counts("live because the jump has lasted"), counts("decided without regard to a jump")
    assert live[:3] == [0, 0, 0]
    assert live[3] >= 1, "a challenger of that day may jump by less than ten spreads"
    assert others == [2, 0, 0, 2 - live[3]]
    assert counts("held, of the other groups") == [0] * 4


def test_the_benchmark_of_jumps_refuses_counts_that_do_not_add_up() -> None:
    script = import_module("jump_holds")
    decided = pd.DataFrame({"group_key": ["a", "b", "{}"], "decision": ["held", "unproven", "unproven"]})
    said = {"promoted": 0, "unproven": 2, "refused": 0, "held": 1, "fitted": 3, "groups_in": 3}
    script.checked(decided, said, 2)
    with pytest.raises(RuntimeError, match="expected one decision about each of 3"):
        script.checked(decided.assign(group_key=["a", "a", "{}"]), said, 2)
    with pytest.raises(RuntimeError, match="rounds: expected"):
        script.checked(decided, {**said, "held": 0}, 2)


def test_the_benchmark_of_small_commands_runs_all_three(benchmark, broker: str) -> None:
    found = benchmark("command_overhead", "--groups", "20", "--rows", "25", "--bootstrap-servers", broker)
    for what in ("stream --once, nothing to do", "load, 1,000 rows", "retrain, 10 groups"):
        assert found[f"{what}, s"]["peer_value"] > 0


def test_the_weekly_benchmark_fits_every_group_and_compares_its_prediction(
    spark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    script = import_module("batch_cost_prediction")
    monkeypatch.setattr(script, "alone", lambda what, file: (getattr(script, what)(file), used(time.monotonic())))
    monkeypatch.setattr(sys, "argv", ["batch_cost_prediction.py", "--groups", "30", "--rows", "25"])
    with redirect_stdout(io.StringIO()) as printed:
        script.main()
    assert "groups_in 30, fitted 30, failed 0, too_few_rows 0" in printed.getvalue()
    assert re.search(r"seconds: said +[\d.]+ s, was +[\d.]+, ratio", printed.getvalue())
