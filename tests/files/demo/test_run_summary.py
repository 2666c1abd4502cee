from __future__ import annotations

import json

import pandas as pd
import pytest

from demo import report_text, run_summary
from demo.formatting import STATE_LABELS, STRATEGY_LABELS
from demo.refit_comparison import STRATEGIES, RefitComparison
from demo.run_summary import DemoRun, group_timeline, sample_evenly, summarize_batches, summarize_run

A1, A2 = '["A","1"]', '["A","2"]'
BATCHES = [
    {"query": "score", "batch_id": 1, "rows": 30, "seconds": 2.0, "phases": {"write": 1.0}},
    {"query": "score", "batch_id": 0, "rows": 10, "seconds": 6.0, "phases": {"write": 3.0, "read": 1.0}},
    {"query": "ingest", "batch_id": 0, "rows": 5, "seconds": 0.5, "phases": {}},
]


@pytest.fixture
def comparison(tables):
    times = pd.to_datetime(["2020-01-06T10:00Z", "2020-01-07T10:00Z", "2020-01-06T11:00Z"]).astype(
        "datetime64[us, UTC]"
    )
    rows = {"group_key": [A1, A1, A2], "event_id": ["1", "2", "1"], "event_time": times, "label": [1.0, 1.0, 1.0]}
    losses = {
        "fleet": [1.0, 3.0, 2.0],
        "in_turn": [2.0, 2.5, 2.0],
        "daily": [2.0, 2.0, 2.0],
        "weekly": [2.0, 4.0, 3.0],
        "never": [4.0, 4.0, 4.0],
    }
    fits = {"fleet": 3, "in_turn": 3, "daily": 8, "weekly": 2, "never": 0}
    return RefitComparison(pd.DataFrame(rows | losses), 1, fits)


@pytest.fixture
def summarize_comparison(tables, statuses, ledger, scenario, config, comparison):
    return summarize_run(
        DemoRun(tables, statuses, ledger, BATCHES, 61.0, comparison), scenario, config, frozenset({A1})
    )


def test_the_summary_is_plain_values_with_the_keys_it_promises(summarize_comparison):
    assert json.loads(json.dumps(summarize_comparison, allow_nan=False)) == summarize_comparison
    promised = [
        line.split()[0] for line in run_summary.__doc__.splitlines() if line and line[0].isalpha() and "  " in line
    ]
    assert set(promised) <= set(summarize_comparison)
    assert set(summarize_comparison) - set(promised) == {"format", "injected_says"}


def test_events_and_outcomes_are_counted_by_id(summarize_comparison):
    assert summarize_comparison["events"] == {
        "records": 4 + 1 + 3,
        "distinct": 4,
        "duplicates": 1,
        "dead": 3,
        "stored": 4,
        "stored_twice": 0,
        "loaded": 0,
    }
    assert summarize_comparison["dead_letters"] == {"not_json": 2, "null_value": 1}
    assert (summarize_comparison["outcomes"]["matched"], summarize_comparison["outcomes"]["unmatched"]) == (2, 0)
    assert summarize_comparison["predictions"] == {"rows": 4, "by_answer": {"own": 3, "parent": 1}}
    assert summarize_comparison["reconciliation"]["adds_up"]


def test_groups_are_counted_by_the_state_that_the_fleet_gives_them(summarize_comparison):
    by_state = {"fresh": 1, "stale": 0, "refused": 1, "held": 0, "failed": 0, "parent": 1, "none": 0}
    assert summarize_comparison["groups"] == {"total": 3, "by_state": by_state}
    assert list(STATE_LABELS) == list(by_state)


def test_worth_is_in_it_with_the_injected_group_apart(summarize_comparison):
    worth = summarize_comparison["worth"]
    assert worth["unit"] == "kelvin"
    # Without A1, whose label is changed: A2's label of 1 lies between 0.5 and 1.5.
    intervals = {"nominal": 0.9, "rows": 1, "unbounded": 0.0, "covered": 1.0, "width": 1.0}
    assert summarize_comparison["intervals"] == intervals
    assert worth["mean_loss"]["fleet"] == 2.0
    assert worth["mean_loss_without_injected"] == {
        "fleet": 2.0,
        "in_turn": 2.0,
        "daily": 2.0,
        "weekly": 3.0,
        "never": 4.0,
    }
    assert report_text.headline(summarize_comparison) == (
        "Retrained as it went stale, the fleet erred 33 % less than one refitted weekly, and as much as one refitted "
        "in turn, with as many fits."
    )
    assert "2.00 kelvin with 3 fits; refitted in turn 2.00 with 3, daily 2.00 with 8, weekly 3.00 with 2" in (
        report_text.subtitle(summarize_comparison)
    )


def test_without_worth_the_rest_is_whole(tables, statuses, ledger, scenario, config):
    found = summarize_run(DemoRun(tables, statuses, ledger, [], 1.0), scenario, config, frozenset())
    assert found["worth"] is None
    assert found["life"] is None
    assert found["batches"] == {}
    assert report_text.headline(found) == "4 events answered, 3 groups retrained on the way."


def test_batches_are_reported_by_query_in_their_order():
    found = summarize_batches(BATCHES)
    assert list(found) == ["score", "ingest"]
    score = found["score"]
    assert (score["batches"], score["rows"], score["rows_per_second"]) == (2, 40, 5.0)
    assert score["seconds"] == {"n": 2, "p50": 2.0, "p95": 6.0, "max": 6.0}
    assert score["phases"] == {"write": 2.0, "read": 0.5}
    assert score["line"] == [[0, 6.0], [1, 2.0]]


def test_a_life_is_that_of_the_busiest_changed_group_with_the_reasons_of_its_rounds(comparison, tables):
    found = group_timeline(comparison, tables, frozenset({A1}))
    assert (found["group_key"], found["injected"]) == (A1, True)
    assert [point[1:] for point in found["points"]] == [[1.0, 4.0], [3.0, 4.0]]
    assert [(one["decision"], one["policy"], one["reason"], one["gate"]) for one in found["rounds"]] == [
        ("promoted", "max_age", "8 days old", "not worse"),
        ("unproven", "new_rows", "4 new rows", "thin"),
    ]
    assert group_timeline(comparison, tables, frozenset())["injected"] is False


def test_thinning_keeps_both_ends():
    kept = sample_evenly(list(range(10_000)))
    assert (len(kept), kept[0], kept[-1]) == (run_summary.MAX_POINTS, 0, 9999)
    assert sample_evenly([1, 2]) == [1, 2]


def test_the_names_of_the_fleets_have_words():
    assert set(STRATEGY_LABELS) == set(STRATEGIES)
