"""The busiest routes are called without FastAPI's routing: nothing a caller can see may differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest
import requests
from linear_fleet import FEATURES, LinearFleet, key_of, promote, write_fleet
from running_server import running

from spinney.core.errors import StoreError
from spinney.gateway.app import create_app
from spinney.gateway.errors import RequestError
from spinney.gateway.shared_state import Guard, Service

ROW = {"shop": "s1", "dept": "d1", **dict.fromkeys(FEATURES, 0.5)}


def refuse_without_key(request: Any) -> str:
    if "authorization" not in request.headers:
        raise RequestError(401, "no_key", "key: expected one; got none")
    return "ada"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> LinearFleet:
    return write_fleet(tmp_path_factory.mktemp("lines"), 12, more="[gateway]\nmax_rows = 20")


@pytest.fixture(scope="module")
def service(fleet: LinearFleet) -> Service:
    return Service(fleet.config, Guard(*[refuse_without_key] * 3))


@pytest.fixture(scope="module")
def url(service: Service) -> Iterator[str]:
    with running(create_app(service)) as url:
        yield url


def seen(answer: requests.Response) -> tuple[Any, ...]:
    headers = {name: value for name, value in answer.headers.items() if name != "date"}
    return answer.status_code, answer.json(), headers


# A query sends a request through FastAPI: with an empty one or `strict=false` it asks the same.
@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"records": [ROW]}, 200),
        ({"records": [ROW, {"shop": 1}, 3]}, 200),
        ({"records": [ROW] * 9}, 200),
        ({"records": [ROW] * 21}, 422),
        ({"records": [{"shop": "s1", "dept": "d1"}]}, 422),
        ({"rows": []}, 422),
        ([], 422),
    ],
)
def test_a_request_without_a_query_is_answered_as_with_one(url: str, body: Any, status: int) -> None:
    direct, routed = (
        requests.post(f"{url}/predict{query}", json=body, headers={"Authorization": "x"}, timeout=30)
        for query in ("", "?strict=false")
    )
    assert direct.status_code == status
    assert seen(direct) == seen(routed)


def test_a_caller_without_a_key_gets_the_same_answer_either_way(url: str) -> None:
    direct, routed = (requests.post(f"{url}/predict{query}", json={}, timeout=30) for query in ("", "?strict=false"))
    assert direct.status_code == 401
    assert direct.headers["WWW-Authenticate"] == "Bearer"
    assert seen(direct) == seen(routed)


def test_a_fault_and_unreadable_tables_are_answered_either_way(
    service: Service, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, status in ((StoreError(f"{service.config.storage.root}: gone"), 503), (ValueError("secret"), 500)):
        monkeypatch.setattr(service.answers, "answer", Mock(side_effect=error))
        monkeypatch.setattr(service.answers, "answer_at_once", Mock(side_effect=error))
        for query in ("", "?strict=false"):
            answer = requests.post(
                f"{url}/predict{query}", json={"records": [ROW]}, headers={"Authorization": "x"}, timeout=30
            )
            assert answer.status_code == status
            assert "secret" not in answer.text
            assert service.config.storage.root not in answer.text


def test_a_record_of_a_loaded_linear_model_is_answered_without_a_thread(
    fleet: LinearFleet, service: Service, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask() -> requests.Response:
        return requests.post(f"{url}/predict", json={"records": [row]}, headers={"Authorization": "x"}, timeout=30)

    row = {"shop": "s5", "dept": "d5", **dict.fromkeys(FEATURES, 0.25)}
    cold = ask()
    assert service.cache.counts.loads > 0
    monkeypatch.setattr(service.queue, "_call", None)  # what hands a request to a thread
    warm = ask()
    assert warm.json() == cold.json()
    assert warm.json()["predictions"][0]["prediction"] == fleet.expected(key_of(5), row)


def test_a_new_champion_that_is_not_loaded_yet_answers_all_the_same(
    fleet: LinearFleet, service: Service, url: str
) -> None:
    row = {"shop": "s7", "dept": "d7", **dict.fromkeys(FEATURES, 1.0)}

    def ask() -> dict[str, Any]:
        answer = requests.post(f"{url}/predict", json={"records": [row]}, headers={"Authorization": "x"}, timeout=30)
        return answer.json()["predictions"][0]

    before = ask()
    coefficients = fleet.coefficients[key_of(7)] + 1.0
    named = promote(fleet.config, {key_of(7): coefficients}, hour=30)
    service.feed.refresh()
    after = ask()
    assert (before["model_id"], after["model_id"]) == (fleet.model_ids[key_of(7)], named[key_of(7)])
    assert after["prediction"] == pytest.approx(coefficients.sum())


def test_csv_is_never_read_in_the_event_loop(service: Service, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["shop", "dept", *FEATURES]
    text = f"{','.join(names)}\ns1,d1,1,1,1,1\n"
    monkeypatch.setattr(service, "_run_at_once", Mock(side_effect=AssertionError))
    headers = {"Authorization": "x", "Content-Type": "text/csv"}
    answer = requests.post(f"{url}/invocations", data=text, headers=headers, timeout=30)
    assert (answer.status_code, len(answer.json()["predictions"])) == (200, 1)
