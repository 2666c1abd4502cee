from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spinney.storage import step_observer
from spinney.testing.crash import killing_at


@pytest.mark.parametrize(
    ("point", "kills"),
    [("ingest.events:3", True), ("ingest.events", True), ("ingest.events:4", False), ("ingest:3", False)],
)
def test_the_process_ends_only_at_the_step_that_is_named(monkeypatch, point: str, kills: bool) -> None:
    sent = []
    monkeypatch.setattr(os, "kill", lambda pid, what: sent.append((pid, what)))
    with step_observer.observed_by(killing_at(point)):
        step_observer.announce("ingest.events", 3)
    assert sent == ([(os.getpid(), signal.SIGKILL)] if kills else [])


def test_no_step_is_reported_once_the_observer_is_gone(monkeypatch) -> None:
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("killed"))
    with step_observer.observed_by(killing_at("ingest.events")):
        pass
    step_observer.announce("ingest.events", 3)


def test_a_command_that_never_stores_the_step_runs_as_usual(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "spinney.testing.crash", "ingest.events:3", "--version"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("spinney")
