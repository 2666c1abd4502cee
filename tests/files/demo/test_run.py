from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from demo import run
from demo.run import DemoOptions, prepare
from demo.stage_timer import StageTimer
from spinney.core.errors import StoreError


def test_a_demo_too_short_for_its_change_makes_none_and_says_so():
    reported = StringIO()
    prepared = prepare(DemoOptions(days=1), "localhost:9", StageTimer(Console(file=reported, width=200)))
    assert prepared.data.injected == frozenset()
    assert reported.getvalue() == "No change is injected: it would come after 3 days, and 1 stream.\n"


def test_a_demo_of_its_own_length_says_nothing_of_its_change():
    reported = StringIO()
    prepared = prepare(DemoOptions(), "localhost:9", StageTimer(Console(file=reported, width=200)))
    assert len(prepared.data.injected) == 20
    assert reported.getvalue() == ""


def test_a_loop_that_does_not_start_stops_what_was_started_of_it(monkeypatch):
    done = []

    class Refusing:
        def __init__(self, *_, **__):
            pass

        def start(self):
            done.append("started")
            raise StoreError("query score: no")

        def stop(self):
            done.append("stopped")

    for place, name in ((run.client, "ensure_topics"), (run.delta, "create_tables"), (run.signing_key, "ensure_key")):
        monkeypatch.setattr(place, name, lambda *_, **__: None)
    for name in ("_load_history", "retrain"):
        monkeypatch.setattr(run, name, lambda *_, **__: None)
    monkeypatch.setattr(run, "Application", Refusing)
    timer = StageTimer(Console(file=StringIO()))
    prepared = prepare(DemoOptions(days=1), "localhost:9", timer)
    with pytest.raises(StoreError, match="query score: no"):
        run._run_loop(prepared, None, timer)
    assert done == ["started", "stopped"]
