from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from handwritten_history import Past, fleet_toml, hour
from waiting import wait_until

from schemas import tables
from spinney.core.config import parse
from spinney.core.errors import StoreError
from spinney.fleet import Fleet
from spinney.gateway.page import page_data_refresh
from spinney.gateway.page.page_data_refresh import PageDataRefresh, make_document
from spinney.storage.layout import FleetStore
from spinney.storage.retrain_requests import RetrainRequest, add_request, remove_requests

A = '["a","1"]'


@pytest.fixture
def past(tmp_path: Path) -> Past:
    past = Past(parse(fleet_toml(tmp_path), "fleet.toml", {}))
    past.put(tables.EVENTS, "", {"group_key": A, "event_id": "e", "event_time": hour(1), "topic": "sales"})
    past.round(1, {A: 1})
    return past


class Counting(Fleet):
    """Counts how often the whole fleet is read."""

    readings = 0

    def table(self, as_of: Any = None) -> Any:
        self.readings += 1
        return super().table(as_of)


def test_the_fleet_is_read_again_only_when_a_table_has_changed(past: Past) -> None:
    fleet = Counting(past.config)
    live = PageDataRefresh(fleet)
    live.read_changes()
    first = live.latest()
    live.read_changes()
    assert first is not None
    assert live.latest() is not None
    assert (fleet.readings, live.latest().fleet, live.latest().search) == (1, first.fleet, first.search)
    past.round(3, {A: 2})
    live.read_changes()
    assert fleet.readings == 2
    assert live.latest().fleet.etag != first.fleet.etag


def test_a_reading_that_fails_leaves_the_one_before_and_is_tried_again(past: Past, monkeypatch) -> None:
    live = PageDataRefresh(Fleet(past.config))
    live.read_changes()
    before = live.latest()
    past.round(3, {A: 2})
    with monkeypatch.context() as broken:
        broken.setattr(Fleet, "figures", lambda *_: (_ for _ in ()).throw(StoreError("a table: unreadable")))
        with pytest.raises(StoreError, match="unreadable"):
            live.read_changes()
    assert live.latest() is before
    live.read_changes()
    assert live.latest() is not before


def test_a_group_is_kept_until_a_table_changes_or_an_override_is_written(past: Past) -> None:
    live = PageDataRefresh(Fleet(past.config))
    live.read_changes()
    kept = live.group(A)
    assert live.group(A) is kept
    live.refresh_soon()
    again = live.group(A)
    assert (again is kept, again == kept) == (False, True)
    past.round(3, {A: 2})
    assert live.group(A) is again
    live.read_changes()
    assert live.group(A).etag != again.etag


def test_a_group_is_read_again_when_any_process_has_asked_for_it_or_carried_that_out(past: Past) -> None:
    store = FleetStore.of(past.config)
    live = PageDataRefresh(Fleet(past.config))
    live.read_changes()
    before = live.group(A)
    request = add_request(store, RetrainRequest.new(A, "ada", "overshoots", hour(4)))
    waiting = live.group(A)
    assert b"overshoots" in waiting.body
    assert live.group(A) is waiting
    remove_requests(store, [request.id])
    assert live.group(A).etag == before.etag


def test_the_time_of_a_document_does_not_change_its_etag() -> None:
    one, other, third = (make_document({"at": at, "n": n}) for at, n in ((1, 5), (2, 5), (2, 6)))
    assert one.etag == other.etag != third.etag
    assert one.body != other.body


def test_nothing_is_read_before_anybody_asks(past: Past) -> None:
    fleet = Counting(past.config)
    live = PageDataRefresh(fleet, pause_s=0.01)
    live.start()
    try:
        wait_until(lambda: live._is_asleep)
        time.sleep(0.1)
        assert fleet.readings == 0
        wait_until(lambda: live.latest() is not None)
    finally:
        live.stop()


def test_nothing_is_read_while_nobody_looks_and_a_request_wakes_the_reader(past: Past) -> None:
    fleet = Counting(past.config)
    live = PageDataRefresh(fleet, pause_s=0.01)
    live.start()
    try:
        wait_until(lambda: live.latest() is not None)
        live._watched_s = 0.0
        wait_until(lambda: live._is_asleep)
        past.round(3, {A: 2})
        time.sleep(0.1)
        assert fleet.readings == 1
        live._watched_s = 60.0
        first = live.latest()
        assert first is not None
        wait_until(lambda: live.latest().fleet.etag != first.fleet.etag)
    finally:
        live.stop()
    assert not live._thread.is_alive()


def test_what_a_reading_has_freed_is_given_back_and_nothing_when_nothing_was_read(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    releases = Mock()
    monkeypatch.setattr(page_data_refresh, "release_free_memory", releases)
    live = PageDataRefresh(Fleet(past.config))
    live.read_changes()
    assert releases.call_count == 2, "after the statuses and after the figures"
    live.read_changes()
    assert releases.call_count == 2
    past.round(5, {A: 5})
    live.read_changes()
    assert releases.call_count == 4
