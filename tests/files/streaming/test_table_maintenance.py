"""What the thread beside the queries does while nobody asks for anything."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import pytest
from handwritten_history import Past, fleet_toml, hour
from waiting import wait_until

from schemas import tables
from spinney.core.config import parse
from spinney.core.keys import encode, shard_of
from spinney.operations import clustering
from spinney.operations.clustering import UNGUARDED
from spinney.storage.layout import FleetStore
from spinney.tables import delta, table_files
from spinney.tables.clustered_files.merge_selection import MergeRule
from streaming import table_maintenance
from streaming.table_maintenance import Clusterer, MaintenanceThread


@pytest.fixture
def past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Past:
    monkeypatch.setattr(clustering, "GROWING", MergeRule(unsorted_files=3, unsorted_bytes=1024**3, tier=8))
    return Past(parse(fleet_toml(tmp_path / "root", kafka='outcomes = "late"'), "fleet.toml", {}))


def sell(past: Past, files: int) -> None:
    """So many files of two events each."""
    for at in range(files):
        keys = [encode([f"s{at + other}", "1"]) for other in (1, 0)]
        rows = [{"shard": shard_of(key, 64), "group_key": key, "event_id": f"e{at}"} for key in keys]
        past.put(tables.EVENTS, "", *({**row, "event_time": hour(at), "ingested_on": hour(0).date()} for row in rows))


def clustered(past: Past) -> list[bool]:
    table = delta.open_table(FleetStore.of(past.config).directory(tables.EVENTS))
    return sorted(each.is_clustered for each in table_files.list_files(table))


def test_a_running_ingest_clusters_its_events_unasked_and_holds_the_query_s_lock_for_commits_only(
    past, monkeypatch
) -> None:
    monkeypatch.setattr(table_maintenance, "REQUEST_CHECK_INTERVAL_S", 0.01)
    monkeypatch.setattr(table_maintenance, "CLUSTER_CHECK_INTERVAL_S", 0.02)
    sell(past, 3)
    maintenance, write_lock = MaintenanceThread(past.config), threading.Lock()
    maintenance.add("ingest", write_lock)
    maintenance.add("score", threading.Lock())
    with write_lock:
        maintenance.start()
        time.sleep(0.5)
        while_locked = clustered(past)
    try:
        wait_until(lambda: clustered(past) == [True])
    finally:
        maintenance.stop()
    assert while_locked == [False] * 3
    assert clustered(past) == [True]
    assert not write_lock.locked()


def test_a_look_changes_nothing_while_too_few_files_are_new_and_goes_on_when_there_are_more(past) -> None:
    clusterer = Clusterer(FleetStore.of(past.config).directory(tables.EVENTS), UNGUARDED)
    sell(past, 2)
    clusterer.cluster_if_due()
    clusterer.cluster_if_due()
    assert clustered(past) == [False, False]
    sell(past, 1)
    clusterer.cluster_if_due()
    assert clustered(past) == [True]
    version = delta.current_version(FleetStore.of(past.config).directory(tables.EVENTS))
    clusterer.cluster_if_due()
    assert delta.current_version(FleetStore.of(past.config).directory(tables.EVENTS)) == version


def test_looks_that_fail_are_logged_and_tried_again_ever_more_rarely_until_one_succeeds(
    past, monkeypatch, caplog
) -> None:
    clusterer = Clusterer(FleetStore.of(past.config).directory(tables.EVENTS), UNGUARDED)
    sell(past, 3)
    whole = clustering.rewrite
    looks: list[int] = []
    tried: list[int] = []

    def full(*_: object) -> None:
        tried.append(looks[-1])
        raise OSError("no space left on device")

    monkeypatch.setattr(clustering, "rewrite", full)
    with caplog.at_level(logging.WARNING):
        for look in range(400):
            looks.append(look)
            clusterer.cluster_if_due()
    # 1, 3, 7, 15, 31 and 63 looks are left out, then always 127.
    assert tried == [0, 2, 6, 14, 30, 62, 126, 254, 382]
    assert caplog.text.count("clustering events: no space left on device") == len(tried)
    assert clustered(past) == [False] * 3
    monkeypatch.setattr(clustering, "rewrite", whole)
    for _ in range(128):
        clusterer.cluster_if_due()
    assert clustered(past) == [True]
    monkeypatch.setattr(clustering, "rewrite", full)
    tried.clear()
    sell(past, 3)
    for look in range(3):
        looks.append(look)
        clusterer.cluster_if_due()
    assert tried == [0, 2], "a success forgets the failures before it"


def test_requests_that_cannot_be_looked_for_are_not_looked_for_at_every_poll(past, monkeypatch, caplog) -> None:
    monkeypatch.setattr(table_maintenance, "REQUEST_CHECK_INTERVAL_S", 0.001)
    polls: list[str] = []
    maintenance = MaintenanceThread(past.config)

    class Stopping:
        """Asks for a stop after 400 polls."""

        def wait(self, seconds: float) -> bool:
            polls.append("poll")
            return len(polls) > 400

        def is_set(self) -> bool:
            return False

    def broken(*_: object) -> None:
        raise OSError("the folder is gone")

    monkeypatch.setattr(table_maintenance, "serve_requests", broken)
    monkeypatch.setattr(maintenance, "_stop_requested", Stopping())
    maintenance.add("score", threading.Lock())
    with caplog.at_level(logging.WARNING):
        maintenance._serve_until_stopped()
    assert caplog.text.count("tidying what query score writes: the folder is gone") == 9
