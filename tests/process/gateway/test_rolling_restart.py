"""Two real gateways behind a balancer that looks at `/ping`: the first ends under load, and no request is lost."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from linear_fleet import FEATURES, write_fleet

BODY = json.dumps({"records": [{"shop": "s1", "dept": "d1", **dict.fromkeys(FEATURES, 0.5)}]})
ANSWERS = 50


@contextmanager
def gateway(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Yields the process and its port."""
    command = [sys.executable, "-c", "from spinney.cli import main; main()", "serve", "--insecure"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            found = re.search(r"http://127\.0\.0\.1:(\d+)", process.stderr.readline())
            assert found is not None
            yield process, int(found[1])
        finally:
            process.kill()


def is_ready(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except ConnectionError:
        return False
    finally:
        connection.close()


class Client(threading.Thread):
    """Sends requests over connections that it keeps, to the first gateway that is ready, until it is told to stop."""

    def __init__(self, ports: list[int], stop: threading.Event) -> None:
        super().__init__()
        self.ports, self.stop = ports, stop
        self.answered: Counter[int] = Counter()
        self.lost: list[str] = []

    def run(self) -> None:
        while not self.stop.is_set():
            port = next(filter(is_ready, self.ports))
            try:
                self.send_until_asked_to_leave(port)
            except Exception as error:  # a request was sent, and has no answer
                self.lost.append(f"port {port}: {error!r}")
                return

    def send_until_asked_to_leave(self, port: int) -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        is_kept = True
        while is_kept and not self.stop.is_set():
            connection.request("POST", "/predict", BODY, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            is_kept = not answer.will_close
            assert (answer.status, json.loads(answer.read())["predictions"][0]["status"]) == (200, "answered")
            self.answered[port] += 1


def wait_for_answers(clients: list[Client], port: int) -> None:
    while all(client.is_alive() for client in clients) and sum(each.answered[port] for each in clients) < ANSWERS:
        time.sleep(0.01)


def test_a_gateway_that_ends_under_load_loses_no_request(tmp_path: Path) -> None:
    write_fleet(tmp_path, 10, more="[gateway]\nport = 0\ndrain = '4s'")
    stop = threading.Event()
    with gateway(tmp_path) as (first, first_port), gateway(tmp_path) as (_, second_port):
        clients = [Client([first_port, second_port], stop) for _ in range(3)]
        for client in clients:
            client.start()
        wait_for_answers(clients, first_port)
        first.send_signal(signal.SIGTERM)
        assert first.wait(60) == 0
        wait_for_answers(clients, second_port)
        stop.set()
        for client in clients:
            client.join()
    assert [lost for client in clients for lost in client.lost] == []
    assert all(sum(client.answered[port] for client in clients) >= ANSWERS for port in (first_port, second_port))
