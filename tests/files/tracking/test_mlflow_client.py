"""How long MLflow has owed an answer, and what a person is told of it."""

from __future__ import annotations

import logging
import threading
import time
from types import SimpleNamespace

import pytest
from handwritten_history import fleet_toml

from spinney import tracking
from spinney.core.config import parse
from spinney.tracking import Deliverer
from spinney.tracking.mlflow_client import DeliveryClient, DeliveryProgress, DeliveryStopped

ADDRESS = "http://ann:hush@127.0.0.1:1"


@pytest.fixture
def deliverer() -> Deliverer:
    return Deliverer(parse(fleet_toml(more=f'[tracking]\nuri = "{ADDRESS}"'), "fleet.toml", {}))


@pytest.fixture
def now(monkeypatch) -> list[float]:
    """The steady clock stands at its last."""
    at = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: at[-1])
    return at


def warnings(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == tracking.log.name]


def test_only_a_call_that_is_under_way_is_waited_for_not_what_is_done_here_between_two(now) -> None:
    watch, seen = DeliveryProgress(), []

    def called(fails: bool) -> None:
        now.append(now[-1] + 400)
        seen.append((watch.still_for, watch.words))
        if fails:
            raise ConnectionError

    server = object.__new__(DeliveryClient)
    server.watch, server._client = watch, SimpleNamespace(called=called)
    server._pace = SimpleNamespace(try_acquire=lambda _: now.append(now[-1] + 3000))
    watch.detail, watch.rounds = "3 of 9 groups delivered", 1
    server.ask("called", False)
    now.append(now[-1] + 7000)
    assert (watch.still_for, watch.words) == (0, "3 of 9 groups delivered, 1 round left")
    with pytest.raises(ConnectionError):
        server.ask("called", True)
    assert watch.still_for == 0
    assert seen == [(400, "3 of 9 groups delivered, 1 round left, no answer for 400 s")] * 2


def begin_waiting(deliverer: Deliverer, monkeypatch) -> None:
    """In place of a delivery one call, of which no answer comes until it is told to leave."""
    begun = threading.Event()

    def deliver(config, watch, **_) -> None:
        watch.rounds, watch.asked_at = 2, time.monotonic()
        begun.set()
        assert watch.leaving.wait(30)
        raise DeliveryStopped

    monkeypatch.setattr(tracking, "deliver", deliver)
    monkeypatch.setattr(tracking, "LOOK_SECONDS", 0)
    monkeypatch.setattr(tracking, "STOP_SECONDS", 0)
    deliverer._stopping.set()
    deliverer.start()
    assert begun.wait(30)


def test_a_server_that_asks_for_a_minute_or_two_gets_it_and_one_that_never_answers_is_left_with_a_word(
    deliverer, now, monkeypatch, caplog
) -> None:
    begin_waiting(deliverer, monkeypatch)
    looks = []

    def join(self, seconds: float) -> None:
        looks.append(now[-1])
        now.append(now[-1] + 120)
        if self_leaving():
            real(self, 30)

    real, self_leaving = threading.Thread.join, deliverer._watch.leaving.is_set
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "join", join)
        deliverer.finish(threading.Event())
    assert looks[:-1] == [100, 220, 340, 460, 580]
    assert warnings(caplog) == [
        "MLflow: 2 rounds left, no answer for 600 s; the rest follows with the next batch or stream"
    ]
    assert not deliverer._thread.is_alive()


@pytest.mark.parametrize("how", ["stop", "asked"])
def test_a_stop_that_leaves_a_delivery_says_what_is_left(deliverer, now, monkeypatch, caplog, how) -> None:
    begin_waiting(deliverer, monkeypatch)
    asked = threading.Event()
    asked.set()
    deliverer.stop() if how == "stop" else deliverer.finish(asked)
    assert warnings(caplog) == ["MLflow: 2 rounds left; the rest follows with the next batch or stream"]


def test_what_fails_again_in_the_same_words_is_reported_of_once_and_anew_after_a_delivery(
    deliverer, monkeypatch, caplog
) -> None:
    outcomes = iter(["down", "down", None, "down", "full"])

    def deliver(*_, **__) -> None:
        reported = next(outcomes)
        if reported:
            raise ConnectionError(reported)

    monkeypatch.setattr(tracking, "deliver", deliver)
    turns = iter([False, False, False, False, True])
    deliverer._stopping = SimpleNamespace(wait=lambda _: next(turns))  # type: ignore[assignment]
    with caplog.at_level(logging.WARNING, tracking.log.name):
        deliverer._deliver_until_stopped()
    tail = "; rounds are kept and delivered later"
    assert warnings(caplog) == [
        f"MLflow at http://ann:********@127.0.0.1:1: {reported}{tail}" for reported in ("down", "down", "full")
    ]
