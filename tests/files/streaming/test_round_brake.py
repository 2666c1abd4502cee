"""The brake goes by what is stored of the rounds before, so a restarted query decides as the one before it."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from new_tables import create_tables

from schemas import tables
from spinney.core.planning.brake import BrakeAction, RaisedErrors
from spinney.retraining.round_request import RoundRequest
from spinney.storage.layout import FleetStore
from streaming.round_brake import BrakeDecision, RoundBrake
from streaming.round_planning import DueSummary

NOW = datetime(2024, 5, 1, tzinfo=UTC)
STORM = {shard: RaisedErrors(50, 30) for shard in range(4)}


@pytest.fixture
def config(configured) -> Any:
    made = configured()
    create_tables(FleetStore.of(made))
    return made


def decide(
    config: Any,
    before: BrakeDecision | None = None,
    *,
    hours: float = 1,
    errors: Any = STORM,
    rounds: tuple[str, str] = ("stream-8", "stream-9"),
    has_requests: bool = False,
) -> BrakeDecision:
    """What a query that has just begun decides. before: the decision of the round before. rounds: the ids of both."""
    due = DueSummary(120, 0, 120, 0, errors)
    brake = RoundBrake(FleetStore.of(config), 0.3)
    notes = {"brake_round": before.round_id, "brake_at": before.at} if before else {}
    past = RoundRequest(rounds[0], 0, 0, {}, NOW, NOW, None, 0.0, {}, **notes)
    request = RoundRequest.of_notes(past.notes()) if before else None
    return brake.decide(due, request, rounds[1], after(hours), has_requests=has_requests)


def after(hours: float) -> datetime:
    return NOW + timedelta(hours=hours)


def sampled(put, config: Any, *losses: tuple[float | None, float]) -> None:
    """The decisions of the round that took the sample."""
    row = {"round_id": "stream-9", "epoch": 0, "decision": "promoted", "decided_at": NOW, "clock": NOW, "batch_id": 9}
    rows = [
        {**row, "group_key": f'["{n}","1"]', "model_id": f"m{n}", "champion_loss": champion, "challenger_loss": loss}
        for n, (champion, loss) in enumerate(losses)
    ]
    put(config, tables.PROMOTIONS, rows, "stream")


def test_a_storm_takes_a_sample_which_the_next_round_knows_from_the_notes(config, put, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        first = decide(config)
    assert first.brake.action is BrakeAction.SAMPLE
    assert (first.round_id, first.at) == ("stream-9", after(1).isoformat())
    assert "60% of the fleet turned stale at once, an upstream break is likely" in caplog.text

    sampled(put, config, (4.0, 3.0), (4.0, 5.0), (4.0, 3.0), (None, 1.0))
    better = decide(config, first)
    assert (better.brake.action, better.sample) == (BrakeAction.RELEASED, first.sample)


def test_a_sample_that_is_no_better_holds_for_a_day_or_until_the_share_falls(config, put) -> None:
    first = decide(config)
    sampled(put, config, (4.0, 3.0), (4.0, 5.0))
    held = decide(config, first, hours=20)
    assert (held.brake.action, held.sample) == (BrakeAction.HOLD, first.sample)
    again = decide(config, held, hours=26)
    assert (again.brake.action, again.at) == (BrakeAction.SAMPLE, after(26).isoformat())
    calm = decide(config, held, hours=20, errors={shard: RaisedErrors(50, 7) for shard in range(4)})
    assert (calm.brake.action, calm.sample, calm.round_id, calm.at) == (BrakeAction.OFF, None, "", "")


def test_a_query_that_begins_again_holds_although_most_shards_have_not_reported_yet(config, put) -> None:
    first = decide(config)
    sampled(put, config, (4.0, 3.0), (4.0, 5.0))
    held = decide(config, first, errors={0: RaisedErrors(50, 30)})
    assert (held.brake.action, held.sample) == (BrakeAction.HOLD, first.sample)


def test_a_calm_fleet_is_not_braked(config) -> None:
    assert decide(config, errors={0: RaisedErrors(50, 20)}).brake.action is BrakeAction.OFF  # one shard of four


def test_requests_are_not_kept_waiting_by_samples_of_which_nothing_is_compared(config, put) -> None:
    first = decide(config, has_requests=True)
    assert first.brake.action is BrakeAction.SAMPLE
    sampled(put, config, (None, 1.0))  # all fits of groups with a model failed, for example
    at_once = {"rounds": ("stream-9", "stream-10"), "hours": 2}
    assert decide(config, first, **at_once).brake.action is BrakeAction.SAMPLE
    asked = decide(config, first, has_requests=True, **at_once)
    assert (asked.brake.action, asked.sample) == (BrakeAction.HOLD, first.sample)
    again = decide(config, asked, has_requests=True, rounds=("stream-10", "stream-11"), hours=3)
    assert (again.brake.action, again.round_id) == (BrakeAction.SAMPLE, "stream-11")
