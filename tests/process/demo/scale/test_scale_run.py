from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from demo.scale import run
from demo.scale.event_producer import TopicSender
from demo.scale.traffic_plan import TrafficPlan
from demo.stage_timer import StageTimer
from spinney.core.errors import StoreError


@pytest.fixture
def traffic():
    return TrafficPlan(200, 10, 0)


class Producer:
    """refused: the error that every record is answered with; lost: records that are never answered."""

    def __init__(self, refused=None, lost=0):
        self.refused, self.lost = refused, lost

    def produce(self, topic, *, key, value, on_delivery):
        on_delivery(self.refused, None)

    def poll(self, seconds):
        return 0

    def flush(self, seconds):
        return self.lost


def test_a_sender_counts_what_was_acknowledged():
    sender = TopicSender(Producer(), "events")
    sender.send(iter([("a", "1"), ("b", "2")]))
    sender.finish()
    assert sender.sent == 2


@pytest.mark.parametrize(
    ("producer", "message"), [(Producer(refused="too large"), "0 records.*too large"), (Producer(lost=3), "3 records")]
)
def test_records_that_were_not_acknowledged_are_an_error(producer, message):
    sender = TopicSender(producer, "events")
    sender.send(iter([("a", "1")]))
    with pytest.raises(StoreError, match=message):
        sender.finish()


def test_a_loop_that_does_not_start_stops_what_was_started_of_it(traffic):
    done = []

    def start():
        done.append("started")
        raise StoreError("query score: no")

    application = SimpleNamespace(start=start, stop=lambda: done.append("stopped"))
    with pytest.raises(StoreError, match="query score: no"):
        run._stream(application, traffic, Path("fleet.toml"), set(), StageTimer(Console(file=StringIO())))
    assert done == ["started", "stopped"]


PRODUCER = """
import os, sys, time
print(os.getpid(), *sys.argv[1:], flush=True)
time.sleep(1000)
"""
OWNER = """
import sys, time
from pathlib import Path
from demo.scale import run
from demo.scale.traffic_plan import TrafficPlan
with run._event_producer(TrafficPlan(200, 10, 0), Path("fleet.toml")) as process:
    print(process.stdout.readline(), end="", flush=True)
    time.sleep(float(sys.argv[1]))
"""


@pytest.fixture
def environment(tmp_path):
    """In which the module of the producer is PRODUCER: it prints its id and arguments, and stays."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'demo.scale.event_producer' in sys.orig_argv:\n"
        f"    exec({PRODUCER.replace('sys.argv', 'sys.orig_argv[2:]')!r})\n"
    )
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}


def ended(pid):
    """Whether a process that is no child of this one is gone within a minute."""
    for _ in range(1_200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("killed", [True, False])
def test_the_producer_ends_with_the_demo_however_that_ends(environment, killed):
    command = [sys.executable, "-c", OWNER, "1000" if killed else "0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as owner:
        pid, *arguments = owner.stdout.readline().split()
        if killed:
            owner.send_signal(signal.SIGKILL)
        owner.wait(60)
    assert arguments[-4:] == ["fleet.toml", "200", "10", "0"]
    assert ended(int(pid))


def watched(monkeypatch, traffic, code, *, has_finished):
    """Run `_wait_until_finished` with a producer that prints or fails, and queries that never fail."""
    monkeypatch.setattr(run, "has_finished", lambda application, sent: has_finished)
    monkeypatch.setattr(run, "POLL_INTERVAL_S", 0.01)
    monkeypatch.setattr(run, "FINISH_TIMEOUT_S", 0.05)
    config = SimpleNamespace(kafka=SimpleNamespace(events="events"))
    application = SimpleNamespace(check=lambda: None, config=config)
    monitor = SimpleNamespace(poll=lambda **_: None, show=lambda where: None, fits=0)
    with run.subprocess.Popen([sys.executable, "-c", code], stdout=run.subprocess.PIPE, text=True) as process:
        return run._wait_until_finished(application, traffic, process, monitor)


def test_the_stream_has_ended_when_all_that_was_acknowledged_is_processed(monkeypatch, traffic):
    code = f"print({json.dumps(json.dumps({'sent': 7, 'seconds': 1.0}))})"
    assert watched(monkeypatch, traffic, code, has_finished=True) == 7
    with pytest.raises(StoreError, match="7 events were sent; not all were answered"):
        watched(monkeypatch, traffic, code, has_finished=False)


def test_a_producer_that_fails_is_an_error(monkeypatch, traffic):
    with pytest.raises(StoreError, match="the producer of the stream ended with an error"):
        watched(monkeypatch, traffic, "raise SystemExit(1)", has_finished=True)
