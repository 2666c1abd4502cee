"""`mlflow models serve` of a registered fleet, asked over HTTP by a client that knows JSON and nothing else."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests
from every_feature_type import OPENED, PLAIN, WRITTEN, FittedFleet
from handwritten_history import hour
from spinney_process import environment

from spinney.tracking import registry

SECONDS = 120
KEY = "k" * 32
PARQUET = "application/vnd.apache.parquet"


def unused_port() -> int:
    """A port that no connection of another test takes until MLflow, which cannot choose one itself, listens there.

    The kernel gives connections ports from 32768 on. Each process looks from a place of its own.
    """
    for port in range(20_000 + os.getpid() % 10_000, 32_768):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("ports: expected a free one below 32768; got none")


@contextmanager
def serving(folder: Path, uri: str) -> Iterator[str]:
    """The address of a server of the registered fleet; at the end nothing of it runs any more."""
    port = unused_port()
    words = ["models", "serve", "-m", "models:/doors@champion", "--env-manager", "local", "-p", str(port)]
    variables = {**environment(), "MLFLOW_TRACKING_URI": uri, "SPINNEY_SIGNING_KEY": KEY}
    variables["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), variables["PATH"]])
    log = folder / "serve.log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words], env=variables, cwd=folder, stdout=out, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + SECONDS
        while not is_up(address):
            assert server.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.2)
        yield address
    finally:
        with suppress(ProcessLookupError):  # MLflow's command and the server that it starts
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def is_up(address: str) -> bool:
    try:
        return requests.get(f"{address}/ping", timeout=SECONDS).ok
    except requests.ConnectionError:
        return False


class Client:
    """Asks a server; the fleet beside it is asked in this process."""

    def __init__(self, address: str, fleet: FittedFleet) -> None:
        self.address, self.fleet = address, fleet

    def post(self, data: bytes | str, content_type: str = "application/json") -> requests.Response:
        headers = {"Content-Type": content_type}
        return requests.post(f"{self.address}/invocations", data=data, headers=headers, timeout=SECONDS)

    def ask(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        answer = self.post(json.dumps(body))
        assert answer.status_code == 200, answer.text
        # JSON has no NaN; a client in another language cannot read one.
        return list(json.loads(answer.text, parse_constant=pytest.fail)["predictions"])

    def refusal(self, data: bytes | str, content_type: str = "application/json") -> str:
        answer = self.post(data, content_type)
        assert answer.status_code == 400
        return str(answer.json()["message"])


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("serving")
    uri = f"sqlite:///{folder}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPINNEY_SIGNING_KEY", KEY)
        fitted = FittedFleet(folder, uri)
        registry.register(fitted.past.config, fitted.fleet.champions(), hour(61), "champion")
        with serving(folder, uri) as address:
            yield Client(address, fitted)


ROWS = [
    (PLAIN, WRITTEN),
    (PLAIN, {**WRITTEN, "at": "2024-05-03T12:30+02:00", "opened": OPENED.isoformat(), "x": 2.0}),
    ({**PLAIN, "store": "007", "opened": None, "x": None}, {**WRITTEN, "store": "007", "opened": None, "x": None}),
    ({**PLAIN, "day": None, "tag": None, "visitors": 7}, {**WRITTEN, "day": None, "tag": None, "visitors": 7}),
    ({**PLAIN, "sunny": None, "at": None}, {**WRITTEN, "sunny": None, "at": None}),
    ({**PLAIN, "store": "nobody's"}, {**WRITTEN, "store": "nobody's"}),
]
"""Each with values of Python's types and as a client writes it."""


def bodies(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"dataframe_split": {"columns": list(WRITTEN), "data": [list(row.values()) for row in rows]}},
        {"dataframe_records": rows},
        {"instances": rows},
        {"inputs": {name: [row[name] for row in rows] for name in WRITTEN}},
    ]


def test_rows_of_every_kind_are_answered_to_the_bit_as_by_the_fleet_in_every_form(client: Client) -> None:
    wanted = client.fleet.answers(*(plain for plain, _ in ROWS))
    assert [each["answered_by"] for each in wanted] == ["own"] * 5 + ["none"]
    assert len({each["prediction"] for each in wanted}) == 5  # the first two are one row
    for body in bodies([written for _, written in ROWS]):
        assert client.ask(body) == wanted
    for (_, written), answer in zip(ROWS, wanted, strict=True):
        for body in bodies([written]):
            assert client.ask(body) == [answer]


def test_parquet_is_answered_as_by_the_fleet(client: Client) -> None:
    file = io.BytesIO()
    rows = [plain for plain, _ in ROWS]
    pd.DataFrame(rows).astype({"opened": "datetime64[us, UTC]"}).to_parquet(file)
    answer = client.post(file.getvalue(), PARQUET)
    assert answer.json()["predictions"] == client.fleet.answers(*rows)


def test_a_bad_row_is_refused_with_its_column_row_and_value(client: Client) -> None:
    bad = {
        "opened": ("soon", "column opened: expected timestamp(ms); got str 'soon' in row 1: a time is a number of ms"),
        "at": (1714732200, "in row 1: for numbers since 1970 declare the column as"),
        "day": ("3 May", "column day: expected date; got str '3 May' in row 1: a date is written like 2024-05-31"),
        "x": ("much", "column x: expected double; got str 'much' in row 1"),
        "visitors": (2.5, "column visitors: expected bigint; got float64 '2.5' in row 1"),
        "store": (None, "column store: expected string; got null in row 1"),
    }
    for name, (value, reported) in bad.items():
        rows = [{**WRITTEN, "at": None}, {**WRITTEN, name: value}]
        for body in bodies(rows):
            message = client.refusal(json.dumps(body))
            assert reported in message
            assert "Traceback" not in message
    without = [{name: value for name, value in WRITTEN.items() if name != "day"}]
    assert "missing inputs ['day']" in client.refusal(json.dumps({"dataframe_records": without}))


def test_csv_is_refused_since_mlflow_reads_it_by_its_own_types_alone(client: Client) -> None:
    text = pd.DataFrame([WRITTEN]).to_csv(index=False)
    assert "Failed to parse input as a Pandas DataFrame" in client.refusal(text, "text/csv")
    # What the documentation says to send in its place.
    frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    body = {"dataframe_split": frame.to_dict(orient="split", index=False)}
    assert client.ask(body) == client.fleet.answers(PLAIN)
