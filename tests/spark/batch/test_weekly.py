"""The weekly batch: every group and parent once, the same work never twice."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from batch import group_selection, weekly
from batch.cost_prediction import Estimate
from schemas import tables
from spinney import tracking
from spinney.core.champions.champion_selection import select_champion
from spinney.core.champions.promotion import Promotion
from spinney.core.errors import Busy, StoreError
from spinney.serving.model_cache import ModelCache
from spinney.storage import leases, signing_key
from spinney.storage.layout import FleetStore
from spinney.storage.step_observer import observed_by

START = datetime(2024, 5, 1, tzinfo=UTC)
A, B, THIN, DEPT, ALL = '["a","1"]', '["b","1"]', '["thin","1"]', '{"dept":"1"}', "{}"


class Crash(Exception):  # noqa: N818 - said as what is so
    """The process ends here."""


@pytest.fixture
def fleet(world, monkeypatch):
    monkeypatch.setenv(signing_key.KEY, "k" * 32)
    made = world(("[storage]", '[tracking]\nmode = "off"\n[storage]'))
    for shop, count in (("a", 25), ("b", 20), ("thin", 3)):
        made.sell(shop, 1, count)
    return made


def counts(row) -> dict[str, int]:
    names = ("groups_in", "fitted", "failed", "too_few_rows", "kept", "deferred", "held")
    return {name: row[name] for name in names if row[name]}


def decided(fleet, batch_id: int) -> dict[str, str]:
    rows = fleet.rows(tables.PROMOTIONS)
    return {row["group_key"]: row["decision"] for row in rows if row["batch_id"] == batch_id and row["by"] == "batch"}


def test_every_group_and_parent_is_retrained_and_the_same_rows_are_kept(spark, fleet) -> None:
    first = weekly.retrain(fleet.config, spark=spark)
    assert first["round_id"] == "batch-0"
    assert first["reasons"] == {"all": 5}
    assert first["clock"] == START + timedelta(hours=24)  # the newest event
    assert counts(first) == {"groups_in": 5, "fitted": 4, "too_few_rows": 1}
    assert decided(fleet, 0).keys() == {A, B, DEPT, ALL}
    second = weekly.retrain(fleet.config, spark=spark)
    assert counts(second) == {"groups_in": 5, "too_few_rows": 1, "kept": 4}
    assert decided(fleet, 1) == dict.fromkeys((A, B, DEPT, ALL), "kept")
    (mine,) = [row for row in fleet.rows(tables.PROMOTIONS) if row["group_key"] == B and row["batch_id"] == 0]
    pin = {name: mine[name] for name in ("group_key", "shard", "model_id", "batch_id")} | {
        "decision": "pinned",
        "epoch": 3,
    }
    fleet.put(tables.PROMOTIONS, [{**pin, "decided_at": START, "clock": START}], "people")
    fleet.sell("b", 1, 10, since=START + timedelta(hours=30))
    third = weekly.retrain(fleet.config, ['["b", 1]', DEPT], spark=spark)
    assert third["reasons"] == {"asked": 2}
    assert counts(third) == {"groups_in": 2, "fitted": 2, "held": 1}
    (held,) = [row for row in fleet.rows(tables.PROMOTIONS) if row["decision"] == "held"]
    assert (held["group_key"], held["epoch"], held["by"]) == (B, 3, "batch")


def test_a_group_that_was_never_seen_is_refused_before_anything_is_planned(spark, fleet) -> None:
    with pytest.raises(StoreError, match=r'group \["x","1"\]: no event of it was ever stored; expected a key like'):
        weekly.retrain(fleet.config, [A, '["x","1"]'], spark=spark)
    assert fleet.rows(tables.VERDICTS) == []


def test_a_batch_that_was_cut_off_is_ended_by_the_next_one(spark, fleet, monkeypatch) -> None:
    def crash(name: str, batch_id: int) -> None:
        if name == "weekly.fit":
            raise Crash

    with observed_by(crash), pytest.raises(Crash):
        weekly.retrain(fleet.config, [A, B], spark=spark)
    assert fleet.rows(tables.ROUNDS) == []
    last = weekly.retrain(fleet.config, [A], spark=spark)
    rounds = {row["round_id"]: counts(row) for row in fleet.rows(tables.ROUNDS)}
    assert rounds == {"batch-0": {"groups_in": 2, "fitted": 2}, "batch-1": {"groups_in": 1, "kept": 1}}
    assert last["round_id"] == "batch-1"


def test_a_fleet_without_events_and_a_batch_that_runs_are_reported(spark, world, fleet, monkeypatch) -> None:
    with leases.held(FleetStore.of(fleet.config), ["weekly"]), pytest.raises(Busy, match="query weekly"):
        weekly.retrain(fleet.config, spark=spark)
    monkeypatch.setattr(group_selection, "read_fleet_clock", lambda *_: None)
    with pytest.raises(StoreError, match=r"fleet shops: no events in .*; load or ingest some first"):
        weekly.retrain(fleet.config, spark=spark)


def test_a_lost_key_is_repaired_by_fitting_the_same_rows_again(spark, fleet, monkeypatch) -> None:
    weekly.retrain(fleet.config, spark=spark)
    (before,) = [row for row in fleet.rows(tables.PROMOTIONS) if row["group_key"] == A]
    monkeypatch.setenv(signing_key.KEY, "n" * 32)
    assert counts(weekly.retrain(fleet.config, spark=spark)) == {"groups_in": 5, "fitted": 4, "too_few_rows": 1}
    rows = [row for row in fleet.rows(tables.PROMOTIONS) if row["group_key"] == A]
    newest = Promotion.from_row(max(rows, key=lambda row: row["batch_id"]))
    assert newest.model_id == before["model_id"]
    assert newest.payload == before["payload"]
    assert select_champion([Promotion.from_row(row) for row in rows]) == newest
    _, refused = ModelCache().load(
        {newest.model_id: (A, newest)}, fleet.config, signing_key.load_signer(FleetStore.of(fleet.config))
    )
    assert refused == set()
    assert counts(weekly.retrain(fleet.config, spark=spark)) == {"groups_in": 5, "too_few_rows": 1, "kept": 4}


@pytest.mark.parametrize("is_up", [True, False])
def test_a_round_is_delivered_at_its_end_and_stands_without_that(spark, fleet, monkeypatch, caplog, is_up) -> None:
    delivered = []

    def deliver(*_, **__) -> None:
        delivered.append(fleet.rows(tables.ROUNDS)[0]["round_id"])
        if not is_up:
            raise ConnectionError("nobody answers")

    monkeypatch.setattr(tracking, "deliver", deliver)
    mode = fleet.config.tracking.model_copy(update={"mode": "round"})
    config = fleet.config.model_copy(update={"tracking": mode})
    assert weekly.retrain(config, [A], spark=spark)["round_id"] == "batch-0"
    assert delivered == ["batch-0"]
    output = [record.getMessage() for record in caplog.records if record.name == tracking.log.name]
    assert len(output) == (0 if is_up else 1)


def test_the_command_line_says_what_went_wrong_and_ends_with_its_number(fleet, tmp_path, capsys, monkeypatch) -> None:
    file = tmp_path / "fleet.toml"
    assert weekly.main(["--config", str(file)]) == 2
    assert "no such file" in capsys.readouterr().err
    file.write_text(fleet.config.text)
    monkeypatch.setattr(weekly, "retrain", lambda config, groups, **message: {"groups": groups, "at": START, **message})
    ends = {"seconds_low": 1.0, "seconds_high": 2.0, "memory_low_bytes": 7, "memory_high_bytes": 9}
    found = Estimate(7, 1.5, 1, 8, 9, 5, 1, **ends)
    monkeypatch.setattr(weekly, "estimate", lambda config, groups, *, stale: replace(found, failed=int(stale)))
    assert weekly.main(["--config", str(file), "--group", A, "--group", B]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["groups"], report["at"], report["stale"]) == ([A, B], str(START), False)
    assert weekly.main(["--config", str(file), "--stale", "--dry-run"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["groups"], report["seconds"], report["seconds_high"], report["failed"]) == (7, 1.5, 2.0, 1)

    def busy(*_, **__):
        raise Busy("another process runs it")

    monkeypatch.setattr(weekly, "retrain", busy)
    assert weekly.main(["--config", str(file)]) == 1
    assert capsys.readouterr().err == "spinney: another process runs it\n"
