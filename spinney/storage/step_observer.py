"""Announces each step right after it was stored, so that a test can inspect the fleet or kill the process there.

Steps are the writes of a batch (``ingest.events``, ``weekly.fit.1``) and those of a migration (``migrate.table``).
Without an observer, as in production, an announcement does nothing. `spinney.testing.crash` kills a process at a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

StepObserver = Callable[[str, int], None]
"""Called with the name of the step and the batch id; 0 where there are no batches."""


def _ignore(step: str, batch_id: int) -> None:
    del step, batch_id


_observer: StepObserver = _ignore


def announce(step: str, batch_id: int) -> None:
    """Call the observer of this process after a step was stored. Its exceptions are passed on."""
    _observer(step, batch_id)


@contextmanager
def observed_by(observer: StepObserver) -> Iterator[None]:
    """Call `observer` for each step that this process stores inside the context."""
    global _observer  # noqa: PLW0603 - one observer per process: the steps of all writers are announced to it
    before, _observer = _observer, observer
    try:
        yield
    finally:
        _observer = before
