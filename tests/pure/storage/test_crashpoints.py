from __future__ import annotations

import os
import signal

import pytest

from spinney.storage import crashpoints


@pytest.mark.parametrize(
    ("wanted", "kills"),
    [("", False), ("ingest.events:3", True), ("ingest.events", True), ("ingest.events:4", False), ("ingest:3", False)],
)
def test_the_process_ends_only_at_the_place_that_is_named(monkeypatch, wanted: str, kills: bool) -> None:
    sent = []
    monkeypatch.setattr(os, "kill", lambda pid, what: sent.append((pid, what)))
    monkeypatch.setenv("SPINNEY_CRASH_AT", wanted)
    crashpoints.reached("ingest.events", 3)
    assert sent == ([(os.getpid(), signal.SIGKILL)] if kills else [])


def test_without_the_variable_nothing_happens(monkeypatch) -> None:
    monkeypatch.delenv("SPINNEY_CRASH_AT", raising=False)
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("killed"))
    crashpoints.reached("ingest.events", 3)
