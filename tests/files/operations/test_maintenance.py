"""Few files instead of many, nothing forgotten that may still matter, and never two writers in one directory."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable
from handwritten_history import Past, hour
from waiting import wait_until

from schemas import tables
from spinney.core.champions.promotion import Promotion
from spinney.core.errors import StoreError
from spinney.core.keys import encode, shard_of
from spinney.fleet import Fleet
from spinney.operations import expired_rows, maintenance
from spinney.operations.clustering import CommitGuard
from spinney.operations.interventions import (
    Attribution,
    OverrideRequest,
    OverrideVerb,
    carry_out_override,
    propose_override,
)
from spinney.storage import leases
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.readers.as_of import resolve_as_of
from streaming.table_maintenance import MaintenanceThread, serve_requests

A, B, DEPT = '["a","1"]', '["b","1"]', '{"dept":"1"}'
DAY = 24
ADA = Attribution("ada", "so")


@dataclass
class TenDays:
    """The root of a fleet as it was written once, to be copied, and the models of each day."""

    root: Path
    names: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture(scope="module")
def ten_days(tmp_path_factory) -> TenDays:
    return TenDays(tmp_path_factory.mktemp("ten days") / "root")


@pytest.fixture
def past(configured, ten_days: TenDays) -> Past:
    """A has a model a day for ten days, B one of the first day; models are kept for three days."""
    config = configured(("[storage]", '[retention]\nmodels = "3d"\npredictions = "2d"\n[storage]'))
    if ten_days.names:
        shutil.copytree(ten_days.root, config.storage.root)
    made = Past(config)
    made.names = ten_days.names or [
        made.round(day * DAY, {A: float(day)} | ({B: 21.0} if day == 1 else {}), big=True) for day in range(1, 11)
    ]
    if not ten_days.names:
        shutil.copytree(config.storage.root, ten_days.root)
        ten_days.names = made.names
    return made


def place(past: Past, name: str, base=tables.MODELS):
    return FleetStore.of(past.config).directory(base, name)


def all_tidied(past: Past, now) -> dict[str, maintenance.DirectoryReport]:
    return {
        each.name: maintenance.tidy_directory(FleetStore.of(past.config), past.config.retention, each, now)
        for each in FleetStore.of(past.config).every_directory()
    }


def models(past: Past) -> set[str]:
    return {
        row["model_id"] for row in delta.read_table(FleetStore.of(past.config), tables.MODELS, ["model_id"]).to_pylist()
    }


def test_every_directory_has_an_owner_and_every_lease_its_directories(past) -> None:
    owners = {each.name: maintenance.lease_of(each) for each in FleetStore.of(past.config).every_directory()}
    assert set(owners.values()) == {"ingest", "score", "labels", "retrain", "weekly", "people"}
    assert owners["models/stream"] == "retrain"
    assert owners["models/batch"] == "weekly"
    assert [each.name for each in maintenance.directories_of_lease(FleetStore.of(past.config), "labels")] == [
        "health/labels"
    ]


def test_a_survey_says_what_there_is_to_do_and_changes_nothing(past) -> None:
    version = delta.current_version(place(past, "stream"))
    found = maintenance.inspect_directory(
        FleetStore.of(past.config), past.config.retention, place(past, "stream"), hour(11 * DAY)
    )
    assert (found.directory, found.files, found.small, found.gone, found.behind) == ("models/stream", 10, 10, 0, None)
    # Of A's ten models those of days 9 and 10 are young; of what was known by day 8 three are the way back.
    assert found.forgotten == 5
    assert delta.current_version(place(past, "stream")) == version


def test_what_is_put_together_is_the_same_rows_in_one_file(configured) -> None:
    made = Past(configured())
    for at in range(1, 5):
        made.round(at, {A: float(at), B: 20.0 + at})
    before = sorted(
        delta.read_table(FleetStore.of(made.config), tables.MODELS).to_pylist(),
        key=lambda row: (row["fitted_at"], row["group_key"]),
    )
    found = maintenance.tidy_directory(
        FleetStore.of(made.config),
        made.config.retention,
        FleetStore.of(made.config).directory(tables.MODELS, "stream"),
        hour(9),
    )
    assert (found.files, found.small, found.forgotten) == (4, 4, 0)
    after = sorted(
        delta.read_table(FleetStore.of(made.config), tables.MODELS).to_pylist(),
        key=lambda row: (row["fitted_at"], row["group_key"]),
    )
    assert after == before
    again = maintenance.inspect_directory(
        FleetStore.of(made.config),
        made.config.retention,
        FleetStore.of(made.config).directory(tables.MODELS, "stream"),
        hour(9),
    )
    assert (again.files, again.is_tidy) == (1, True)


def test_old_models_go_but_never_one_that_answers_or_that_a_rollback_within_the_rule_reaches(past) -> None:
    now = hour(11 * DAY)
    past.put(tables.EVENTS, "", *({"group_key": key, "event_id": "e", "ingested_at": hour(0)} for key in (A, B)))
    moments = [now - timedelta(hours=back) for back in range(0, 3 * DAY, 5)]
    stood = [Fleet(past.config).groups(at) for at in moments]
    all_tidied(past, now)
    assert models(past) == {past.names[0][B], *(past.names[day - 1][A] for day in (6, 7, 8, 9, 10))}
    assert [Fleet(past.config).groups(at) for at in moments] == stood
    found = propose_override(
        FleetStore.of(past.config),
        past.signer,
        OverrideRequest(OverrideVerb.ROLLBACK, None, at=now - timedelta(days=3)),
    )
    assert [(step.group_key, step.after) for step in found.steps] == [(A, past.names[7][A])]
    assert [each.wanting for each in found.left] == [False]


def test_a_pinned_model_and_the_way_back_from_it_are_kept_however_old(past) -> None:
    carry_out_override(
        FleetStore.of(past.config),
        past.signer,
        OverrideRequest(OverrideVerb.PIN, (A,), past.names[1][A]),
        ADA,
        now=hour(10.5 * DAY),
    )
    all_tidied(past, hour(100 * DAY))
    assert past.answers() == {A: past.names[1][A], B: past.names[0][B]}
    assert {past.names[1][A], past.names[9][A], past.names[0][B]} <= models(past)
    assert propose_override(FleetStore.of(past.config), past.signer, OverrideRequest(OverrideVerb.UNPIN, (A,))).steps
    carry_out_override(
        FleetStore.of(past.config), past.signer, OverrideRequest(OverrideVerb.UNPIN, (A,)), ADA, now=hour(101 * DAY)
    )
    found = propose_override(FleetStore.of(past.config), past.signer, OverrideRequest(OverrideVerb.ROLLBACK, (A,)))
    assert found.steps[0].after == past.names[9][A]


def test_what_is_left_of_a_large_file_can_still_be_looked_up_by_group(past, monkeypatch) -> None:
    monkeypatch.setattr(maintenance, "SMALL_BYTES", 0)  # nothing is put together, so what a merge leaves stays as it is
    names = past.round(10.5 * DAY, {A: 31.0, B: 32.0, '["c","1"]': 33.0})
    for later in range(4):
        past.round((11 + later) * DAY, {A: 40.0 + later})
    all_tidied(past, hour(20 * DAY))
    fleet = Fleet(past.config)
    assert fleet.why(B).standing.model_id == fleet.champions().promotions[B][-1].model_id == names[B]
    kept = delta.read_table(FleetStore.of(past.config), tables.MODELS, ["model_id"], ds.field("group_key") == B)
    assert set(kept.column("model_id").to_pylist()) == {past.names[0][B], names[B]}


def test_the_last_attempt_of_a_group_that_fails_is_kept_and_older_ones_go(past) -> None:
    for at in (1, 2):
        failed = {"group_key": '["f","1"]', "status": "failed", "error": "no", "fitted_at": hour(at), "clock": hour(at)}
        past.put(tables.MODELS, "batch", {**failed, "round_id": f"batch-{at}"})
    all_tidied(past, hour(50 * DAY))
    rows = delta.read_table(FleetStore.of(past.config), tables.MODELS, ["group_key", "round_id"]).to_pylist()
    assert [row["round_id"] for row in rows if row["group_key"] == '["f","1"]'] == ["batch-2"]


def test_a_large_fleet_is_looked_through_some_shards_at_a_time_and_the_same_rows_go(configured, monkeypatch) -> None:
    """40 groups, each fitted and judged five times by the stream; of five champions three are the way back."""
    made = Past(configured(("[storage]", '[retention]\nmodels = "1d"\nverdicts = "1d"\n[storage]'), shards=16))
    keys = [encode([f"s{at}", "1"]) for at in range(40)]
    for at in (1, 2, 3, 4, 5):
        of_round = [{"group_key": key, "shard": shard_of(key, 16), "round_id": f"stream-{at}"} for key in keys]
        times = {"trained_through": hour(at), "fitted_at": hour(at), "decided_at": hour(at), "judged_at": hour(at)}
        rows = [
            {
                **row,
                **times,
                "model_id": f"{row['group_key']}{at}",
                "status": "fitted",
                "recipe_id": "r",
                "batch_id": at,
            }
            for row in of_round
        ]
        made.put(tables.MODELS, "stream", *rows)
        made.put(tables.PROMOTIONS, "stream", *({**row, "epoch": 0, "decision": "promoted"} for row in rows))
        made.put(tables.VERDICTS, "stream", *({**row, "decision": "fit"} for row in rows))
    for base in (tables.MODELS, tables.PROMOTIONS, tables.VERDICTS):
        made.put(base, "stream", {"group_key": DEPT, "shard": 0, "round_id": "stream-9", "batch_id": 9})
    read, at_once = delta.read_table, []

    def reading(*words, **more):
        found = read(*words, **more)
        at_once.append(found.num_rows)
        return found

    monkeypatch.setattr(expired_rows, "ROWS_AT_ONCE", 20)
    monkeypatch.setattr(maintenance.delta, "read_table", reading)
    done = all_tidied(made, hour(3 * DAY))
    monkeypatch.undo()
    assert max(at_once) < 100  # of 201
    for base, left in ((tables.MODELS, {3, 4, 5, 9}), (tables.PROMOTIONS, {3, 4, 5, 9}), (tables.VERDICTS, {5, 9})):
        rows = delta.read_table(FleetStore.of(made.config), base, ["group_key", "round_id"]).to_pylist()
        rounds = {int(row["round_id"].removeprefix("stream-")) for row in rows}
        assert (base.name, rounds) == (base.name, left)
        assert len(rows) == 40 * (len(left) - 1) + 1
        assert done[f"{base.name}/stream"].forgotten == 201 - len(rows)


def test_models_are_forgotten_without_the_query_s_lock_and_what_it_stores_meanwhile_stays(past, monkeypatch) -> None:
    lock, seen = threading.Lock(), []

    def look() -> bool:
        seen.append(lock.locked())
        if len(seen) == 1:
            with lock:
                past.round(10.9 * DAY, {A: 77.0})
        return False

    maintenance.tidy_directory(
        FleetStore.of(past.config),
        past.config.retention,
        place(past, "stream"),
        hour(11 * DAY),
        CommitGuard(lock, look),
    )
    assert seen
    assert not any(seen)
    assert past.answers()[A] in models(past)
    assert len(models(past)) == 11 - 5 + 1


@pytest.mark.parametrize("days", [4.5, 40], ids=["a running stream", "a stream that stopped weeks ago"])
def test_whole_dates_of_predictions_go_by_the_newest_and_what_has_no_rule_stays(past, days: float) -> None:
    rows = [
        {
            "group_key": A,
            "event_id": f"e{day}",
            "scored_at": hour(day * DAY),
            "scored_on": hour(day * DAY).date(),
            "batch_id": 1,
        }
        for day in range(5)
    ]
    past.put(tables.PREDICTIONS, "", *rows)
    health = [{"shard": 0, "group_key": A, "observed_on": hour(0).date(), "batch_id": 1}]
    past.put(tables.HEALTH, "score", *health)
    done = all_tidied(past, hour(days * DAY))
    assert done["predictions"].forgotten == 2
    stored = (
        delta.read_table(FleetStore.of(past.config), tables.PREDICTIONS, ["event_id"]).column("event_id").to_pylist()
    )
    assert sorted(stored) == ["e2", "e3", "e4"]
    assert delta.read_table(FleetStore.of(past.config), tables.HEALTH).num_rows == 1


def verdict(key: str, day: float, decision: str, batch_id: int) -> dict[str, object]:
    row = {"group_key": key, "round_id": f"r{batch_id}", "decision": decision, "reason": f"day {day:g}"}
    return {"shard": 0, **row, "judged_at": hour(day * DAY), "clock": hour(day * DAY), "batch_id": batch_id}


@pytest.fixture
def judged(configured) -> Past:
    """Verdicts are kept for three days. A: four of the stream and one of the batch; B: one of the stream."""
    made = Past(configured(("[storage]", '[retention]\nverdicts = "3d"\n[storage]')))
    of_a = [verdict(A, day, "fit" if day % 2 else "fresh", day) for day in (1, 2, 8, 9)]
    made.put(tables.VERDICTS, "stream", *of_a, verdict(B, 1, "fresh", 1))
    made.put(tables.VERDICTS, "batch", verdict(A, 3, "fit", 1), verdict(DEPT, 8, "fresh", 2))
    return made


def verdicts(past: Past) -> set[tuple[str, float]]:
    rows = delta.read_table(FleetStore.of(past.config), tables.VERDICTS, ["group_key", "judged_at"]).to_pylist()
    return {(row["group_key"], (row["judged_at"] - hour(0)) / timedelta(days=1)) for row in rows}


def test_old_verdicts_go_but_the_last_of_each_group_before_which_held_then(judged) -> None:
    now = hour(10 * DAY)
    judged.put(tables.EVENTS, "", *({"group_key": key, "event_id": "e", "ingested_at": hour(0)} for key in (A, B)))
    judged.round(1, {"{}": 1.0})
    moments = [now - timedelta(hours=back) for back in range(0, 3 * DAY, 5)]
    stood = [Fleet(judged.config).groups(at) for at in moments]
    done = all_tidied(judged, now)
    assert verdicts(judged) == {(A, 3), (A, 8), (A, 9), (B, 1), (DEPT, 8)}
    assert (done["verdicts/stream"].forgotten, done["verdicts/batch"].forgotten) == (2, 0)
    assert [Fleet(judged.config).groups(at) for at in moments] == stood
    assert all(each.forgotten == 0 for each in all_tidied(judged, now).values())


def test_the_newest_plan_of_each_directory_is_kept_however_old(judged) -> None:
    judged.put(tables.VERDICTS, "stream", verdict(B, 9, "fit", 9), verdict(A, 20, "fresh", 10))
    judged.put(tables.VERDICTS, "batch", verdict(B, 40, "fresh", 3))
    all_tidied(judged, hour(90 * DAY))
    assert verdicts(judged) == {(A, 20), (B, 40), (DEPT, 8)}
    judged.put(tables.VERDICTS, "stream", verdict(A, 41, "fit", 11), verdict(B, 41, "fit", 11))
    judged.put(tables.VERDICTS, "batch", verdict(A, 42, "fit", 4), verdict(B, 42, "fit", 4))
    all_tidied(judged, hour(90 * DAY))
    assert verdicts(judged) == {(A, 41), (B, 41), (A, 42), (B, 42), (DEPT, 8)}


def test_a_round_that_was_cut_off_finds_all_that_it_stored_and_one_that_is_not_the_newest_is_forgotten(
    configured,
) -> None:
    made = Past(configured(("[storage]", '[retention]\nmodels = "1d"\n[storage]')))

    def batch(number: int, at: float) -> None:
        """A: refused; B: fitted, and not decided about; DEPT: the champion needed no fit."""
        of_round = {"round_id": f"batch-{number}", "batch_id": number, "clock": hour(at), "fitted_at": hour(at)}
        fitted = [
            {**of_round, "group_key": key, "model_id": f"{key}{number}", "status": "fitted", "recipe_id": "by hand"}
            for key in (A, B)
        ]
        made.put(tables.MODELS, "batch", *fitted)
        decided = [{**fitted[0], "decision": "refused"}, {**fitted[0], "group_key": DEPT, "decision": "kept"}]
        made.put(tables.PROMOTIONS, "batch", *({**row, "epoch": 0, "decided_at": hour(at)} for row in decided))

    def stored() -> tuple[list[str], list[str]]:
        found = (
            delta.open_dataset(delta.open_table(place(made, "batch", base))).to_table(["round_id"])
            for base in (tables.MODELS, tables.PROMOTIONS)
        )
        models, promotions = (sorted(rows.column("round_id").to_pylist()) for rows in found)
        return models, promotions

    batch(1, 1)
    batch(2, 2)
    made.round(3, {A: 1.0, B: 2.0, DEPT: 3.0})  # the stream has tried them since
    all_tidied(made, hour(3 * DAY))
    assert stored() == (["batch-2"] * 2, ["batch-2"] * 2)
    batch(3, 3 * DAY)
    all_tidied(made, hour(3.5 * DAY))
    assert stored() == (["batch-3"] * 2, ["batch-3"] * 2)


def test_who_was_champion_before_decisions_were_forgotten_is_refused_and_later_it_is_known(past) -> None:
    """The row of A's model of day 4 is deleted; B's of the first day is kept, since it is still the champion."""
    store = FleetStore.of(past.config)
    all_tidied(past, hour(11 * DAY))
    left = delta.read_table(store, tables.PROMOTIONS, ["model_id"]).column("model_id").to_pylist()
    assert past.names[3][A] not in left
    assert past.names[0][B] in left
    for named in (hour(4 * DAY), "stream-96", hour(8 * DAY - 0.01)):
        with pytest.raises(StoreError, match=r"expected a moment from 2024-05-09T00:00:00\+00:00 on.*tidy"):
            resolve_as_of(store, named)
    for day in (8, 9, 10):
        at = resolve_as_of(store, hour(day * DAY))
        answering = Fleet(past.config).champions(as_of=at)
        names = {key: answering.champion_of(key).model_id for key in (A, B)}
        assert names == {A: past.names[day - 1][A], B: past.names[0][B]}


def test_without_decisions_about_champions_to_forget_every_time_is_known(configured) -> None:
    made = Past(configured(("[storage]", '[retention]\nmodels = "3d"\n[storage]')))
    made.round(DAY, {A: 1.0})
    refused = {"round_id": "stream-48", "batch_id": 48, "clock": hour(2 * DAY), "group_key": A, "model_id": "other"}
    made.put(tables.PROMOTIONS, "stream", {**refused, "epoch": 0, "decision": "refused", "decided_at": hour(2 * DAY)})
    made.round(20 * DAY, {B: 2.0})
    assert all_tidied(made, hour(21 * DAY))["promotions/stream"].forgotten == 1
    assert resolve_as_of(FleetStore.of(made.config), hour(3 * DAY)) == hour(3 * DAY)


def test_without_rules_nothing_is_forgotten(configured) -> None:
    made = Past(configured())
    made.round(1, {A: 1.0})
    for at in range(2, 9):
        made.round(at, {A: float(at)})
    made.put(tables.VERDICTS, "stream", verdict(A, 1, "fit", 1), verdict(A, 2, "fresh", 2), verdict(A, 3, "fit", 3))
    assert sum(each.forgotten for each in all_tidied(made, hour(5000 * DAY)).values()) == 0
    assert len(models(made)) == 8


def test_a_repeated_tidying_changes_nothing(past) -> None:
    all_tidied(past, hour(11 * DAY))
    versions = {each.name: delta.current_version(each) for each in FleetStore.of(past.config).every_directory()}
    assert all(each.is_tidy for each in all_tidied(past, hour(11 * DAY)).values())
    assert {each.name: delta.current_version(each) for each in FleetStore.of(past.config).every_directory()} == versions


def test_files_stay_for_a_week_after_they_were_put_together_and_for_readers_that_are_behind(past, monkeypatch) -> None:
    files = Path(place(past, "stream").uri)
    all_tidied(past, hour(11 * DAY))
    assert len(list(files.glob("*.parquet"))) > 10
    monkeypatch.setattr(maintenance, "KEPT_HOURS", 0)
    monkeypatch.setattr(DeltaTable, "vacuum", _without_enforcement(DeltaTable.vacuum))
    checkpoint(past, "retrain", at=hour(0), ended=False)
    late = maintenance.inspect_directory(
        FleetStore.of(past.config), past.config.retention, place(past, "stream"), hour(11 * DAY)
    )
    assert (late.behind, late.gone) == ("retrain", 0)
    checkpoint(past, "retrain", at=hour(11 * DAY), ended=True)
    assert (
        maintenance.inspect_directory(
            FleetStore.of(past.config), past.config.retention, place(past, "stream"), hour(11 * DAY)
        ).behind
        is None
    )
    maintenance.tidy_directory(FleetStore.of(past.config), past.config.retention, place(past, "stream"), hour(11 * DAY))
    assert len(list(files.glob("*.parquet"))) == 1


def test_files_stay_that_a_query_needs_which_is_catching_up_after_a_week(past) -> None:
    """The query reads a new batch after a stall; the files that its next batches need were replaced a week ago."""
    store, models = FleetStore.of(past.config), place(past, "stream")
    now = datetime.now(UTC) + timedelta(days=8)  # the rows were committed just now
    table = delta.open_existing(models)
    name, newest = str(table.metadata().id), int(table.version())

    def behind(version: int) -> str | None:
        offset = {"sourceVersion": 1, "reservoirId": name, "reservoirVersion": version, "index": -1}
        checkpoint(past, "retrain", at=now, ended=True, end=json.dumps({**offset, "isStartingVersion": False}))
        return maintenance.inspect_directory(store, past.config.retention, models, now).behind

    assert behind(newest) == "retrain"
    assert behind(newest + 1) is None
    assert maintenance.inspect_directory(store, past.config.retention, place(past, "batch"), now).behind is None


@pytest.mark.parametrize(("path", "query"), [("stream", "retrain"), ("batch", "weekly")])
def test_what_a_round_reads_that_was_cut_off_stays_until_it_has_ended(configured, monkeypatch, path, query) -> None:
    made, now = Past(configured()), hour(11 * DAY)
    for number in range(3):
        made.put(tables.EVENTS, "", {"group_key": A, "event_id": f"e{number}", "ingested_at": hour(0)})
    events = place(made, "", tables.EVENTS)
    pinned = delta.current_version(events)
    monkeypatch.setattr(maintenance, "KEPT_HOURS", 0)
    monkeypatch.setattr(DeltaTable, "vacuum", _without_enforcement(DeltaTable.vacuum))
    made.put(tables.ROUNDS, path, {"round_id": "r0", "kind": path, "started_at": hour(0), "batch_id": 0})
    made.put(tables.VERDICTS, path, verdict(A, 0, "fit", 0), verdict(A, 0.5, "fit", 1), verdict(B, 9, "fresh", 2))
    behind = {name: each.behind for name, each in all_tidied(made, now).items() if each.behind}
    promotions = {f"promotions/{part}": query for part in tables.PROMOTIONS.directories}
    assert behind == {"events": query, "outcomes": query} | promotions
    assert maintenance.tidy_directory(FleetStore.of(made.config), made.config.retention, events, now).gone == 0
    assert delta.open_dataset(DeltaTable(events.uri, version=pinned)).to_table().num_rows == 3
    assert (
        maintenance.inspect_directory(FleetStore.of(made.config), made.config.retention, events, hour(6 * DAY)).behind
        is None
    )  # what it needs has not been gone for a week
    made.put(tables.ROUNDS, path, {"round_id": "r1", "kind": path, "started_at": hour(12), "batch_id": 1})
    done = maintenance.tidy_directory(FleetStore.of(made.config), made.config.retention, events, now)
    assert (done.behind, done.gone) == (None, 3)


def test_what_a_crash_left_on_disk_goes_after_a_week_and_what_was_just_replaced_stays_however_old_it_is(past) -> None:
    files = Path(place(past, "stream").uri)
    left, young = files / "left.parquet", files / "young.parquet"
    for file in (left, young):
        file.write_bytes(b"half a file")
    long_ago = time.time() - 9 * 86_400
    for file in {*files.glob("*.parquet")} - {young}:
        os.utime(file, (long_ago, long_ago))
    maintenance.tidy_directory(FleetStore.of(past.config), past.config.retention, place(past, "stream"), hour(11 * DAY))
    assert (left.exists(), young.exists()) == (False, True)
    assert len(list(files.glob("part-*.parquet"))) == 10


def _without_enforcement(vacuum):
    """So that a test need not wait a week."""
    return lambda table, **words: vacuum(table, **words, enforce_retention_duration=False)


def checkpoint(past: Past, query: str, *, at, ended: bool, end: str = "-") -> None:
    folder = Path(past.config.storage.root) / "checkpoints" / query
    for log in ("offsets", "commits"):
        (folder / log).mkdir(parents=True, exist_ok=True)
    millis = int(at.timestamp() * 1000)
    began = json.dumps({"batchTimestampMs": millis, "batchWatermarkMs": 0})
    (folder / "offsets" / "0").write_text(f"v1\n{began}\n{end}\n")
    if ended:
        (folder / "commits" / "0").write_text("v1\n{}")


def test_where_nobody_holds_the_lease_a_request_is_served_here_and_elsewhere_not(past) -> None:
    request = maintenance.request_tidy(FleetStore.of(past.config))
    with leases.held(FleetStore.of(past.config), ["retrain"]):
        version = delta.current_version(place(past, "stream"))
        assert not maintenance.tidy_if_idle(FleetStore.of(past.config), past.config.retention, "retrain", request)
        assert delta.current_version(place(past, "stream")) == version
        assert maintenance.pending_request(FleetStore.of(past.config), "retrain") == request
    assert maintenance.tidy_if_idle(FleetStore.of(past.config), past.config.retention, "retrain", request)
    assert maintenance.pending_request(FleetStore.of(past.config), "retrain") is None
    assert maintenance.read_answer(FleetStore.of(past.config), "retrain").request == request


def test_a_running_process_tidies_only_while_its_query_writes_nothing(past) -> None:
    maintenance.request_tidy(FleetStore.of(past.config))
    writing = threading.Lock()
    with writing:
        thread = threading.Thread(target=serve_requests, args=(past.config, "retrain", writing, lambda: False))
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
        assert maintenance.read_answer(FleetStore.of(past.config), "retrain") is None
        assert (
            maintenance.inspect_directory(
                FleetStore.of(past.config), past.config.retention, place(past, "stream"), hour(0)
            ).files
            == 10
        )
    thread.join()
    assert maintenance.read_answer(FleetStore.of(past.config), "retrain").error is None
    assert (
        maintenance.inspect_directory(
            FleetStore.of(past.config), past.config.retention, place(past, "stream"), hour(0)
        ).files
        == 1
    )


def test_no_model_is_deleted_while_a_person_decides_and_the_caller_gets_an_error(past) -> None:
    maintenance.request_tidy(FleetStore.of(past.config))
    with leases.held(FleetStore.of(past.config), ["people"]):
        serve_requests(past.config, "retrain", threading.Lock(), lambda: False)
    assert "models/stream: query people" in maintenance.read_answer(FleetStore.of(past.config), "retrain").error
    assert len(models(past)) == 11


def test_a_tidier_that_is_stopped_ends_and_serves_what_was_asked_before(past) -> None:
    tidier = MaintenanceThread(past.config)
    tidier.add("retrain", threading.Lock())
    tidier.start()
    request = maintenance.request_tidy(FleetStore.of(past.config))
    try:
        wait_until(lambda: not maintenance.pending_request(FleetStore.of(past.config), "retrain"))
    finally:
        tidier.stop()
    assert maintenance.read_answer(FleetStore.of(past.config), "retrain").request == request
    assert os.listdir(Path(past.config.storage.root) / "tidy")


def test_decisions_that_no_one_can_go_back_to_go_too(past) -> None:
    all_tidied(past, hour(11 * DAY))
    rows = delta.read_table(FleetStore.of(past.config), tables.PROMOTIONS).to_pylist()
    assert {Promotion.from_row(row).model_id for row in rows} == models(past)
