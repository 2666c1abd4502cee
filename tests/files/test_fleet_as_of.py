"""The fleet as it stood: listed, and scored with."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from handwritten_history import Past, fleet_toml, hour

from schemas import tables
from spinney.cli import main
from spinney.core import keys
from spinney.core.champions.routing import RouteKey, find_routes
from spinney.core.errors import StoreError
from spinney.core.models import batch_scoring
from spinney.core.reporting.group_status import State
from spinney.fleet import Fleet
from spinney.operations.interventions import Attribution, OverrideVerb, carry_out_override
from spinney.operations.interventions import OverrideRequest as Asked
from spinney.serving.model_cache import ModelCache
from spinney.storage.config_file import read_config
from spinney.storage.layout import FleetStore

A, B, C, DEPT = '["a","1"]', '["b","1"]', '["c","1"]', '{"dept":"1"}'
ADA = Attribution("ada", "so")


@pytest.fixture
def past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Past:
    """A has models of hours 1 and 3, B one of hour 3; a person went back with A at hour 4; C came last."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fleet.toml").write_text(fleet_toml(parents='[["dept"]]'), encoding="utf-8")
    made = Past(read_config("fleet.toml"))
    came = ((A, 0), (B, 0), (C, 6))
    made.put(tables.EVENTS, "", *({"group_key": key, "event_id": "e", "ingested_at": hour(at)} for key, at in came))
    made.first = made.round(1, {A: 1.0, DEPT: 11.0})
    made.second = made.round(3, {A: 3.0, B: 23.0}, big=True)
    carry_out_override(
        FleetStore.of(made.config), made.signer, Asked(OverrideVerb.PIN, (A,), made.first[A]), ADA, now=hour(4)
    )
    return made


def stood(past: Past, as_of: object) -> dict[str, tuple[State, str | None]]:
    return {each.group_key: (each.state, each.model_id) for each in Fleet(past.config).groups(as_of)}  # type: ignore[arg-type]


def test_each_group_stands_as_it_stood_then(past: Past) -> None:
    assert stood(past, hour(2)) == {A: (State.FRESH, past.first[A]), B: (State.PARENT, None)}
    assert stood(past, "stream-3") == {A: (State.FRESH, past.second[A]), B: (State.FRESH, past.second[B])}
    assert stood(past, "people-0")[A] == (State.HELD, past.first[A])
    assert stood(past, None)[C] == (State.PARENT, None)
    assert stood(past, hour(2).replace(tzinfo=None)) == stood(past, hour(2))


def test_a_failure_that_came_later_is_not_known_then(past: Past) -> None:
    failed = {"group_key": B, "status": "failed", "error": "no", "fitted_at": hour(8), "clock": hour(8)}
    past.put(tables.MODELS, "stream", {**failed, "round_id": "stream-8"})
    assert stood(past, "stream-3")[B][0] is State.FRESH
    assert stood(past, None)[B][0] is State.FAILED


def answers(past: Past, as_of: object) -> list[float]:
    """What A and B were told then for one row each, by the champions of then and nothing else."""
    champions = Fleet(past.config).champions(as_of)  # type: ignore[arg-type]
    fleet = past.config.fleet
    routes = [RouteKey(A), RouteKey(B)]
    found = find_routes(routes, champions, lambda key: keys.ancestors(fleet.group, fleet.parents, key))
    wanted = {each.promotion.model_id: (each.owner, each.promotion) for each in found.values() if each.promotion}
    models, refused = ModelCache().load(wanted, FleetStore.of(past.config), past.signer)
    assert refused == set()
    ids = [promotion.model_id if (promotion := found[route].promotion) else None for route in routes]
    return [
        float(each) for each in batch_scoring.predict_by_id(pd.DataFrame({"price": [5.0, 5.0]}), ids, models).prediction
    ]


def test_the_fleet_of_then_answers_as_it_did(past: Past) -> None:
    assert answers(past, "stream-1") == [1.0, 11.0]
    assert answers(past, "stream-3") == [3.0, 23.0]
    assert answers(past, None) == [1.0, 23.0]


def test_the_command_lists_the_fleet_of_then(past: Past) -> None:
    done = CliRunner().invoke(main, ["fleet", "--as-of", "2024-05-01T02:00Z", "--json"])
    assert done.exit_code == 0, done.output
    assert done.stderr == "as of 2024-05-01 02:00:00, by the wall clock on which models were promoted, in UTC\n"
    assert [(each["group_key"], each["model_id"]) for each in json.loads(done.stdout)] == [
        (A, past.first[A]),
        (B, None),
    ]


def test_a_moment_that_is_none_is_refused(past: Past) -> None:
    with pytest.raises(StoreError, match=r"expected a time like 2026-11-20T18:00Z, or a round"):
        Fleet(past.config).groups("last tuesday")
    frame = pd.DataFrame({"shop": ["a"], "dept": [1], "price": [5.0]})
    for unknown in (hour(0.5), "2024-05-01T00:30Z", "2199-01-01"):
        with pytest.raises(StoreError, match="by the wall clock on which models were promoted"):
            Fleet(past.config).groups(unknown)
        with pytest.raises(StoreError, match="by the wall clock on which models were promoted"):
            Fleet(past.config).predict(frame, as_of=unknown)


@pytest.mark.parametrize("named", ["2024-05-01T00:30Z", "2199-01-01", "last tuesday", "stream-9"])
def test_commands_refuse_a_moment_of_which_nothing_is_known(past: Past, named: str) -> None:
    for words in (["fleet"], ["rollback", "--all", "--reason", "bad feed", "--dry-run"]):
        done = CliRunner().invoke(main, [*words, "--as-of", named])
        assert (done.exit_code, done.stdout) == (1, "")
        assert "expected a " in done.stderr


def test_a_rollback_says_which_clock_its_moment_is_of(past: Past) -> None:
    past_words = ["rollback", "--group", B, "--as-of", "2024-05-01T02:00", "--reason", "bad feed", "--dry-run"]
    done = CliRunner().invoke(main, past_words)
    assert "back to 2024-05-01 02:00:00, by the wall clock on which models were promoted, in UTC" in done.stderr
