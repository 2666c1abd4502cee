from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import click
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from spinney.cli import main
from spinney.core.config import parse
from spinney.core.errors import Busy, Finding
from spinney.local.checks import fleet_checks
from spinney.local.checks.fleet_checks import Result as Seen
from spinney.sources.rejections import Rejections

FLIGHTS = Path(__file__).parents[2] / "examples" / "flights" / "fleet.toml"
VERBS = [
    *("demo", "check", "init", "kafka", "produce", "load", "try", "backtest", "stream", "retrain", "dead-letters"),
    *("fleet", "why", "promote", "rollback", "pin", "unpin", "register", "serve", "keys", "tidy", "migrate"),
]


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def stand_in(monkeypatch: pytest.MonkeyPatch, module: str, **members: Any) -> None:
    """Put a module in place of one that needs Spark or Kafka: here only the command line is under test."""
    double = types.ModuleType(module)
    for name, member in members.items():
        setattr(double, name, member)
    monkeypatch.setitem(sys.modules, module, double)


@pytest.fixture
def flights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fleet.toml").write_text(FLIGHTS.read_text(encoding="utf-8"), encoding="utf-8")
    return tmp_path


def test_the_verbs_are_those_of_the_design_that_exist() -> None:
    assert main.list_commands(main.make_context("spinney", [], resilient_parsing=True)) == VERBS


def commands(group: click.Group = main, *before: str) -> Iterator[tuple[str, ...]]:
    """The words of every command there is, those below another one too."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *before, name)
        else:
            yield (*before, name)


COMMANDS = list(commands())


@pytest.mark.parametrize("words", [*COMMANDS, ("dead-letters",)], ids=" ".join)
def test_every_command_explains_itself_with_an_example(words: tuple[str, ...]) -> None:
    result = run(*words, "--help")
    assert result.exit_code == 0
    assert f"spinney {' '.join(words)}" in result.output
    assert "Example:" in result.output


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] not in ("demo", "kafka")], ids=" ".join)
def test_every_command_about_a_fleet_takes_its_configuration(words: tuple[str, ...]) -> None:
    assert "--config" in run(*words, "--help").output


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_can_answer_a_program(words: tuple[str, ...]) -> None:
    assert "--json" in run(*words, "--help").output


def test_an_unknown_verb_is_wrong_usage() -> None:
    assert run("chek").exit_code == 2


def test_a_missing_configuration_is_reported_on_standard_error_without_a_traceback(flights: Path) -> None:
    result = run("check", "--config", "nowhere.toml")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("spinney: nowhere.toml: expected a configuration file")
    assert "Traceback" not in result.stderr


def test_a_wrong_configuration_lists_every_finding_and_ends_with_2(flights: Path) -> None:
    text = (flights / "fleet.toml").read_text().replace("shards", "shrads").replace('"absolute"', '"log"')
    (flights / "fleet.toml").write_text(text)
    result = run("check")
    assert result.exit_code == 2
    assert "Did you mean `shards`?" in result.stderr
    assert "fleet.loss" in result.stderr
    as_json = run("check", "--json")
    assert as_json.exit_code == 2
    found = [Finding(**finding) for finding in json.loads(as_json.stdout)["findings"]]
    assert {finding.key for finding in found} == {"fleet.shrads", "fleet.loss"}
    assert all(finding.line for finding in found)


@pytest.mark.parametrize("how", ["option", "variable"])
def test_a_traceback_is_shown_to_those_who_ask(flights: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how == "variable":
        monkeypatch.setenv("SPINNEY_DEBUG", "1")
    result = run(*(["--debug"] if how == "option" else []), "check", "--config", "nowhere.toml")
    assert type(result.exception).__name__ == "ConfigError"


def test_another_error_of_ours_ends_with_1(flights: Path, spark: object, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(config: object, only: object, **options: object) -> None:
        raise Busy("the lease is held")

    stand_in(monkeypatch, "streaming.app", run=busy)
    (flights / "work" / "flights" / "tables").mkdir(parents=True)
    result = run("stream")
    assert (result.exit_code, result.stderr) == (1, "spinney: the lease is held\n")


def test_a_drain_with_nothing_to_do_starts_no_spark(flights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    delivered: list[object] = []

    def deliver_now(config: object, *, ends_stream: bool) -> None:
        delivered.append(ends_stream)

    stand_in(monkeypatch, "streaming.pending_work", find_pending_work=lambda config, names: None)
    stand_in(monkeypatch, "spinney.tracking", deliver_now=deliver_now)
    done = run("stream", "--once", "--only", "retrain", "--only", "score")
    assert done.exit_code == 0
    assert done.stderr.endswith("stream: nothing to do: all topics and tables are read, and every batch has ended\n")
    assert delivered == [True], "the stream's run ends in MLflow"
    done = run("stream", "--once", "--json", "--only", "score")
    assert json.loads(done.stdout)["event"] == "nothing_to_do"
    assert len(delivered) == 1, "only retrain's rounds are delivered"


def test_a_drain_says_why_spark_starts(flights: Path, spark: object, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "streaming.app", run=lambda config, only, **options: None)
    assert "stream: query ingest has not begun: Spark starts\n" in run("stream", "--once").stderr


def test_a_stream_whose_fleet_is_not_there_says_where_it_begins_one(
    flights: Path, spark: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, "streaming.app", run=lambda config, only, **options: None)
    (flights / "elsewhere").mkdir()
    monkeypatch.chdir(flights / "elsewhere")
    result = run("stream", "--config", "../fleet.toml")
    assert result.stderr == f"fleet flights: none at {flights}/work/flights yet; it is created there\n"


def test_check_shows_the_values_in_effect_with_their_origin(flights: Path) -> None:
    lines = run("check", "--show").stdout.splitlines()
    assert lines[0] == "key\tvalue\torigin"
    assert 'fleet.name\t"flights"\tfleet.toml:5' in lines
    assert "gateway.port\t8080\tdefault" in lines
    listed = json.loads(run("check", "--show", "--json").stdout)
    assert {"key": "gateway.port", "value": "8080", "origin": "default"} in listed


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("finding", 1), ("skipped", 0)])
def test_check_ends_with_1_where_there_is_a_finding(
    flights: Path, monkeypatch: pytest.MonkeyPatch, state: Any, code: int
) -> None:
    monkeypatch.setattr(fleet_checks, "run", lambda config: [Seen("java", state, "words", "do this")])
    result = run("check")
    assert result.exit_code == code
    assert "java: words" in result.stdout
    assert "do this" in result.stdout
    as_json = run("check", "--json")
    assert as_json.exit_code == code
    assert json.loads(as_json.stdout)["checks"] == [
        {"name": "java", "state": state, "text": "words", "remedy": "do this"}
    ]


def test_init_from_proposes_a_configuration_and_makes_nothing(flights: Path) -> None:
    shops = "\n".join(f"s{row},2024-01-01T{row % 24:02}:00:00Z,{'nsew'[row % 4]},{row / 7},{row}" for row in range(200))
    (flights / "sales.csv").write_text("sale,at,shop,price,sold\n" + shops)
    result = run("init", "--from", "sales.csv")
    assert result.exit_code == 0
    config = parse(result.stdout, "proposed", {})
    assert (config.fleet.group, config.fleet.event_id, config.fleet.target) == (("shop",), "sale", "sold")
    assert json.loads(run("init", "--from", "sales.csv", "--json").stdout) == {"fleet_toml": result.stdout}
    assert sorted(path.name for path in flights.iterdir()) == ["fleet.toml", "sales.csv"]


def test_init_makes_topics_and_tables(flights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def ensure_topics(kafka: Any, partitions: int, retention_ms: int | None) -> dict[str, bool]:
        asked.append((partitions, retention_ms))
        return {kafka.events: True, kafka.outcomes: False}

    stand_in(monkeypatch, "spinney.kafka.client", ensure_topics=ensure_topics)
    stand_in(monkeypatch, "spinney.tables.delta", create_tables=lambda config: ["events"])
    result = run("init", "--partitions", "8", "--retention-ms", "-1")
    assert result.exit_code == 0
    assert asked == [(8, -1)]
    assert result.stdout == ""
    assert f"fleet flights: none at {flights}/work/flights yet; it is created there" in result.stderr
    assert f"tables below {flights}/work/flights: 1 made" in result.stderr
    assert "topic flights.events: made" in result.stderr
    assert "topic flights.outcomes: was there" in result.stderr
    assert "1 made" in result.stderr
    assert json.loads(run("init", "--json").stdout) == {
        "root": f"{flights}/work/flights",
        "topics": {"flights.events": True, "flights.outcomes": False},
        "tables": ["events"],
        "signing_key": False,
    }


def test_a_broker_reports_a_program_when_it_is_ready_and_when_it_stops(
    flights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broker:
        bootstrap_servers = "127.0.0.1:9092"

        def __init__(self, data: Path, port: int) -> None:
            self.data, self.port = data, port

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...

        @property
        def running(self) -> bool:
            raise KeyboardInterrupt

    stand_in(monkeypatch, "spinney.local.broker", Broker=Broker)
    monkeypatch.setattr("spinney.cli.kafka.signal.signal", lambda *_: None)
    done = run("kafka", "--json")
    assert done.exit_code == 0
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"event": "starting", "port": 9092, "data": "work/kafka"},
        {"event": "ready", "bootstrap_servers": "127.0.0.1:9092"},
        {"event": "stopped"},
    ]


@pytest.fixture
def spark(monkeypatch: pytest.MonkeyPatch) -> object:
    session = object()
    for command in ("stream", "retrain"):
        monkeypatch.setattr(f"spinney.cli.{command}.spark_session", lambda config: session)
    return session


def test_stream_passes_its_queries_on(flights: Path, spark: object, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[tuple[str, ...], dict[str, object]]] = []
    stand_in(monkeypatch, "streaming.app", run=lambda config, only, **options: asked.append((only, options)))
    assert run("stream", "--only", "ingest", "--only", "score", "--once").exit_code == 0
    [(only, options)] = asked
    assert only == ("ingest", "score")
    assert (options.pop("spark"), options.pop("once")) == (spark, True)
    assert options.keys() == {"reporter"}
    assert run("stream", "--only", "scoer").exit_code == 2


@pytest.mark.parametrize("words", [[], ["--all", "--group", "x"]])
def test_retrain_wants_to_know_what(flights: Path, words: list[str]) -> None:
    assert run("retrain", *words).exit_code == 2


def test_retrain_passes_its_groups_on(flights: Path, spark: object, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def retrain(config: object, groups: object, *, stale: bool, spark: Any, show: object, **how: bool) -> Any:
        assert callable(show)
        assert how == {"unproven": False}
        asked.append((groups, stale, spark()))  # started only where it is needed
        return {"fitted": 2}

    stand_in(monkeypatch, "batch.weekly", retrain=retrain)
    assert json.loads(run("retrain", "--all", "--json").stdout) == {"fitted": 2}
    assert run("retrain", "--group", "a", "--group", "b").stdout == "what\tvalue\nfitted\t2\n"
    assert run("retrain", "--stale").exit_code == 0
    assert asked == [(None, False, spark), (["a", "b"], False, spark), (None, True, spark)]


def test_load_shows_the_counts(flights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def open_for_load(config: object, place: str, options: object, *, outcomes: bool) -> object:
        return types.SimpleNamespace(name=place, notes=())

    def load(config: object, source: Any, *, outcomes: bool, options: object, show: object) -> object:
        assert callable(show)
        asked.append((source.name, outcomes))
        return types.SimpleNamespace(
            added={"events": 5, "dead_letters": 0}, duplicates={"events": 2}, rejections=Rejections()
        )

    stand_in(monkeypatch, "batch.load", load=load, open_for_load=open_for_load)
    assert run("load", "a.parquet").stdout == "table\trows\tduplicates\nevents\t5\t2\ndead_letters\t0\t–\n"
    report = json.loads(run("load", "a.parquet", "--outcomes", "--json").stdout)
    assert (report["added"], report["duplicates"]) == ({"events": 5, "dead_letters": 0}, {"events": 2})
    assert (report["rejected"], report["rejections"]) == (0, [])
    assert asked == [("a.parquet", False), ("a.parquet", True)]


class FleetOfTwo:
    loss_name: str | None = None

    def __init__(self, config: object) -> None:
        del config

    def table(self, as_of: str | None = None) -> pa.Table:
        del as_of
        loss_names = pa.array([None, self.loss_name], pa.string())
        groups = {"group": ["a", "b"], "state": ["fresh", "failed"], "age": [float("nan"), 1.0]}
        return pa.table({**groups, "loss_name": loss_names})

    def why(self, key: str) -> str:
        return f"the story of {key}"


def test_fleet_lists_groups_by_state(flights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "spinney.fleet", Fleet=FleetOfTwo)
    assert run("fleet").stdout == "group\tstate\tage\na\tfresh\t–\nb\tfailed\t1\n"
    assert run("fleet", "--state", "failed").stdout.splitlines()[1:] == ["b\tfailed\t1"]
    misspelt = run("fleet", "--state", "stael")
    assert misspelt.exit_code == 2
    assert "'stael' is not one of 'fresh', 'stale'" in misspelt.stderr
    assert run("fleet", "--limit", "1").stderr == "1 more; --limit 0 shows all\n"
    assert len(json.loads(run("fleet", "--json", "--limit", "1").stdout)) == 2


@pytest.mark.parametrize(("name", "heading"), [("absolute", "age"), ("squared", "loss_name")])
def test_fleet_names_losses_where_one_is_not_the_present_one(
    flights: Path, monkeypatch: pytest.MonkeyPatch, name: str, heading: str
) -> None:
    stand_in(monkeypatch, "spinney.fleet", Fleet=FleetOfTwo)
    monkeypatch.setattr(FleetOfTwo, "loss_name", name)
    assert run("fleet").stdout.splitlines()[0].split("\t")[-1] == heading


def test_json_has_null_where_a_number_is_not_known(flights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "spinney.fleet", Fleet=FleetOfTwo)
    assert json.loads(run("fleet", "--json").stdout)[0] == {
        "group": "a",
        "state": "fresh",
        "age": None,
        "loss_name": None,
    }


def test_why_reports_the_groups_history(flights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "spinney.fleet", Fleet=FleetOfTwo)
    assert run("why", "AA", "JFK", "LAX").stdout == 'the story of ["AA","JFK","LAX"]\n'
    assert run("why", '["AA", "JFK", "LAX"]').stdout == 'the story of ["AA","JFK","LAX"]\n'
    assert run("why", "[AA").exit_code == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--groups", "500"], "--groups needs --scale"),
        (["--seconds", "10"], "--seconds needs --scale"),
        (["--scale", "--days", "1"], "--days cannot be used with --scale"),
        (["--scale", "--example", "."], "--example cannot be used with --scale"),
        (["--scale", "--groups", "10"], "10 is not in the range"),
        (["--scale", "--groups", "400"], "for 120 s: expected more events a second for a group that changes"),
        (["--scale", "--groups", "100000", "--seconds", "60"], "Choose --seconds from 69 to 3,600"),
    ],
)
def test_options_of_one_kind_of_demo_are_refused_by_the_other(words: list[str], message: str) -> None:
    result = run("demo", *words)
    assert result.exit_code == 2
    assert message in result.stderr


def sets(*odd: dict[str, Any]) -> dict[str, Any]:
    """The part of a summary that says whether the sets add up."""
    return {"reconciliation": {"checks": list(odd)}}


def test_sets_that_do_not_add_up_are_an_error_after_the_json_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    found = sets({"name": "events", "says": "sent = stored", "adds_up": False, "examples": ["missing e7"]})
    stand_in(monkeypatch, "demo.scale.run", ScaleDemoOptions=dict, run_demo=lambda _: found)
    done = run("demo", "--scale", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout) == found
    assert "the sets do not add up: events (sent = stored): missing e7" in done.stderr


def test_each_kind_of_demo_is_given_what_was_asked_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: dict[str, Any] = {}

    def options(**given: Any) -> None:
        asked.clear()
        asked.update(given)

    for name, options_class in (("demo.run", "DemoOptions"), ("demo.scale.run", "ScaleDemoOptions")):
        members = {options_class: options, "run_demo": lambda _, name=name: {"kind": name, **sets()}}
        stand_in(monkeypatch, name, **members)
    done = run("demo", "--scale", "--groups", "400", "--seconds", "20", "--seed", "3", "--json")
    assert json.loads(done.stdout) == {"kind": "demo.scale.run", **sets()}
    assert asked == {"json": True, "report": None, "groups": 400, "seconds": 20, "seed": 3}
    assert run("demo", "--days", "2", "--example", str(tmp_path), "--report", "r.html").stdout == ""
    assert asked == {"json": False, "report": Path("r.html"), "days": 2, "example": tmp_path, "seed": None}
