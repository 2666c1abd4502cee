from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from demo import retraining_summary

WALL = pd.Timestamp("2026-01-01T12:00Z")


def test_fits_are_counted_by_the_reason_of_their_round_and_the_day_of_the_fleets_clock(tables):
    found = retraining_summary.summarize_retraining(tables)
    assert (found["fits"], found["groups"], found["before_the_stream"]) == (3, 2, 3)
    assert found["by_reason"] == {"new_rows": 2, "max_age": 1}
    assert found["by_day"] == [
        {"day": "2020-01-06", "reasons": {"max_age": 1, "new_rows": 1}},
        {"day": "2020-01-07", "reasons": {"max_age": 0, "new_rows": 1}},
    ]
    assert found["by_decision"] == {"promoted": 1, "refused": 1, "unproven": 1}
    assert found["not_fitted"] == {"too_few_rows": 1}
    assert found["fits_of_parents"] == 0


def test_fits_of_parents_are_counted_apart_too(tables):
    # The first model of A2 in r1 is said to be that of a hall.
    is_of_hall = (tables.models["round_id"] == "r1") & (tables.models["group_key"] == '["A","2"]')
    models = tables.models.assign(group_key=tables.models["group_key"].mask(is_of_hall, '{"hall":"A"}'))
    found = retraining_summary.summarize_retraining(replace(tables, models=models))
    assert (found["fits"], found["fits_of_parents"]) == (3, 1)


def test_freshness_runs_from_stale_to_the_first_answer_of_that_model(tables):
    # a1-1: stale at 3 s, promoted at 4 s, first answer at 9 s. a1-2: stale at 10 s, promoted at 14 s, no event since.
    found = retraining_summary.summarize_freshness(tables)
    assert (found["promoted"], found["answered"], found["no_event_yet"]) == (2, 1, 1)
    assert found["stale_to_answer"] == {"n": 1, "p50": 6.0, "p95": 6.0, "max": 6.0}
    assert found["stale_to_promoted"] == {"n": 2, "p50": 1.0, "p95": 4.0, "max": 4.0}
    assert sum(one["count"] for one in found["histogram"]) == 1


def test_later_answers_of_the_same_model_do_not_count(tables):
    again = pd.concat(
        [tables.predictions, tables.predictions.iloc[1:2].assign(scored_at=WALL + pd.Timedelta(seconds=60))],
        ignore_index=True,
    )
    assert retraining_summary.summarize_freshness(replace(tables, predictions=again))["stale_to_answer"]["max"] == 6.0


def test_the_budget_counts_the_streams_rounds_alone(tables):
    assert retraining_summary.summarize_budget(tables) == {
        "rounds": 2,
        "allowed_seconds": 10.0,
        "predicted_seconds": 1.75,
        "used_seconds": 2.75,  # 0.5 + 1.5, 0.25 + 0.5
        "deferred": 1,
        "stages": {"plan": 0.75, "fit": 2.0},
    }


def test_the_gain_is_over_the_new_champions_of_groups_that_were_drawn(tables):
    # A1 was drawn in r1, and r2 compared its new model with the one before: 4 - 3. A2's challenger was refused.
    found = retraining_summary.summarize_gain(tables)
    assert (found["groups"], found["rows"], found["gain"], found["percent"]) == (1, 20, 1.0, 25.0)
    assert found["says"].startswith("gain from retraining: 1 a row, 25.0 % of the loss, on 20 later rows of 1 stale")
    assert retraining_summary.summarize_gain(replace(tables, verdicts=tables.verdicts.iloc[:0])) is None


def test_a_stream_without_rounds_has_nothing_to_report(tables):
    quiet = replace(
        tables,
        rounds=tables.rounds.iloc[:1],
        verdicts=tables.verdicts.iloc[:0],
        models=tables.models.iloc[:3],
        promotions=tables.promotions.iloc[:3],
    )
    assert retraining_summary.summarize_retraining(quiet)["fits"] == 0
    assert retraining_summary.summarize_retraining(quiet)["by_day"] == []
    assert retraining_summary.summarize_freshness(quiet)["stale_to_answer"] == {
        "n": 0,
        "p50": None,
        "p95": None,
        "max": None,
    }
    assert retraining_summary.summarize_budget(quiet)["rounds"] == 0


@pytest.mark.parametrize(("values", "p50", "p95"), [([4.0], 4, 4), ([1.0, 2.0], 1, 2), (list(range(1, 101)), 50, 95)])
def test_percentiles_are_values_that_occurred(values, p50, p95):
    found = retraining_summary.quantiles(np.array(values, dtype=float))
    assert (found["p50"], found["p95"], found["max"]) == (p50, p95, max(values))


def test_a_histogram_holds_every_value_the_greatest_too():
    found = retraining_summary.histogram(np.array([0.0, 1.0, 2.0, 500.0]))
    assert sum(one["count"] for one in found) == 4
    assert found[0]["from"] == 0.0
