"""A demo at scale of 200 groups and 10 s that went as it should: each changed group was refitted once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from demo.fleet_tables import FleetTables
from demo.scale.scale_summary import ScaleRun
from demo.scale.synthetic_fleet import ROWS_PER_GROUP, group_key
from demo.scale.topic_times import TopicTimes
from demo.scale.traffic_plan import EVENTS_PER_SECOND, SLICES_PER_SECOND, TrafficPlan

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATENCY, TO_STALE, TO_ANSWER = 1.5, 3.0, 5.0
BEFORE, OLD, NEW = 0.5, 5.0, 0.25
BATCHES = [
    {"query": "score", "batch_id": 0, "rows": 10, "seconds": 2.0, "phases": {"write": 1.0}, "behind": 4_000.0},
    {"query": "score", "batch_id": 1, "rows": 10, "seconds": 1.0, "phases": {"write": 0.5}, "behind": 40.0},
    {"query": "retrain", "batch_id": 0, "rows": 5, "seconds": 1.0, "phases": {}, "behind": None},
]


@pytest.fixture(scope="session")
def traffic():
    return TrafficPlan(200, 10, 0)


def seconds_of(traffic):
    """When each event is sent: those of a slice at its beginning."""
    return np.arange(traffic.events) // (EVENTS_PER_SECOND // SLICES_PER_SECOND) / SLICES_PER_SECOND


def fits(traffic, change):
    """Verdicts, models and promotions: the history's round, then one of the stream."""
    weekly = [(group_key(group), "batch-0", f"m{group}") for group in range(traffic.groups)]
    stream = [(group_key(group), "stream-7", f"n{group}") for group in traffic.changed]
    models = pd.DataFrame(weekly + stream, columns=["group_key", "round_id", "model_id"])
    models = models.assign(status="fitted", clock=change, fitted_at=change)
    promotions = models.assign(decision="promoted", decided_at=change + timedelta(seconds=TO_STALE), reason="first")
    verdicts = models[models["round_id"] == "stream-7"].assign(
        decision="fit",
        policy="error_rise",
        reason="evidence of a risen error is 9 (limit 1: a false alarm per 30 days at most)",
        stale_since=change + timedelta(seconds=TO_STALE),
    )
    return verdicts, models, promotions


@pytest.fixture(scope="session")
def tables(traffic):
    change = pd.Timestamp(BEGAN) + pd.Timedelta(seconds=traffic.lead_in_seconds)
    verdicts, models, promotions = fits(traffic, change)
    number = np.arange(traffic.events)
    names = [group_key(group) for group in traffic.group]
    events = pd.DataFrame({"group_key": names, "event_id": [f"e{at}" for at in number]})
    since = seconds_of(traffic) - traffic.lead_in_seconds
    changed = np.isin(traffic.group, traffic.changed)
    renewed = changed & (since + LATENCY >= TO_ANSWER)
    loss = np.where(renewed, NEW, np.where(changed & (since >= 0), OLD, BEFORE))
    predictions = events.assign(
        prediction=loss,
        label=0.0,
        model_id=[f"{'n' if new else 'm'}{group}" for new, group in zip(renewed, traffic.group, strict=True)],
        answered_by="own",
        scored_at=change + pd.to_timedelta(since + LATENCY, unit="s"),
    )
    columns = (
        "round_id kind groups_in fitted failed too_few_rows kept deferred seconds budget_seconds predicted_seconds"
    )
    rounds = [
        ("batch-0", "batch", 200, 200, 0, 0, 0, 0, '{"fit": 2.0}', None, None),
        ("stream-7", "stream", 2, 2, 0, 0, 0, 0, '{"fit": 0.5}', 5.0, 0.5),
    ]
    nothing = pd.DataFrame({"reason": []})
    return FleetTables(
        events,
        nothing,
        nothing,
        predictions,
        verdicts,
        models,
        promotions,
        pd.DataFrame(rounds, columns=columns.split()),
    )


@pytest.fixture(scope="session")
def run(traffic, tables):
    sent = BEGAN.timestamp() + seconds_of(traffic)
    return ScaleRun(
        traffic=traffic,
        tables=tables,
        loaded=traffic.groups * ROWS_PER_GROUP,
        sent=TopicTimes(sent, np.ones(traffic.events, np.int64)),
        answered=TopicTimes(sent + LATENCY, np.ones(traffic.events, np.int64)),
        acknowledged=traffic.events,
        finished_at=float(sent.max()) + 10.0,
        batches=BATCHES,
        memory=[(sent[0] + at, 1000.0 + at) for at in range(5)],
        by_state={"fresh": 200, "stale": 0},
        weekly={"groups_in": 200, "fitted": 200, "seconds": {"fit": 2.0}},
        seconds={"history": 0.5, "load": 2.0, "weekly": 4.0},
    )
