"""A request to retrain a group is carried out exactly once, wherever the query is killed. Without Spark."""

from __future__ import annotations

import json
import multiprocessing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from edited_fleet import editor, no_spark, sell

from schemas import tables
from spinney.core.config import Config
from spinney.core.planning.brake import Brake, BrakeAction
from spinney.core.planning.budget import RoundAllowance
from spinney.fleet import Fleet
from spinney.retraining.requested_verdicts import PlanMoment
from spinney.retraining.round_request import READ
from spinney.storage import signing_key
from spinney.storage.layout import FleetStore
from spinney.storage.retrain_requests import RetrainRequest, add_request, read_requests
from spinney.storage.step_observer import observed_by
from spinney.tables import delta
from streaming import retrain
from streaming.requested_groups import take_requests
from streaming.round_planning import RoundRules

NOW = datetime(2024, 6, 1, tzinfo=UTC)
A, B = '["s000"]', '["s001"]'
STEPS = ("retrain.plan", "retrain.fit", "retrain.gate", "retrain.record", "retrain.requests")


class Killed(Exception):  # noqa: N818 - stands for the end of the process
    """Raised right after a step was stored."""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv(signing_key.KEY, "k" * 32)
    monkeypatch.setattr(retrain, "cores_of", lambda _: 2)
    config = editor(tmp_path)()
    sell(config, 3)
    return config


def ask(config: Config, key: str, minute: int = 0) -> RetrainRequest:
    request = RetrainRequest.new(key, "ada", "overshoots since noon", NOW + timedelta(minutes=minute))
    return add_request(FleetStore.of(config), request)


def run_batch(config: Config, batch_id: int, kill_after: str | None = None) -> None:
    """What a process that has just started does in a batch in which no shard reports anything."""

    def kill(step: str, _: int) -> None:
        if step == kill_after:
            raise Killed

    signer = signing_key.load_signer(FleetStore.of(config))
    writer = retrain.RetrainBatchWriter(no_spark, config, signer, "c1")
    with observed_by(kill):
        writer.plan(None, [], batch_id)
        writer.carry_out(batch_id)


def rows(config: Config, base: Any, **where: Any) -> list[dict[str, Any]]:
    found = delta.read_table(FleetStore.of(config), base).to_pylist()
    return [row for row in found if all(row[name] == value for name, value in where.items())]


@pytest.mark.parametrize("step", STEPS)
def test_a_request_is_carried_out_once_wherever_the_query_is_killed(config: Config, step: str) -> None:
    request = ask(config, A)
    with pytest.raises(Killed):
        run_batch(config, 0, kill_after=step)
    if step != STEPS[-1]:
        assert ask(config, A).id == request.id, "it is known to wait until its round is recorded"
    run_batch(config, 0)
    later = ask(config, A, minute=1)
    assert later.id != request.id
    run_batch(config, 0)  # a batch may be repeated once more, and the later request is not its own
    assert read_requests(FleetStore.of(config)) == (later,)
    (verdict,) = rows(config, tables.VERDICTS, group_key=A)
    assert (verdict["policy"], verdict["decision"], verdict["round_id"]) == ("manual", "fit", "stream-0")
    assert verdict["reason"] == "asked for by ada: overshoots since noon"
    assert json.loads(verdict["numbers"])["request"] == request.id
    assert len(rows(config, tables.MODELS, group_key=A)) == len(rows(config, tables.PROMOTIONS, group_key=A)) == 1
    (recorded,) = rows(config, tables.ROUNDS)
    assert (recorded["groups_in"], recorded["fitted"], recorded["deferred"]) == (1, 1, 0)
    assert json.loads(recorded["reasons"]) == {"manual": 1}


def test_why_says_who_asked_and_a_batch_without_requests_plans_nothing(config: Config) -> None:
    run_batch(config, 0)
    assert rows(config, tables.VERDICTS) == []
    ask(config, A)
    run_batch(config, 1)
    assert read_requests(FleetStore.of(config)) == ()
    text = str(Fleet(config).why(A))
    assert "judged fit: asked for by ada: overshoots since noon" in text


def test_requests_beyond_the_budget_stay_for_the_next_round_and_the_oldest_comes_first(config: Config) -> None:
    store = FleetStore.of(config)
    newer, older = ask(config, A, minute=2), ask(config, B, minute=1)
    moment = PlanMoment(delta.pin_versions(store, *READ), NOW, NOW)
    waiting = read_requests(store)
    assert waiting == (older, newer)
    taken, left = take_requests(store, waiting, moment, RoundRules(RoundAllowance(9.0, groups=1), "seed"))
    assert (taken.ids, taken.group_keys, taken.verdicts.num_rows) == ((older.id,), [B], 1)
    assert left.allowance.is_spent
    assert left.choose(taken.candidates, 1) == {}, "nothing is left for groups by rank"


def test_a_round_that_takes_the_brakes_sample_takes_no_requests(config: Config) -> None:
    store = FleetStore.of(config)
    ask(config, A)
    moment = PlanMoment(delta.pin_versions(store, *READ), NOW, NOW)
    rules = RoundRules(RoundAllowance(9.0, groups=5), "seed", Brake(BrakeAction.SAMPLE, 0.5))
    assert take_requests(store, read_requests(store), moment, rules) == (None, rules)
    held = RoundRules(RoundAllowance(9.0, groups=5), "seed", Brake(BrakeAction.HOLD, 0.5))
    taken, _ = take_requests(store, read_requests(store), moment, held)
    assert taken.group_keys == [A], "a person may retrain what the brake holds"


def _ask_from_another_process(config: Config, number: int) -> str:
    return add_request(FleetStore.of(config), RetrainRequest.new(A, f"person {number}", "why", NOW)).id


def test_of_several_processes_that_ask_at_once_one_request_is_written_and_all_return_it(
    config: Config,
) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        ids = pool.starmap(_ask_from_another_process, [(config, n) for n in range(40)])
    (written,) = read_requests(FleetStore.of(config))
    assert set(ids) == {written.id}
