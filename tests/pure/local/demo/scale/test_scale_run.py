from __future__ import annotations

import json
import sys
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from spinney.core.errors import StoreError
from spinney.local.demo.run import Stage
from spinney.local.demo.scale import run
from spinney.local.demo.scale.generator import Sender
from spinney.local.demo.scale.traffic import Traffic


@pytest.fixture
def traffic():
    return Traffic(200, 10, 0)


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
    sender = Sender(Producer(), "events")
    sender.send(iter([("a", "1"), ("b", "2")]))
    sender.finish()
    assert sender.sent == 2


@pytest.mark.parametrize(
    ("producer", "said"), [(Producer(refused="too large"), "0 records.*too large"), (Producer(lost=3), "3 records")]
)
def test_records_that_were_not_acknowledged_are_an_error(producer, said):
    sender = Sender(producer, "events")
    sender.send(iter([("a", "1")]))
    with pytest.raises(StoreError, match=said):
        sender.finish()


def test_a_loop_that_does_not_start_stops_what_was_started_of_it(traffic):
    done = []

    def start():
        done.append("started")
        raise StoreError("query score: no")

    application = SimpleNamespace(start=start, stop=lambda: done.append("stopped"))
    with pytest.raises(StoreError, match="query score: no"):
        run._stream(application, traffic, Path("fleet.toml"), set(), Stage(Console(file=StringIO())))
    assert done == ["started", "stopped"]


def watched(monkeypatch, traffic, code, *, settled):
    """What `_watched` makes of a producer that prints or fails, with a loop that never fails."""
    monkeypatch.setattr(run, "settled", lambda application, sent: settled)
    monkeypatch.setattr(run, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(run, "SECONDS_TO_FINISH", 0.05)
    config = SimpleNamespace(kafka=SimpleNamespace(events="events"))
    application = SimpleNamespace(check=lambda: None, config=config)
    watch = SimpleNamespace(look=lambda **_: None, show=lambda where: None, fits=0)
    with run.subprocess.Popen([sys.executable, "-c", code], stdout=run.subprocess.PIPE, text=True) as process:
        return run._watched(application, traffic, process, watch)


def test_the_stream_has_ended_when_all_that_was_acknowledged_is_settled(monkeypatch, traffic):
    code = f"print({json.dumps(json.dumps({'sent': 7, 'seconds': 1.0}))})"
    assert watched(monkeypatch, traffic, code, settled=True) == 7
    with pytest.raises(StoreError, match="7 events were sent; not all were answered"):
        watched(monkeypatch, traffic, code, settled=False)


def test_a_producer_that_fails_is_an_error(monkeypatch, traffic):
    with pytest.raises(StoreError, match="the producer of the stream ended with an error"):
        watched(monkeypatch, traffic, "raise SystemExit(1)", settled=True)
