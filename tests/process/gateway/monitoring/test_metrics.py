from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from fastapi import Request
from linear_fleet import FEATURES, write_fleet
from running_server import running
from waiting import wait_until

from spinney.gateway.app import create_app
from spinney.gateway.monitoring.json_logs import FIELDS, JsonFormatter, log_as_json
from spinney.gateway.monitoring.metrics import Metrics
from spinney.gateway.response_middleware import ResponseMiddleware
from spinney.gateway.shared_state import Guard, Service
from spinney.storage.layout import FleetStore
from spinney.storage.reported_offsets import SeenOffsets, write_seen_offsets


def samples(text: str) -> dict[str, float]:
    """Each sample's value, as a Prometheus server reads the text."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, value = re.fullmatch(r'([a-z_]+(?:\{(?:[a-z_]+="[^"\\]*",?)+\})?) ([0-9.e+-]+)', line).groups()
            assert name not in found
            found[name] = float(value)
    return found


def test_a_duration_counts_in_its_bucket_and_all_above() -> None:
    metrics = Metrics()
    for seconds in (0.0005, 0.005, 0.0051, 99.0):
        metrics.count_request("/predict", 200, seconds)
    found = samples(metrics.text([]))
    name = "spinney_gateway_request_duration_seconds"
    buckets = {
        most: found[f'{name}_bucket{{route="/predict",le="{most}"}}'] for most in ("0.001", "0.005", "0.01", "10.0")
    }
    assert buckets == {"0.001": 1, "0.005": 2, "0.01": 3, "10.0": 3}
    assert found[f'{name}_bucket{{route="/predict",le="+Inf"}}'] == found[f'{name}_count{{route="/predict"}}'] == 4
    assert found[f'{name}_sum{{route="/predict"}}'] == pytest.approx(99.0106)


def test_a_counter_that_has_grown_large_has_all_its_digits() -> None:
    metrics = Metrics()
    metrics._rows["own"] = 1_234_567_891
    found = samples(metrics.text([("cache_hits_total", "counter", "Hits.", 1_234_567)]))
    assert found["spinney_gateway_cache_hits_total"] == 1_234_567
    assert found['spinney_gateway_rows_total{answered_by="own"}'] == 1_234_567_891


def test_each_family_has_its_kind_before_its_samples() -> None:
    metrics = Metrics()
    metrics.count_request("/ping", 200, 0.1)
    metrics.count_rows(["own", "own", "none"])
    lines = metrics.text([("champions", "gauge", "Groups.", 3)]).splitlines()
    families = [line.split()[2:] for line in lines if line.startswith("# TYPE")]
    assert families == [
        ["spinney_gateway_requests_total", "counter"],
        ["spinney_gateway_request_duration_seconds", "histogram"],
        ["spinney_gateway_rows_total", "counter"],
        ["spinney_gateway_champions", "gauge"],
    ]
    found = samples("\n".join(lines))
    assert found['spinney_gateway_rows_total{answered_by="own"}'] == 2
    assert found["spinney_gateway_champions"] == 3


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    fleet = write_fleet(tmp_path_factory.mktemp("lines"), 20)
    store = FleetStore.of(fleet.config)
    for log in ("offsets", "commits"):
        file = Path(store.checkpoint("score")) / log / "0"
        file.parent.mkdir(parents=True)
        file.write_text('v1\n{"batchTimestampMs":0}\n{"sales":{"0":12,"1":3}}')
    seen_at = datetime.now(UTC) - timedelta(minutes=1)
    write_seen_offsets(store, "score", SeenOffsets(seen_at, {"sales": {"0": 20, "1": 5}}))
    with running(create_app(Service(fleet.config, Guard(*[lambda _: "ada"] * 3)))) as url:
        yield url


def test_requests_rows_and_models_are_counted_and_no_group_is_a_label(url: str) -> None:
    rows = [{"shop": f"s{n}", "dept": f"d{n % 10}", **dict.fromkeys(FEATURES, 1.0)} for n in (1, 2, 2, 77)]
    for _ in range(2):
        requests.post(f"{url}/predict", json={"records": [*rows, {}]}, timeout=30)
    requests.get(f"{url}/groups/s1", timeout=30)
    requests.get(f"{url}/nowhere/s1", timeout=30)
    # A request is counted after its answer was sent.
    wait_until(lambda: 'route="none"' in requests.get(f"{url}/metrics", timeout=30).text)
    answer = requests.get(f"{url}/metrics", timeout=30)
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = {name.removeprefix("spinney_gateway_"): value for name, value in samples(answer.text).items()}
    expected = {
        'requests_total{route="/predict",code="200"}': 2, 'requests_total{route="/groups/{key}",code="422"}': 1,
        'requests_total{route="none",code="404"}': 1, 'rows_total{answered_by="own"}': 6,
        'rows_total{answered_by="parent"}': 2, 'rows_total{answered_by="invalid"}': 2,
        "model_loads_total": 3, "cache_hits_total": 3, "cache_models": 3, "champions": 30,
        'stream_lag_records{query="score"}': 10,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    assert 60 <= found['stream_lag_age_seconds{query="score"}'] < 600
    assert "s1" not in answer.text


def test_a_client_that_leaves_while_it_sends_is_counted_as_such_and_is_no_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await Request(scope, receive, send).body()

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pytest.fail(f"{message} was sent to nobody")

    metrics = Metrics()
    scope = {"type": "http", "method": "POST", "headers": []}
    asyncio.run(ResponseMiddleware(application, metrics)(scope, receive, send))
    found = samples(metrics.text([]))
    assert found['spinney_gateway_requests_total{route="none",code="499"}'] == 1
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


def test_a_log_record_is_one_line_of_json() -> None:
    row = {"name": "gateway", "levelno": logging.INFO, "levelname": "INFO", "msg": "two\nlines %s", "args": ("é",)}
    lines = [JsonFormatter().format(logging.makeLogRecord({**row, FIELDS: {"ms": 1.5, "place": Path("/x")}}))]
    try:
        raise ValueError("broken")
    except ValueError:
        lines.append(JsonFormatter().format(logging.makeLogRecord({**row, "exc_info": sys.exc_info()})))
    assert not any("\n" in line for line in lines)
    first, second = map(json.loads, lines)
    assert (first["level"], first["message"], first["ms"], first["place"]) == ("info", "two\nlines é", 1.5, "/x")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["time"])
    assert second["error"].endswith("ValueError: broken")


def test_requests_are_logged_with_their_route_and_no_value(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    written = io.StringIO()
    log_as_json(logging.StreamHandler(written))
    requests.get(f"{url}/groups/secret?token=secret", timeout=30)
    wait_until(lambda: '"request"' in written.getvalue())  # logged after the answer was sent
    logged = [json.loads(line) for line in written.getvalue().splitlines()]
    (line,) = (each for each in logged if each["message"] == "request")
    assert (line["method"], line["route"], line["status"]) == ("GET", "/groups/{key}", 422)
    assert "secret" not in written.getvalue()
