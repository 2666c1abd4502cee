from __future__ import annotations

import json

import pandas as pd
import pytest

from demo import measures, words
from demo.measures import Run, batches, life, measure, thin
from demo.worth import NAMES, Compared

A1, A2 = '["A","1"]', '["A","2"]'
BATCHES = [
    {"query": "score", "batch_id": 1, "rows": 30, "seconds": 2.0, "phases": {"write": 1.0}},
    {"query": "score", "batch_id": 0, "rows": 10, "seconds": 6.0, "phases": {"write": 3.0, "read": 1.0}},
    {"query": "ingest", "batch_id": 0, "rows": 5, "seconds": 0.5, "phases": {}},
]


@pytest.fixture
def compared(tables):
    times = pd.to_datetime(["2020-01-06T10:00Z", "2020-01-07T10:00Z", "2020-01-06T11:00Z"]).astype(
        "datetime64[us, UTC]"
    )
    rows = {"group_key": [A1, A1, A2], "event_id": ["1", "2", "1"], "event_time": times, "label": [1.0, 1.0, 1.0]}
    losses = {"fleet": [1.0, 3.0, 2.0], "daily": [2.0, 2.0, 2.0], "weekly": [2.0, 4.0, 3.0], "never": [4.0, 4.0, 4.0]}
    return Compared(pd.DataFrame(rows | losses), 1, {"daily": 8, "weekly": 2, "never": 0})


@pytest.fixture
def summary(tables, standings, ledger, story, config, compared):
    return measure(Run(tables, standings, ledger, BATCHES, 61.0, compared), story, config, frozenset({A1}))


def test_the_summary_is_plain_values_with_the_keys_it_promises(summary):
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    promised = [
        line.split()[0] for line in measures.__doc__.splitlines() if line and line[0].isalpha() and "  " in line
    ]
    assert set(promised) <= set(summary)
    assert set(summary) - set(promised) == {"format", "injected_says"}


def test_events_and_outcomes_are_counted_by_id(summary):
    assert summary["events"] == {
        "records": 4 + 1 + 3,
        "distinct": 4,
        "duplicates": 1,
        "dead": 3,
        "stored": 4,
        "stored_twice": 0,
        "loaded": 0,
    }
    assert summary["dead_letters"] == {"not_json": 2, "null_value": 1}
    assert (summary["outcomes"]["matched"], summary["outcomes"]["unmatched"]) == (2, 0)
    assert summary["predictions"] == {"rows": 4, "by_answer": {"own": 3, "parent": 1}}
    assert summary["reconciliation"]["adds_up"]


def test_groups_are_counted_by_the_state_that_the_fleet_gives_them(summary):
    by_state = {"fresh": 1, "stale": 0, "refused": 1, "held": 0, "failed": 0, "parent": 1, "none": 0}
    assert summary["groups"] == {"total": 3, "by_state": by_state}
    assert list(words.STATES) == list(by_state)


def test_worth_is_in_it_with_the_injected_group_apart(summary):
    worth = summary["worth"]
    assert worth["unit"] == "kelvin"
    assert worth["mean_loss"]["fleet"] == 2.0
    assert worth["mean_loss_without_injected"] == {"fleet": 2.0, "daily": 2.0, "weekly": 3.0, "never": 4.0}
    assert words.headline(summary) == "Retrained as it went stale, the fleet erred 33 % less than one refitted weekly."


def test_without_worth_the_rest_is_whole(tables, standings, ledger, story, config):
    found = measure(Run(tables, standings, ledger, [], 1.0), story, config, frozenset())
    assert found["worth"] is None
    assert found["life"] is None
    assert found["batches"] == {}
    assert words.headline(found) == "4 events answered, 3 groups retrained on the way."


def test_batches_are_told_by_query_in_their_order():
    found = batches(BATCHES)
    assert list(found) == ["score", "ingest"]
    score = found["score"]
    assert (score["batches"], score["rows"], score["rows_per_second"]) == (2, 40, 5.0)
    assert score["seconds"] == {"n": 2, "p50": 2.0, "p95": 6.0, "max": 6.0}
    assert score["phases"] == {"write": 2.0, "read": 0.5}
    assert score["line"] == [[0, 6.0], [1, 2.0]]


def test_a_life_is_that_of_the_busiest_changed_group_with_the_reasons_of_its_rounds(compared, tables):
    found = life(compared, tables, frozenset({A1}))
    assert (found["group_key"], found["injected"]) == (A1, True)
    assert [point[1:] for point in found["points"]] == [[1.0, 4.0], [3.0, 4.0]]
    assert [(one["decision"], one["policy"], one["reason"], one["gate"]) for one in found["rounds"]] == [
        ("promoted", "max_age", "8 days old", "not worse"),
        ("unproven", "new_rows", "4 new rows", "thin"),
    ]
    assert life(compared, tables, frozenset())["injected"] is False


def test_thinning_keeps_both_ends():
    kept = thin(list(range(10_000)))
    assert (len(kept), kept[0], kept[-1]) == (measures.POINTS, 0, 9999)
    assert thin([1, 2]) == [1, 2]


def test_the_four_names_have_words():
    assert set(words.NAMES) == set(NAMES)
