"""The page's routes in a real server, against `Fleet` on the same tables."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from handwritten_history import Past, fleet_toml, hour
from waiting import wait_until

from schemas import tables
from spinney.core.config import parse
from spinney.core.json_conversion import json_value
from spinney.fleet import Fleet
from spinney.gateway.limits.work_queue import WorkQueue
from spinney.gateway.page.page_data_refresh import PageDataRefresh
from spinney.gateway.page.routes import Access, page_router
from spinney.storage.layout import FleetStore

A, B, C = '["a","1"]', '["b","1"]', '["<img src=x>","2"]'


def reader(request: Request) -> str:
    if "X-Key" not in request.headers:
        raise HTTPException(401)
    return request.headers["X-Key"]


def operator(request: Request) -> str:
    if reader(request) != "ada":
        raise HTTPException(403)
    return "ada"


class Client:
    """Calls the page's routes as one person."""

    def __init__(self, url: str, person: str | None) -> None:
        self.url, self.headers = url, {"X-Key": person} if person else {}

    def get(self, path: str, **more: Any) -> requests.Response:
        headers = self.headers | more.pop("headers", {})
        return requests.get(f"{self.url}/page/{path}", headers=headers, timeout=30, **more)

    def order(self, **order: Any) -> requests.Response:
        return requests.post(f"{self.url}/page/overrides", json=order, headers=self.headers, timeout=30)


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Past:
    root = tmp_path_factory.mktemp("fleet")
    config = parse(fleet_toml(root), "fleet.toml", {})
    past = Past(config)
    (Path(config.storage.root) / "signing.key").write_bytes(b"k" * 32)
    events = ({"group_key": key, "event_id": "e", "event_time": hour(9), "topic": "sales"} for key in (A, B, C))
    past.put(tables.EVENTS, "", *events)
    past.round(1, {A: 1, B: 2})
    past.round(3, {A: 3})
    letter = {"topic": "sales", "kafka_partition": 0, "kafka_offset": 1, "reason": "not_json", "ingested_at": hour(1)}
    past.put(tables.DEAD_LETTERS, "", {**letter, "value": b"\xff<script>", "detail": "expected JSON", "batch_id": 1})
    return past


@pytest.fixture(scope="module")
def live(past: Past) -> Iterator[PageDataRefresh]:
    live = PageDataRefresh(Fleet(past.config), pause_s=0.05)
    live.start()
    yield live
    live.stop()


@pytest.fixture(scope="module")
def url(live: PageDataRefresh) -> Iterator[str]:
    app = FastAPI()
    app.include_router(page_router(live, Access(reader, operator), WorkQueue(4, 4, 30.0)))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started and live.latest() is not None)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def ada(url: str) -> Client:
    return Client(url, "ada")


def test_the_figures_are_those_of_fleet(ada: Client, past: Past) -> None:
    fleet = Fleet(past.config)
    sent, own = ada.get("fleet.json").json(), json_value(fleet.figures())
    for name in ("summary", "queue", "error", "decisions", "latest_decisions", "clock"):
        assert sent[name] == own[name]
    sent, own = ada.get("pipeline.json").json(), json_value(fleet.pipeline())
    assert {**sent, "at": 0} == {**own, "at": 0}


def test_search_finds_groups_with_the_status_that_fleet_gives_them(ada: Client, past: Past) -> None:
    sent = ada.get("groups.json", params={"q": "1", "limit": 1, "offset": 1}).json()
    (status,) = [each for each in Fleet(past.config).groups() if each.group_key == B]
    assert sent == {"found": 2, "groups": [json_value(status)]}
    assert ada.get("groups.json", params={"state": "none"}).json()["found"] == 1


def test_a_group_has_its_history_and_figures(ada: Client, past: Past) -> None:
    fleet = Fleet(past.config)
    sent = ada.get("group.json", params={"key": A}).json()
    assert sent == {"history": json_value(fleet.why(A)), "figures": json_value(fleet.group_figures(A))}
    for key in ('["nobody","9"]', '["\\ud800","1"]', "nobody"):
        unknown = ada.get("group.json", params={"key": key})
        assert unknown.status_code == 404
        assert unknown.json()["error"]["message"] == "no such group; search finds groups by parts of their keys"


def test_dead_letters_of_a_reason_are_shown_with_bytes_that_are_no_text_escaped(ada: Client) -> None:
    (letter,) = ada.get("dead-letters.json", params={"reason": "not_json"}).json()["letters"]
    assert (letter["value"], letter["detail"]) == ("\\xff<script>", "expected JSON")
    assert ada.get("dead-letters.json", params={"reason": "not_a_reason"}).status_code == 422


@pytest.mark.parametrize("path", ["fleet.json", "pipeline.json", "groups.json?q=a", "static/page.js", ""])
def test_what_the_client_has_is_not_sent_again(ada: Client, path: str) -> None:
    first = ada.get(path)
    again = ada.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")


def test_a_tag_that_a_proxy_has_made_weak_or_listed_is_still_known(ada: Client) -> None:
    tag = ada.get("static/page.js").headers["ETag"]
    for sent, status in ((f"W/{tag}", 304), (f'"other", {tag}', 304), ("*", 304), ('"other"', 200), ("", 200)):
        assert ada.get("static/page.js", headers={"If-None-Match": sent}).status_code == status


def test_the_page_is_found_without_its_slash_whatever_a_proxy_calls_this_server(url: str) -> None:
    answer = requests.get(f"{url}/page", headers={"Host": "inner:1"}, allow_redirects=False, timeout=30)
    assert (answer.status_code, answer.headers["Location"]) == (307, "page/")


def test_figures_need_a_key_and_the_files_of_the_page_do_not(url: str) -> None:
    nobody = Client(url, None)
    for path in (
        "fleet.json",
        "pipeline.json",
        "groups.json",
        f"group.json?key={A}",
        "dead-letters.json?reason=not_json",
    ):
        assert nobody.get(path).status_code == 401
    page = nobody.get("")
    assert page.status_code == 200
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert nobody.get("static/../routes.py").status_code == 404
    assert requests.get(url, timeout=30).url == f"{url}/page/"


def test_the_page_has_no_inline_script_or_style_and_nothing_from_elsewhere(url: str) -> None:
    text = Client(url, None).get("").text
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|https?://", text)


def test_an_override_shows_what_it_would_change_and_is_written_under_the_callers_name(
    ada: Client, past: Past, live: PageDataRefresh
) -> None:
    before = live.latest()
    proposed = ada.order(verb="rollback", group_key=A).json()
    (step,) = proposed["steps"]
    assert (proposed["written"], step["before"], past.decided()) == (False, past.answers()[A], [])
    order = {"verb": "rollback", "group_key": A, "reason": "overshoots", "seen": proposed["version"]}
    other = ada.order(**order, becomes=proposed["steps"][0]["before"])  # as if it was shown before a promotion
    assert (other.status_code, other.json()["error"]["code"]) == (409, "changed")
    written = ada.order(**order, becomes=proposed["steps"][0]["after"]).json()
    assert written["written"]
    assert past.answers()[A] == step["after"]
    assert {(row["by"], row["reason"]) for row in past.decided()} == {("ada", "rolled back: overshoots")}
    stale = ada.order(verb="pin", group_key=A, reason="again", seen=proposed["version"])
    assert stale.status_code == 409
    wait_until(lambda: live.latest() is not before and live.latest().fleet != before.fleet)
    (latest, *_) = ada.get("fleet.json").json()["latest_decisions"]
    assert latest["by"] == "ada"


def test_who_may_only_read_orders_nothing(url: str, past: Past) -> None:
    assert Client(url, "bob").order(verb="pin", group_key=B, reason="mine", seen=0).status_code == 403
    assert Client(url, None).order(verb="pin", group_key=B, reason="mine", seen=0).status_code == 401
    assert B not in {row["group_key"] for row in past.decided()}


def test_retraining_is_asked_for_once_under_the_callers_name(ada: Client, url: str, past: Past) -> None:
    path, order = f"{url}/page/retrain-requests", {"group_key": C}
    reader_only = requests.post(path, json={**order, "reason": "why"}, headers={"X-Key": "bob"}, timeout=30)
    assert reader_only.status_code == 403
    shown = requests.post(path, json=order, headers=ada.headers, timeout=30).json()
    assert shown == {"group_key": C, "request": None, "is_stream_running": False, "waiting": 0}
    assert Fleet(past.config).why(C).request is None
    written = requests.post(path, json={**order, "reason": " overshoots "}, headers=ada.headers, timeout=30).json()
    assert (written["request"]["by"], written["request"]["reason"], written["waiting"]) == ("ada", "overshoots", 1)
    assert ada.get("group.json", params={"key": C}).json()["history"]["request"] == written["request"]
    again = requests.post(path, json=order, headers=ada.headers, timeout=30)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "not_possible")
    assert "ada asked for it" in again.json()["error"]["message"]
    unknown = requests.post(path, json={"group_key": '["x","9"]'}, headers=ada.headers, timeout=30)
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown_group")
    assert requests.post(path, json={**order, "reason": " "}, headers=ada.headers, timeout=30).status_code == 422


def test_an_order_to_retrain_that_cannot_be_written_is_not_called_an_unknown_group(ada: Client, url, past) -> None:
    lock = FleetStore.of(past.config).folder / "leases" / "retrain.lock"
    lock.unlink(missing_ok=True)
    lock.parent.mkdir(exist_ok=True)
    lock.symlink_to(lock)  # fails as the file of another user does, root's too
    answer = requests.post(f"{url}/page/retrain-requests", json={"group_key": A}, headers=ada.headers, timeout=30)
    lock.unlink()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_written")
    assert int(answer.headers["Retry-After"]) > 0
    assert "retrain.lock" not in answer.text


def test_an_order_that_cannot_be_done_says_why_and_writes_nothing(ada: Client, past: Past) -> None:
    version = ada.order(verb="pin", group_key=B).json()["version"]
    assert ada.order(verb="pin", group_key=B, seen=version).json()["error"]["code"] == "no_reason"
    wrong = ada.order(verb="promote", group_key=B, model="feedbeef", reason="try", seen=version)
    assert wrong.status_code == 409
    assert "expected one of its models; got 'feedbeef'" in wrong.json()["error"]["message"]
    assert ada.order(verb="promote", group_key=B, reason="no model", seen=version).status_code == 422
    for key in ('["x","1"]', '["\\ud800","1"]', "x"):
        unknown = ada.order(verb="pin", group_key=key)
        assert unknown.status_code == 409
        assert past.config.storage.root not in unknown.text
    assert B not in {row["group_key"] for row in past.decided()}


def test_an_order_of_another_site_is_refused_since_a_form_cannot_send_json(url: str) -> None:
    order = '{"verb": "pin", "group_key": "[\\"b\\",\\"1\\"]", "reason": "csrf", "seen": 0}'
    headers = {"X-Key": "ada", "Content-Type": "text/plain"}
    assert requests.post(f"{url}/page/overrides", data=order, headers=headers, timeout=30).status_code == 422
