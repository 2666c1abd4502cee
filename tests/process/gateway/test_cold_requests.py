"""Requests for a model that is not loaded yet, all at once and over HTTP, as many as the defaults answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import requests
from linear_fleet import FEATURES, key_of, write_fleet
from running_server import running
from waiting import wait_until

from spinney.gateway.app import create_app
from spinney.gateway.shared_state import Guard, Service
from spinney.serving import model_cache

CALLERS = 200
NO_HURRY = "[gateway]\ntime_limit = '120s'"
ROW = {"shop": "s3", "dept": "d3", **dict.fromkeys(FEATURES, 0.5)}


def test_two_hundred_requests_for_one_cold_model_load_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = write_fleet(tmp_path, 5, more=NO_HURRY)
    service, everybody_is_there = Service(fleet.config, Guard(*[lambda _: "ada"] * 3)), Event()
    open_model = model_cache._open_first_valid

    def open_late(*arguments: Any) -> Any:
        assert everybody_is_there.wait(120)
        return open_model(*arguments)

    monkeypatch.setattr(model_cache, "_open_first_valid", open_late)
    with running(create_app(service)) as url, ThreadPoolExecutor(CALLERS) as pool:
        asked = [
            pool.submit(requests.post, f"{url}/predict", json={"records": [ROW]}, timeout=120) for _ in range(CALLERS)
        ]
        wait_until(lambda: service.queue.there == CALLERS)
        everybody_is_there.set()
        answers = [each.result().json()["predictions"][0] for each in asked]
    key = key_of(3)
    assert {(each["prediction"], each["model_id"]) for each in answers} == {
        (fleet.expected(key, ROW), fleet.model_ids[key])
    }
    assert service.cache.counts.loads == 1
