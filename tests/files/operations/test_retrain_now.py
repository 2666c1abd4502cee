"""An order to retrain a group is written once, or refused with a reason that a person understands."""

from __future__ import annotations

import json
import logging
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from handwritten_history import Past, hour

from schemas import tables
from schemas.vocabulary import RoundKind
from spinney.core.errors import Busy, Corrupt, GroupError, StoreError, UnknownGroup
from spinney.fleet import Fleet
from spinney.operations.interventions import Attribution, OverrideRequest, OverrideVerb, carry_out_override
from spinney.operations.retrain_now import check_request, request_retrain
from spinney.storage import leases, retrain_requests
from spinney.storage.layout import FleetStore
from spinney.storage.retrain_requests import RetrainRequest, add_request, read_requests, remove_requests

A, B, NEW, DEPT = '["a","1"]', '["b","1"]', '["c","1"]', '{"dept":"1"}'
ADA = Attribution("ada", "overshoots since noon")


@pytest.fixture
def past(configured) -> Past:
    """A has two models, B one; NEW has an event and no model."""
    made = Past(configured())
    made.round(1, {A: 1.0, B: 2.0})
    made.round(2, {A: 3.0})
    made.put(tables.EVENTS, "", {"group_key": NEW, "event_id": "e", "event_time": hour(1), "topic": "sales"})
    return made


@pytest.fixture
def store(past: Past) -> FleetStore:
    return FleetStore.of(past.config)


def test_an_order_is_written_under_the_persons_name_and_shown_until_it_is_carried_out(past, store) -> None:
    assert check_request(store, A).request is None
    assert read_requests(store) == ()
    order = request_retrain(store, A, ADA)
    assert (order.request.by, order.request.reason, order.waiting) == ("ada", "overshoots since noon", 1)
    assert Fleet(past.config).why(A).request == order.request
    assert "retraining requested: by ada: overshoots since noon; not carried out yet" in str(Fleet(past.config).why(A))
    remove_requests(store, ["another", order.request.id])
    assert Fleet(past.config).why(A).request is None


@pytest.mark.parametrize("key", [NEW, DEPT, "{}"])
def test_a_group_without_a_model_and_a_parent_may_be_asked_for(store, key: str) -> None:
    assert request_retrain(store, key, ADA).request.group_key == key


def test_the_caller_learns_whether_a_stream_runs(store) -> None:
    assert not check_request(store, A).is_stream_running
    with leases.held(store, ["retrain"]):
        assert check_request(store, A).is_stream_running
    assert not check_request(store, A).is_stream_running


def test_a_second_order_names_the_first(store) -> None:
    request_retrain(store, A, ADA)
    with pytest.raises(GroupError, match=r'group \["a","1"\]: ada asked for it at .* UTC \(overshoots since noon\)'):
        request_retrain(store, A, Attribution("bob", "me too"))
    assert len(read_requests(store)) == 1


def test_an_unknown_group_is_refused_with_the_nearest_keys(store) -> None:
    with pytest.raises(UnknownGroup, match=r'nothing was ever stored of it; the nearest are \["c","1"\]'):
        request_retrain(store, '["x","1"]', ADA)
    with pytest.raises(UnknownGroup, match="nothing was ever stored of it"):
        request_retrain(store, '{"shop":"a"}', ADA)


def test_a_pinned_group_is_refused(past, store) -> None:
    carry_out_override(
        FleetStore.of(past.config), past.signer, OverrideRequest(OverrideVerb.PIN, (A,)), ADA, now=hour(4)
    )
    with pytest.raises(GroupError, match="it is pinned, so that no new model may replace its own; unpin it first"):
        request_retrain(store, A, ADA)


def test_a_group_in_a_plan_is_refused_until_its_round_is_recorded(past, store) -> None:
    past.plan(RoundKind.STREAM, 9, [A], hour(5))
    with pytest.raises(GroupError, match="round stream-9 is retraining it; ask again once that round is recorded"):
        check_request(store, A)
    past.put(tables.ROUNDS, "stream", {"round_id": "stream-9", "kind": "stream", "started_at": hour(5)})
    assert check_request(store, A).request is None


def test_a_group_in_a_plan_that_was_given_up_may_be_asked_for_once_another_plan_is_stored(past, store) -> None:
    past.plan(RoundKind.STREAM, 9, [A], hour(5))
    past.plan(RoundKind.STREAM, 10, [B], hour(6))  # its batch would not have begun before that of 9 ended
    assert request_retrain(store, A, ADA).request.group_key == A
    with pytest.raises(GroupError, match="round stream-10 is retraining it"):
        check_request(store, B)
    past.plan(RoundKind.STREAM, 11, [], hour(7))  # a plan without groups is the newest too
    assert request_retrain(store, B, ADA).request.group_key == B


def test_a_group_in_the_plan_of_a_batch_may_be_asked_for(past, store) -> None:
    past.plan(RoundKind.BATCH, 9, [A], hour(5))
    assert check_request(store, A).request is None


def test_no_more_requests_wait_than_allowed(store, monkeypatch) -> None:
    monkeypatch.setattr(retrain_requests, "MAX_WAITING", 1)
    request_retrain(store, A, ADA)
    with pytest.raises(Busy, match="expected fewer than 1; got 1"):
        request_retrain(store, B, ADA)


@pytest.mark.parametrize("content", ["{", "[]", '{"id": "a"}', '{"group_key": "nobody"}'])
def test_a_file_that_is_no_request_is_logged_and_keeps_no_other_waiting(store, content: str, caplog) -> None:
    requests = [RetrainRequest.new(key, "ada", "why", hour(4) + timedelta(minutes=n)) for n, key in enumerate((A, B))]
    for request in requests:
        add_request(store, request)
    (store.folder / retrain_requests.FOLDER / "0.json").write_text(content)
    with caplog.at_level(logging.WARNING):
        assert read_requests(store) == tuple(requests)
    assert "0.json: expected a request to retrain a group of this fleet; got" in caplog.text


def _written(store: FleetStore, key: str) -> tuple[RetrainRequest, Path]:
    """A request of ada for a group, and its file."""
    before = set((store.folder / retrain_requests.FOLDER).glob("*.json"))
    request = add_request(store, RetrainRequest.new(key, "ada", "why", hour(4)))
    (file,) = set((store.folder / retrain_requests.FOLDER).glob("*.json")) - before
    return request, file


def test_a_copy_of_a_requests_file_is_reported_once_and_asks_for_nothing(store, caplog) -> None:
    request, file = _written(store, A)
    copy = file.with_name("copy of a.json")
    copy.write_bytes(file.read_bytes())
    with caplog.at_level(logging.WARNING):
        assert read_requests(store) == read_requests(store) == (request,)
    (line,) = caplog.messages
    assert "copy of a.json: expected a request to retrain a group of this fleet; got" in line
    assert line.endswith(f"{A}, whose file is {file.name}. Delete the file, and ask again")
    remove_requests(store, [request.id])
    assert read_requests(store) == ()
    assert copy.exists(), "only a person deletes what is no request"


def test_a_file_that_holds_the_request_of_another_group_is_neither_groups_request(store) -> None:
    _, of_a = _written(store, A)
    _, of_b = _written(store, B)
    of_b.replace(of_a)
    assert read_requests(store) == ()
    with pytest.raises(Corrupt, match="whose file is"):
        request_retrain(store, A, ADA)
    assert request_retrain(store, B, ADA).waiting == 1


@pytest.mark.parametrize(
    ("field", "value", "got"),
    [
        ("requested_at", "2024-05-01T04:00:00", "requested_at 2024-05-01T04:00:00 without an offset from UTC"),
        ("by", 7, "by 7, not a text"),
        ("reason", None, "reason None, not a text"),
        ("id", ["r"], r"id \['r'\], not a text"),
        ("reason", "\ud800", "UnicodeEncodeError"),
    ],
)
def test_a_request_with_a_time_or_a_text_that_it_cannot_have_keeps_no_other_waiting(
    store, caplog, field: str, value: Any, got: str
) -> None:
    waiting, _ = _written(store, A)
    _, file = _written(store, B)
    file.write_text(json.dumps({**json.loads(file.read_text()), field: value}))
    with caplog.at_level(logging.WARNING):
        assert read_requests(store) == (waiting,)
    assert re.search(rf"{file.name}: expected a request .*{got}", caplog.text)


def test_a_request_that_cannot_be_written_is_an_error_that_names_the_file(store) -> None:
    (store.folder / retrain_requests.FOLDER).write_text("")  # fails as a folder without permission does, root's too
    with pytest.raises(StoreError, match=r"\.json: expected a folder that this process may write to; got .*Error"):
        add_request(store, RetrainRequest.new(A, "ada", "why", hour(4)))


def test_a_request_that_cannot_be_opened_keeps_no_other_waiting(store, monkeypatch, caplog) -> None:
    waiting, _ = _written(store, A)
    _, file = _written(store, B)
    file.with_name("folder.json").mkdir()
    read = Path.read_text

    def refuse(self: Path, **options: Any) -> str:  # as of another user's file; root may read all
        if self == file:
            raise PermissionError(13, "Permission denied", str(self))
        return read(self, **options)

    monkeypatch.setattr(Path, "read_text", refuse)
    with caplog.at_level(logging.WARNING):
        assert read_requests(store) == (waiting,)
    assert sorted(re.findall(r"got (\w+):", caplog.text)) == ["IsADirectoryError", "PermissionError"]
