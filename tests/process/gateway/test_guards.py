"""Who may call the gateway, and how much it takes at once."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.parse import quote

import pytest
import requests
from click.testing import CliRunner
from linear_fleet import FEATURES, LinearFleet, key_of, write_fleet
from running_server import running
from waiting import wait_until

from schemas.vocabulary import Scope
from spinney.cli import main
from spinney.core.config import Config
from spinney.core.errors import SetupError, StoreError
from spinney.fleet import Fleet
from spinney.gateway import server
from spinney.gateway.app import create_app
from spinney.gateway.authorization import guard_by_keys, guard_of_this_machine, is_loopback
from spinney.gateway.limits.request_body import ORDER_BYTES
from spinney.gateway.shared_state import Service
from spinney.storage.api_keys import KeyRing, add_key, list_keys, revoke_key
from spinney.storage.layout import FleetStore

ROW = {"shop": "s1", "dept": "d1", **dict.fromkeys(FEATURES, 1.0)}
LIMITS = "[gateway]\nport = 0\nconcurrency = 1\nwaiting = 1\ntime_limit = '60s'"
ROUTES = [
    ("GET", "/groups/x", Scope.READ),
    ("GET", "/v2/models/lines", Scope.READ),
    ("GET", "/v2/models/lines/ready", Scope.READ),
    ("GET", "/page/fleet.json", Scope.READ),
    ("GET", "/metrics", Scope.READ),
    ("POST", "/predict", Scope.SCORE),
    ("POST", "/invocations", Scope.SCORE),
    ("POST", "/v2/models/lines/infer", Scope.SCORE),
    ("POST", "/page/overrides", Scope.OPERATE),
]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> LinearFleet:
    return write_fleet(tmp_path_factory.mktemp("lines"), 10, more=LIMITS)


@pytest.fixture(scope="module")
def store(fleet: LinearFleet) -> FleetStore:
    return FleetStore.of(fleet.config)


@pytest.fixture(scope="module")
def service(fleet: LinearFleet, store: FleetStore) -> Service:
    return Service(fleet.config, guard_by_keys(KeyRing(store)))


@pytest.fixture(scope="module")
def url(service: Service) -> Iterator[str]:
    with running(create_app(service)) as url:
        yield url


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def code(answer: requests.Response) -> tuple[int, str]:
    found = answer.json()
    return answer.status_code, found["code"] if "code" in found else found["error"]["code"]


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
def test_a_route_asks_for_its_scope_and_no_other_will_do(
    store: FleetStore, url: str, method: str, path: str, scope: Scope
) -> None:
    bare = requests.request(method, f"{url}{path}", timeout=30)
    assert code(bare) == (401, "no_key")
    assert bare.headers["WWW-Authenticate"] == "Bearer"
    _, others = add_key(store, "others", [each for each in Scope if each != scope])
    assert code(requests.request(method, f"{url}{path}", headers=bearer(others), timeout=30)) == (403, "scope")
    _, text = add_key(store, "ada", [scope])
    assert requests.request(method, f"{url}{path}", headers=bearer(text), timeout=30).status_code not in (401, 403)


def test_every_route_with_something_to_hide_is_in_the_list_above(service: Service) -> None:
    free = {
        "/", "/page/", "/page/static/{name}", "/openapi.json", "/ping", "/health", "/version", "/v2",
        "/v2/health/live", "/v2/health/ready",
    }  # fmt: skip
    figures = {"/page/pipeline.json", "/page/groups.json", "/page/group.json", "/page/dead-letters.json"}
    guarded = {"/groups/{key}", "/v2/models/{name}", "/v2/models/{name}/ready", "/v2/models/{name}/infer"}
    app = create_app(service)
    paths = {path.replace(":path", "") for path in app.openapi()["paths"]}
    assert paths <= free | figures | guarded | {path for _, path, _ in ROUTES}


def test_a_revoked_key_is_refused_at_the_next_request(store: FleetStore, url: str) -> None:
    key, text = add_key(store, "ada", ["score"])
    ask = {"url": f"{url}/predict", "json": {"records": [ROW]}, "headers": bearer(text), "timeout": 30}
    assert requests.post(**ask).status_code == 200
    revoke_key(store, key.id)
    assert code(requests.post(**ask)) == (401, "no_key")


def test_a_body_is_not_read_from_a_caller_without_a_key(url: str) -> None:
    assert code(requests.post(f"{url}/predict", data=b"x" * 100, timeout=30)) == (401, "no_key")


def head_of_order(url: str, more: str) -> bytes:
    """The first line of the answer to an order whose body does not come unless the gateway asks for it."""
    host, port = url.removeprefix("http://").split(":")
    head = f"POST /page/overrides HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{more}\r\n"
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode())
        return connection.recv(1024).partition(b"\r\n")[0]


def test_a_body_of_an_order_is_not_read_from_a_caller_who_may_not_order_anything(store: FleetStore, url: str) -> None:
    endless = "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n"
    assert head_of_order(url, endless) == b"HTTP/1.1 401 Unauthorized"
    _, reader = add_key(store, "bea", ["read"])
    assert head_of_order(url, f"{endless}Authorization: Bearer {reader}\r\n") == b"HTTP/1.1 403 Forbidden"
    _, operator = add_key(store, "ada", ["operate"])
    assert head_of_order(url, f"{endless}Authorization: Bearer {operator}\r\n").startswith(b"HTTP/1.1 100")


def test_the_body_of_an_order_has_limits_of_its_own(
    service: Service, store: FleetStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, text = add_key(store, "ada", ["operate"])
    headers = bearer(text) | {"Content-Type": "application/json"}

    def ordered(body: Any) -> tuple[int, str]:
        return code(requests.post(f"{url}/page/overrides", data=body, headers=headers, timeout=30))

    assert ordered(b" " * ORDER_BYTES) == (422, "invalid"), "it is read, and is no order"
    assert ordered(b" " * (ORDER_BYTES + 1)) == (413, "too_large")
    assert ordered(b" " * 1024 for _ in range(65)) == (413, "too_large")
    monkeypatch.setattr(service.queue, "_time_limit_s", 0.02)
    late = f"Content-Length: 9\r\nAuthorization: Bearer {text}\r\n"
    assert head_of_order(url, late) == b"HTTP/1.1 408 Request Timeout"


def test_more_requests_than_may_wait_are_refused_and_a_late_one_is_given_up(
    service: Service, store: FleetStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, text = add_key(store, "ada", ["score"])
    go, found = threading.Event(), []
    answer = service.answers.answer

    def slow(records: Any) -> Any:
        assert go.wait(30)
        return answer(records)

    monkeypatch.setattr(service.answers, "answer", slow)
    monkeypatch.setattr(service, "_run_at_once", lambda *_: None)
    monkeypatch.setattr(service.queue, "_time_limit_s", 4.0)
    ask = {"url": f"{url}/predict", "json": {"records": [ROW]}, "headers": bearer(text), "timeout": 30}
    callers = [threading.Thread(target=lambda: found.append(requests.post(**ask))) for _ in range(2)]
    for caller in callers:
        caller.start()
    wait_until(lambda: service.queue.there == 2)
    refused = requests.post(**ask)
    assert code(refused) == (429, "too_many_requests")
    assert int(refused.headers["Retry-After"]) > 0
    for caller in callers:
        caller.join()
    assert [code(each) for each in found] == [(503, "time_limit")] * 2
    assert {each.headers["Retry-After"] for each in found} == {"1"}
    go.set()
    wait_until(lambda: service.queue.there == 0)
    assert requests.post(**ask).status_code == 200, "its thread is free again"


def test_bodies_that_are_still_sent_are_counted_by_their_declared_size(
    service: Service, store: FleetStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, text = add_key(store, "ada", ["score"])
    monkeypatch.setattr(service.queue, "_max_bytes", 1000)
    host, port = url.removeprefix("http://").split(":")
    head = f"POST /predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: 900\r\nAuthorization: Bearer {text}\r\n\r\n"

    def asked(body: Any) -> tuple[int, str]:
        return code(requests.post(f"{url}/predict", data=body, headers=bearer(text), timeout=30))

    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode())
        wait_until(lambda: service.queue.there == 1)
        assert asked(b" " * 101) == (429, "too_many_bytes")
        assert asked(iter([b" "])) == (429, "too_many_bytes"), "of unknown length, it may be as large as max_mib"
        assert asked(b" " * 100) == (400, "not_json")
    wait_until(lambda: service.queue.there == 0)
    assert asked(b" " * 1001) == (400, "not_json"), "alone, a larger one has room"


@pytest.mark.parametrize("path", ["group.json?key=x", "dead-letters.json?reason=not_json"])
def test_a_request_of_the_page_that_reads_tables_waits_as_others_do(
    service: Service, store: FleetStore, url: str, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    _, text = add_key(store, "ada", ["read"])
    monkeypatch.setattr(service.queue, "_most", 0)
    assert code(requests.get(f"{url}/page/{path}", headers=bearer(text), timeout=30)) == (429, "too_many_requests")


@pytest.mark.parametrize("path", ["/groups/{}", "/page/group.json?key={}"])
def test_a_group_whose_tables_cannot_be_read_is_not_called_unknown(
    store: FleetStore, url: str, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    _, text = add_key(store, "ada", ["read"])

    def asked(key: str) -> requests.Response:
        return requests.get(f"{url}{path.format(quote(key))}", headers=bearer(text), timeout=30)

    assert code(asked('["nobody","d1"]')) == (404, "unknown_group")
    monkeypatch.setattr(Fleet, "why", Mock(side_effect=StoreError("table models/stream: nothing there")))
    refused = asked(key_of(1))
    assert code(refused) == (503, "tables")
    assert int(refused.headers["Retry-After"]) > 0


def test_without_a_key_the_gateway_does_not_start_unless_it_is_insecure_and_on_this_machine(tmp_path: Path) -> None:
    made = write_fleet(tmp_path, 2, more=LIMITS)

    def started(config: Config, *, insecure: bool) -> str:
        with pytest.raises(SetupError) as refused:
            server.serve(config, insecure=insecure, on_listening=lambda _: pytest.fail("it started"))
        return str(refused.value)

    assert "expected an API key of fleet lines; got none. Make one: spinney keys add" in started(
        made.config, insecure=False
    )
    key, _ = add_key(FleetStore.of(made.config), "ada", ["read"])
    revoke_key(FleetStore.of(made.config), key.id)
    assert "got none" in started(made.config, insecure=False)
    everywhere = made.config.model_copy(update={"gateway": made.config.gateway.model_copy(update={"host": "0.0.0.0"})})
    assert "expected a host of this machine alone with --insecure" in started(everywhere, insecure=True)
    nowhere = made.config.gateway.model_copy(update={"host": "no.such.host.invalid"})
    add_key(FleetStore.of(made.config), "ada", ["read"])
    assert "expected to listen on no.such.host.invalid port 0" in started(
        made.config.model_copy(update={"gateway": nowhere}), insecure=False
    )


def test_an_insecure_gateway_answers_nobody_under_another_name_or_from_another_site(fleet: LinearFleet) -> None:
    with running(create_app(Service(fleet.config, guard_of_this_machine()))) as url:

        def asked(**headers: str) -> int:
            return requests.post(f"{url}/predict", json={"records": [ROW]}, headers=headers, timeout=30).status_code

        host = url.removeprefix("http://")
        assert asked() == 200
        assert asked(Origin=url) == 200
        assert asked(Host=f"localhost:{host.rpartition(':')[2]}") == 200
        assert asked(Host="rebound.example.com") == 403
        assert asked(Origin="https://other.example.com") == 403
        assert asked(Origin="null") == 403
        assert [asked(Host=broken) for broken in ("[", "[::1", "]")] == [403] * 3
        assert asked(Origin="http://[") == 403


def test_addresses_of_this_machine() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "localhost.example.com", "")] == [False] * 5


def test_the_socket_says_that_it_is_tcp_so_that_answers_do_not_wait_for_an_acknowledgement() -> None:
    with server._listen("localhost", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP


def test_keys_are_made_listed_and_revoked_by_command(tmp_path: Path) -> None:
    made = write_fleet(tmp_path, 2)
    config = ["--config", str(tmp_path / "fleet.toml")]
    run = CliRunner().invoke
    assert run(main, ["keys", "list", *config]).stderr == "no keys; spinney keys add makes one\n"
    added = run(main, ["keys", "add", "report", "--scope", "read", "--scope", "score", *config])
    key = KeyRing(FleetStore.of(made.config)).find(added.stdout.strip())
    assert key is not None
    assert (key.name, key.scopes) == ("report", (Scope.READ, Scope.SCORE))
    assert key.hash not in run(main, ["keys", "list", *config]).output
    revoked = run(main, ["keys", "revoke", key.id, *config])
    assert revoked.exit_code == 0
    assert list_keys(FleetStore.of(made.config))[0].revoked_at is not None


def test_sigterm_answers_what_is_there_and_ends_with_0(tmp_path: Path) -> None:
    write_fleet(tmp_path, 10, more="[gateway]\nport = 0\ndrain = '0s'")
    command = [sys.executable, "-c", "from spinney.cli import main; main()", "serve", "--insecure"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            found = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
            assert found is not None
            body = json.dumps({"records": [ROW] * 500}).encode()
            connections = [_begun(found[0], len(body)) for _ in range(4)]
            process.send_signal(signal.SIGTERM)
            _wait_until_refused(found[0])
            for connection in connections:
                connection.sendall(body)
            answers = [HTTPResponse(connection) for connection in connections]
            for answer in answers:
                answer.begin()
                assert answer.status == 200
                assert len(json.loads(answer.read())["predictions"]) == 500
            assert process.wait(60) == 0
        finally:
            process.kill()


def _begun(url: str, size: int) -> socket.socket:
    """A request whose body the gateway waits for: it has said so."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=60)
    head = f"POST /predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: {size}\r\nExpect: 100-continue\r\n\r\n"
    connection.sendall(head.encode())
    assert connection.recv(1024).startswith(b"HTTP/1.1 100 ")
    return connection


def _wait_until_refused(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    with contextlib.suppress(ConnectionRefusedError):
        while True:
            socket.create_connection((host, int(port)), timeout=60).close()
            time.sleep(0.02)
