"""Run a `spinney` command and kill its process right after it has stored a named step.

    python -m spinney.testing.crash ingest.events:3 stream --config fleet.toml

In this example the process is killed (SIGKILL) after the query `ingest` has stored the step `events` of its batch 3.
Without a number it is killed after the first such step. If the command never stores that step, it runs normally.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from spinney.storage.step_observer import StepObserver, observed_by


def killing_at(point: str) -> StepObserver:
    """Return an observer that kills this process. point: ``step`` or ``step:batch_id``."""
    name, _, number = point.partition(":")

    def kill(step: str, batch_id: int) -> None:
        if step == name and number in ("", str(batch_id)):
            os.kill(os.getpid(), signal.SIGKILL)

    return kill


def run(arguments: Sequence[str]) -> None:
    """Run a command of `spinney`. arguments: the point, then those of the command."""
    from spinney.cli import main

    point, *command = arguments
    with observed_by(killing_at(point)):
        main(command, prog_name="spinney")


if __name__ == "__main__":
    run(sys.argv[1:])
