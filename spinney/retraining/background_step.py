"""Run one step of a round in a thread, while the next step runs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self


class BackgroundStep:
    """Runs at most one step at a time in a thread: the gate of a part while Spark fits the next part.

    The caller calls `wait` before it stores the next step, so that the steps are stored in the same order as without a
    thread, and a killed round is resumed in the same way.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="spinney-round-step")
        self._running: Future[None] | None = None

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Wait for the step that runs. Its error is not raised if another one is under way."""
        try:
            if error is None:
                self.wait()
        finally:
            self._executor.shutdown()

    def start(self, step: Callable[[], None]) -> None:
        """Run a step in the thread, once the one before is done."""
        self.wait()
        self._running = self._executor.submit(step)

    def wait(self) -> None:
        """Return when the step is done. Raises its error."""
        running, self._running = self._running, None
        if running is not None:
            running.result()
