from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from demo.scale import scale_summary, topic_times
from demo.scale.scale_summary import (
    example_groups,
    least_squares_slope,
    percentiles,
    require_sets_add_up,
    summarize_scale_run,
)
from demo.scale.topic_times import TopicTimes
from demo.scale.traffic_plan import EVENTS_PER_SECOND, SLICES_PER_SECOND
from spinney.core.config import Kafka
from spinney.core.errors import StoreError


@pytest.fixture
def summary(run):
    return summarize_scale_run(run)


def test_the_summary_is_plain_values_with_the_keys_it_promises(summary):
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    promised = {
        line.split()[0] for line in scale_summary.__doc__.splitlines() if line and line[0].islower() and "  " in line
    }
    named_together = {"freshness", "budget", "batches", "groups", "format"}
    assert set(summary) == (promised - {"wall_seconds"}) | named_together


def test_rates_and_latency_are_those_of_kafka(summary, traffic):
    stream, latency = summary["stream"], summary["latency"]
    assert stream["sent"] == stream["stored"] == stream["answered"] == traffic.events
    assert stream["sent_per_second"] == pytest.approx(EVENTS_PER_SECOND, rel=0.01)
    assert stream["answered_per_second"] == pytest.approx(traffic.events / 11.3, rel=0.01)
    assert stream["finished_per_second"] == pytest.approx(traffic.events / 19.8, rel=0.01)
    assert latency["n"] == traffic.events - traffic.events_before
    assert [latency[name] for name in ("p50", "p99", "max", "after_the_last")] == pytest.approx([1.5] * 4)
    assert latency["growth"] == pytest.approx(0, abs=1e-3)
    # 1.5 s are seven slices and a half.
    unanswered = summary["unanswered"]
    assert unanswered["most"] == pytest.approx(
        7.5 * EVENTS_PER_SECOND / SLICES_PER_SECOND, abs=EVENTS_PER_SECOND / SLICES_PER_SECOND
    )
    assert 0 < unanswered["at_the_end"] <= unanswered["most"]
    assert summary["memory"]["peak_mb"] == 1004.0


def test_who_was_refitted_is_reported_by_kind_with_the_reason_and_the_time_since_the_change(summary, run):
    refits = summary["refits"]
    assert refits["changed"] == {"groups": 2, "refitted": 2, "promoted": 2, "by_policy": {"error_rise": 2}}
    assert refits["as_busy"] == {"groups": 2, "refitted": 0, "promoted": 0, "by_policy": {}}
    assert (refits["others"]["groups"], refits["others"]["refitted"]) == (196, 0)
    assert refits["evidence_seconds"] == pytest.approx(2.7)
    assert refits["to_stale"] == pytest.approx({"n": 2, "p50": 3.0, "p95": 3.0, "max": 3.0})
    assert refits["to_answer"]["p50"] == pytest.approx(5.0, abs=0.3)
    (one,) = example_groups(run)
    assert (one["policy"], one["kind"]) == ("error_rise", "changed")
    assert one["says"].startswith("evidence of a risen error is 9")


@pytest.fixture
def with_an_earlier_refit(run):
    """The run with one more fit, promoted: of a changed group that was found stale half a second before the change.

    Its model answers all of the group's events until the refit that the change is the reason of.
    """
    group, tables = run.traffic.changed[0], run.tables
    key = scale_summary.group_key(group)
    since = pd.Timestamp(run.changed_at, unit="s", tz="UTC") - timedelta(seconds=0.5)
    of_group = {"round_id": "stream-3", "model_id": "early"}

    def extended(frame, **values):
        row = frame[(frame["group_key"] == key) & (frame["round_id"] == "stream-7")].assign(**of_group, **values)
        return pd.concat([row, frame], ignore_index=True)

    rounds = tables.rounds[tables.rounds["round_id"] == "stream-7"].assign(round_id="stream-3", groups_in=1, fitted=1)
    predictions = tables.predictions.assign(
        model_id=tables.predictions["model_id"].where(tables.predictions["model_id"] != f"m{group}", "early")
    )
    tables = replace(
        tables,
        verdicts=extended(tables.verdicts, stale_since=since),
        models=extended(tables.models),
        promotions=extended(tables.promotions),
        rounds=pd.concat([tables.rounds, rounds], ignore_index=True),
        predictions=predictions,
    )
    return replace(run, tables=tables)


def test_a_refit_that_was_due_before_the_change_is_a_false_alarm_and_no_detection(summary, with_an_earlier_refit):
    found = summarize_scale_run(with_an_earlier_refit)
    assert summary["refits"]["earlier"] == {"groups": 2, "refitted": 0, "promoted": 0, "by_policy": {}}
    assert found["refits"]["earlier"] == {"groups": 2, "refitted": 1, "promoted": 1, "by_policy": {"error_rise": 1}}
    for name in ("changed", "to_stale", "to_answer", "histogram"):
        assert found["refits"][name] == summary["refits"][name]
    assert found["errors"] == summary["errors"]
    assert {one["kind"] for one in example_groups(with_an_earlier_refit)} == {"changed", "earlier"}


def test_without_a_refit_after_the_change_nothing_was_detected(with_an_earlier_refit):
    run = with_an_earlier_refit
    verdicts = run.tables.verdicts.assign(stale_since=run.tables.verdicts["stale_since"].min())
    refits = summarize_scale_run(replace(run, tables=replace(run.tables, verdicts=verdicts)))["refits"]
    assert refits["changed"] == {"groups": 2, "refitted": 0, "promoted": 0, "by_policy": {}}
    assert refits["to_stale"]["n"] == refits["to_answer"]["n"] == 0


def test_without_any_refit_of_the_stream_there_is_still_a_summary(run):
    models, promotions = (
        frame[frame["round_id"] != "stream-7"] for frame in (run.tables.models, run.tables.promotions)
    )
    tables = replace(run.tables, models=models, promotions=promotions, verdicts=run.tables.verdicts.iloc[:0])
    found = summarize_scale_run(replace(run, tables=tables))
    assert all(found["refits"][kind]["refitted"] == 0 for kind in ("changed", "as_busy", "others", "earlier"))
    assert example_groups(replace(run, tables=tables)) == []


def test_the_error_is_reported_before_and_after_the_change_and_by_which_model(summary):
    errors = summary["errors"]
    changed = errors["changed"]
    assert [changed[name] for name in ("before", "old_model", "new_model")] == [0.5, 5.0, 0.25]
    assert errors["as_busy"]["new_model"] is None
    assert errors["others"]["rows"]["new_model"] == 0
    assert errors["line"]["changed"][0][0] < 0 < errors["line"]["changed"][-1][0]


def test_an_event_that_was_lost_or_stored_twice_does_not_add_up(run):
    assert summarize_scale_run(run)["reconciliation"]["adds_up"]
    events = run.tables.events
    twice = events.iloc[[*range(1, len(events)), 5]].reset_index(drop=True)
    answered = run.answered.at.copy()
    answered[7] = np.nan
    odd = replace(run, tables=replace(run.tables, events=twice), answered=replace(run.answered, at=answered))
    found = {check["name"]: check for check in summarize_scale_run(odd)["reconciliation"]["checks"]}
    assert (found["events"]["missing"], found["events"]["twice"]) == (1, 1)
    assert found["answers"]["examples"] == ["missing 7"]
    assert [name for name, check in found.items() if not check["adds_up"]] == ["events", "answers"]


def test_an_event_twice_in_its_topic_does_not_add_up_and_an_answer_twice_is_a_number(run):
    again = np.ones(run.traffic.events, np.int64)
    again[[3, 8]] = 2, 3
    answers = summarize_scale_run(replace(run, answered=TopicTimes(run.answered.at, again)))
    assert answers["reconciliation"]["adds_up"]
    assert answers["stream"]["repeated_answers"] == 3
    odd = summarize_scale_run(replace(run, sent=TopicTimes(run.sent.at, again)))
    (check,) = [check for check in odd["reconciliation"]["checks"] if not check["adds_up"]]
    assert (check["name"], check["twice"], check["examples"]) == ("in the topic", 2, ["twice 3", "twice 8"])
    with pytest.raises(StoreError, match="in the topic"):
        require_sets_add_up(odd)


def test_the_records_of_each_event_in_a_topic_are_counted_and_the_first_gives_the_time(monkeypatch):
    reported = [(2_000, "e0"), (1_500, "f0"), (5_000, "e2"), (4_000, "e2"), (6_000, "e2")]
    records = [(at, json.dumps({"id": name}).encode()) for at, name in reported]
    monkeypatch.setattr(topic_times.topic_records, "read_records", lambda settings, topic: iter(records))
    found = topic_times.read_times(Kafka(bootstrap_servers="localhost:9", events="events"), "events", "id", 3)
    assert found.records.tolist() == [1, 0, 3]
    assert found.repeated == 2
    assert np.array_equal(found.at, [2.0, np.nan, 4.0], equal_nan=True)


def test_a_group_that_the_weekly_round_left_out_does_not_add_up(run):
    models = run.tables.models.iloc[1:]
    odd = replace(run, tables=replace(run.tables, models=models), loaded=run.loaded - 1)
    found = [check for check in summarize_scale_run(odd)["reconciliation"]["checks"] if not check["adds_up"]]
    assert [check["name"] for check in found] == ["history", "weekly round"]
    assert found[0]["examples"] == ["6000 expected, 5999 found"]


def test_no_values_have_no_percentiles_and_a_line_its_slope():
    assert percentiles(np.array([]))["p99"] is None
    assert least_squares_slope(np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0, 5.0])) == pytest.approx(2.0)
    assert least_squares_slope(np.array([1.0]), np.array([1.0])) == 0.0
