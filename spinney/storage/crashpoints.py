"""Named places between two writes where a test may end the process.

``SPINNEY_CRASH_AT=ingest.events:3`` kills this process with SIGKILL right after the step `events` of the query
`ingest` was written for its batch 3; without a number, at the first such step. Nothing happens without the variable.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "SPINNEY_CRASH_AT"


def reached(name: str, batch_id: int) -> None:
    wanted = os.environ.get(VARIABLE, "")
    place, _, batch = wanted.partition(":")
    if place == name and batch in ("", str(batch_id)):
        os.kill(os.getpid(), signal.SIGKILL)
