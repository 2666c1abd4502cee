"""The figures of a fleet and its pipeline, from tables that are filled by hand."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from handwritten_history import Past, fleet_toml, hour

from schemas import tables
from schemas.vocabulary import RoundKind
from spinney.core.config import parse
from spinney.fleet import Fleet
from spinney.page_data import fleet_figures
from spinney.page_data.fleet_figures import read_fleet_figures
from spinney.storage.layout import FleetStore
from spinney.tables.readers.incremental_gain import IncrementalGain

A, B = '["a","1"]', '["b","1"]'


@pytest.fixture
def past(tmp_path: Path) -> Past:
    return Past(parse(fleet_toml(tmp_path), "fleet.toml", {}))


def seen(past: Past, *keys: str) -> None:
    rows = ({"group_key": key, "event_id": "e", "event_time": hour(12), "topic": "sales"} for key in keys)
    past.put(tables.EVENTS, "", *rows)


def health(key: str, at: float, labelled: int, loss: float, model_id: str | None = "m") -> dict[str, object]:
    day = {"observed_on": hour(at).date(), "batch_id": 1}
    sums = {"rows": labelled, "labelled": labelled, "loss": loss}
    return {"group_key": key, "model_id": model_id, "last_event_time": hour(at), **sums, **day}


def test_figures_agree_with_the_table_and_the_summary(past: Past) -> None:
    seen(past, A, B)
    past.round(1, {A: 1, B: 2})
    past.round(3, {A: 3}, decision="refused")
    verdict = {"group_key": B, "decision": "deferred", "policy": "max_age", "reason": "7 d old"}
    times = {"judged_at": hour(4), "stale_since": hour(4), "clock": hour(4), "predicted_ms": 1500.0}
    past.put(tables.VERDICTS, "stream", {**verdict, **times})
    fleet = Fleet(past.config)
    figures, summary = fleet.figures(), fleet.summary()
    assert figures.summary.states == summary.states
    assert {name: n for name, n in summary.states.items() if n} == {"stale": 1, "refused": 1}
    assert (figures.queue.groups, figures.queue.by_policy) == (1, {"max_age": 1})
    assert figures.queue.predicted_seconds == 1.5
    assert figures.error_label == "mean absolute error"
    assert figures.budget_seconds == 5  # the default, docs/configuration.md
    latest = figures.latest_decisions[0]
    assert (latest["group_key"], latest["decision"]) == (A, "refused")
    assert figures.decisions == {}


def test_the_queue_has_the_newest_verdict_of_each_stale_group_and_none_of_a_group_that_was_refitted(past: Past) -> None:
    seen(past, A, B)
    past.round(1, {A: 1})
    verdicts = [
        (A, 4, "deferred", "error_rise", 20.0), (A, 2, "fit", "max_age", 1000.0), (A, 3, "fit", "new_rows", 300.0),
        (A, 1, "fresh", None, None), (B, 2, "deferred", "max_age", 4000.0),
    ]  # fmt: skip
    for key, at, decision, policy, predicted_ms in verdicts:
        times = {"judged_at": hour(at), "stale_since": hour(2), "clock": hour(at)}
        row = {"group_key": key, "decision": decision, "policy": policy, "predicted_ms": predicted_ms, **times}
        past.put(tables.VERDICTS, "stream", {**row, "reason": f"by {policy}"})
    past.round(3, {B: 2})
    queue = Fleet(past.config).figures().queue
    assert (queue.groups, queue.by_policy, queue.predicted_seconds) == (1, {"error_rise": 1}, 0.02)
    (waiting,) = queue.longest_waiting
    assert (waiting.group_key, waiting.policy, waiting.reason) == (A, "error_rise", "by error_rise")
    assert waiting.stale_since == hour(2)


def test_the_last_age_of_each_group_is_measured_from_its_champions_newest_row_to_the_newest_event(past: Past) -> None:
    seen(past, A, B)
    past.round(1, {A: 1})
    past.round(5, {B: 1})
    age = Fleet(past.config).figures().age
    assert age.groups[-1] == 2
    quantiles = age.quantiles[-1]
    assert quantiles is not None
    assert quantiles[2] == (12 + 8) / 2 * 3600  # trained through the hours 0 and 4; the newest event is of hour 12


def test_decisions_of_the_last_day_are_counted_and_older_ones_are_not(past: Past) -> None:
    seen(past, A)
    now = datetime.now(UTC)
    row = {"group_key": A, "round_id": "stream-1", "epoch": 0, "model_id": "m", "clock": now}
    recent = [
        {**row, "decision": decision, "decided_at": now - timedelta(hours=1)} for decision in ("promoted", "kept")
    ]
    past.put(
        tables.PROMOTIONS, "stream", *recent, {**row, "decision": "refused", "decided_at": now - timedelta(days=2)}
    )
    past.put(tables.PROMOTIONS, "batch", {**row, "decision": "kept", "decided_at": now - timedelta(minutes=1)})
    assert Fleet(past.config).figures().decisions == {"kept": 2, "promoted": 1}


def test_error_bands_hold_the_mean_error_of_each_group_by_event_time(past: Past) -> None:
    seen(past, A, B)
    past.put(tables.HEALTH, "score", health(A, 0, 2, 4.0), health(A, 0, 2, 8.0), health(B, 0, 1, 5.0))
    past.put(tables.HEALTH, "labels", health(A, 30, 4, 4.0), health(B, 30, 1, 99.0, model_id=None))
    error = Fleet(past.config).figures().error
    known = {time: row for time, row in zip(error.times, error.quantiles, strict=True) if row is not None}
    assert {row[2] for row in known.values()} == {(3.0 + 5.0) / 2, 1.0}
    assert sum(error.groups) == 3
    assert error.times[0] == hour(0)
    assert hour(30) <= error.times[-1] <= hour(30) + timedelta(milliseconds=1)


def test_a_new_fleet_has_figures_without_any_value(past: Past) -> None:
    figures = Fleet(past.config).figures()
    assert (figures.summary.groups, figures.age.times, figures.error.times, figures.queue.groups) == (0, (), (), 0)


def test_a_groups_errors_are_its_own_and_its_answers_have_the_labels_that_came_late(past: Past) -> None:
    past.put(tables.HEALTH, "score", health(A, 0, 2, 4.0), health(B, 0, 1, 50.0), health(A, 6, 1, 3.0))
    past.put(tables.HEALTH, "labels", health(A, 0, 2, 8.0))
    at = {"scored_at": hour(9), "scored_on": hour(9).date(), "answered_by": "own", "batch_id": 1}
    answers = [
        {"group_key": key, "event_id": f"e{n}", "event_time": hour(n), "prediction": float(n), **at}
        for key, n in ((A, 1), (A, 2), (B, 3))
    ]
    past.put(tables.PREDICTIONS, "", *answers)
    past.put(tables.OUTCOMES, "", {"group_key": A, "event_id": "e2", "label": 7.0, "observed_at": hour(9)})
    figures = Fleet(past.config).group_figures(A)
    first, *others = figures.errors
    assert (first.at, first.labelled, first.mean) == (hour(0), 4, 3.0)
    assert [(point.labelled, point.mean) for point in others] == [(1, 3.0)]
    assert [(row["event_id"], row["prediction"], row["label"]) for row in figures.answers] == [
        ("e2", 2.0, 7.0),
        ("e1", 1.0, None),
    ]
    assert figures.coverage is None


def test_the_pipeline_reports_batches_rows_and_rounds(past: Past, tmp_path: Path) -> None:
    seen(past, A, B)
    past.put(tables.EVENTS, "", {"group_key": A, "event_id": "l", "event_time": hour(1), "topic": "load:old.csv"})
    past.put(tables.DEAD_LETTERS, "", {"topic": "sales", "kafka_partition": 0, "kafka_offset": 1,
             "reason": "not_json", "ingested_at": datetime.now(UTC), "batch_id": 1})  # fmt: skip
    past.round(1, {A: 1})
    checkpoint(tmp_path / "checkpoints" / "score", started=(7, 8), ended=(7,))
    figures = Fleet(past.config).pipeline()
    counts = figures.counts
    assert (counts.events, counts.loaded, counts.predictions, counts.dead_letters) == (3, 1, 0, 1)
    assert [(kind.reason, kind.count) for kind in figures.dead_letters] == [("not_json", 1)]
    assert [(row["round_id"], row["reasons"]) for row in figures.rounds] == [("stream-1", {})]
    batches = {each.query: each.batches for each in figures.queries}
    assert [batches[name] for name in ("ingest", "labels", "retrain")] == [(), (), ()]
    assert [(each.batch_id, each.started_at, each.ended_at) for each in batches["score"]] == [
        (7, hour(7), hour(7) + timedelta(seconds=2)),
        (8, hour(8), None),
    ]


def test_a_round_that_is_planned_and_not_recorded_is_under_way_however_old_it_is(past: Past) -> None:
    past.round(1, {A: 1})
    began = datetime.now(UTC) - timedelta(days=3)  # it was interrupted, and goes on when the batch is started again
    assert past.plan(RoundKind.BATCH, 7, [A, B], began) == "batch-7"
    attempt = {"group_key": A, "status": "failed"}
    of_round = {**attempt, "round_id": "batch-7", "fitted_at": began}
    of_others = {**attempt, "group_key": B, "round_id": "batch-6", "fitted_at": began}
    past.put(tables.MODELS, "batch", of_round, of_round, of_others)
    (found,) = Fleet(past.config).pipeline().under_way
    assert (found.round_id, found.began_at, found.planned, found.attempted) == ("batch-7", began, 2, 1)
    assert found.seconds_left == pytest.approx(3 * 86_400, abs=300)
    (of_fleet,) = Fleet(past.config).figures().under_way
    assert (of_fleet.round_id, of_fleet.planned, of_fleet.attempted) == ("batch-7", 2, 1)
    past.put(tables.ROUNDS, "batch", {"round_id": "batch-7", "kind": "batch", "started_at": began})
    assert Fleet(past.config).pipeline().under_way == ()


def test_a_plan_that_another_one_followed_is_not_under_way_and_each_path_has_one_round(past: Past) -> None:
    now = datetime.now(UTC)
    past.plan(RoundKind.STREAM, 3, [A], now - timedelta(minutes=3))  # given up: it has no record
    past.plan(RoundKind.STREAM, 4, [A, B], now - timedelta(minutes=1))
    past.plan(RoundKind.BATCH, 4, [B], now - timedelta(minutes=2))
    under_way = Fleet(past.config).pipeline().under_way
    assert [(found.round_id, found.planned) for found in under_way] == [("stream-4", 2), ("batch-4", 1)]
    past.plan(RoundKind.STREAM, 5, [], now)
    assert [found.round_id for found in Fleet(past.config).pipeline().under_way] == ["batch-4"]


def test_the_experiment_in_mlflow_is_linked_without_the_password_of_the_server(tmp_path: Path) -> None:
    config = Past(parse(fleet_toml(tmp_path), "fleet.toml", {})).config

    def linked(uri: str) -> str | None:
        tracking = config.tracking.model_copy(update={"uri": uri})
        return Fleet(config.model_copy(update={"tracking": tracking})).pipeline().experiment_url

    experiment = "#/experiments?experimentSearchFilter=shops"
    assert linked("https://ada:secret@mlflow.example:5000/x") == f"https://mlflow.example:5000/x/{experiment}"
    assert linked("http://mlflow.example/") == f"http://mlflow.example/{experiment}"
    assert linked(f"sqlite:///{tmp_path}/mlflow.db") is None


def checkpoint(folder: Path, started: tuple[int, ...], ended: tuple[int, ...]) -> None:
    """Files as Spark writes them: batch n began at hour n, and took two seconds."""
    for name in ("offsets", "commits"):
        (folder / name).mkdir(parents=True)
    for n in started:
        metadata = {"batchTimestampMs": int(hour(n).timestamp() * 1000), "batchWatermarkMs": 0}
        (folder / "offsets" / str(n)).write_text(f"v1\n{json.dumps(metadata)}\n-")
    for n in ended:
        file = folder / "commits" / str(n)
        file.write_text("v1\n{}")
        ends = hour(n).timestamp() + 2
        os.utime(file, (ends, ends))


def test_figures_that_follow_an_earlier_reading_are_the_same_as_without_it(past: Past) -> None:
    seen(past, A, B)
    past.round(1, {A: 1, B: 1})
    past.put(tables.HEALTH, "score", health(A, 0, 2, 4.0), health(B, 60, 1, 5.0))
    fleet, store = Fleet(past.config), FleetStore.of(past.config)
    settings = (past.config.kafka.label_horizon, past.config.budget.seconds)
    kept, statuses, now = IncrementalGain(store), fleet.table(), hour(40)
    before = read_fleet_figures(kept, *settings, statuses, hour(20))
    past.round(30, {A: 2})
    past.put(tables.HEALTH, "score", health(A, 61, 1, 9.0), health(B, 75.5, 1, 5.0), health(A, 55, 1, 7.0))
    statuses = fleet.table()
    after = read_fleet_figures(kept, *settings, statuses, now, before)
    assert after == read_fleet_figures(IncrementalGain(store), *settings, statuses, now)


def test_figures_that_are_computed_piece_by_piece_are_the_same(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f'["g{n}","1"]' for n in range(12)]
    seen(past, *keys)
    for n, key in enumerate(keys):
        past.round(n + 1, {key: 1})
        past.put(tables.HEALTH, "score", health(key, n, 2, 2.0 * n), health(key, 2.0 * n, 1, 7.0))
    figures = []
    for intervals, rows, in_memory in ((100, 1_000, 1_000), (1, 1, 1), (7, 3, 5)):
        monkeypatch.setattr(fleet_figures, "INTERVALS_AT_ONCE", intervals)
        monkeypatch.setattr(fleet_figures, "ROWS_AT_ONCE", rows)
        monkeypatch.setattr(fleet_figures, "ROWS_IN_MEMORY", in_memory)
        settings = (past.config.kafka.label_horizon, past.config.budget.seconds)
        kept = IncrementalGain(FleetStore.of(past.config))
        figures.append(read_fleet_figures(kept, *settings, Fleet(past.config).table(), hour(40)))
    assert figures[0] == figures[1] == figures[2]
    assert figures[0].age.groups[-1] == 12
    assert sum(figures[0].error.groups) == 23  # both sums of the first group are in one interval
