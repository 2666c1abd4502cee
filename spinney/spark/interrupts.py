"""A Ctrl-C that waits: for what must not be left half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def deferred() -> Iterator[None]:
    """A SIGINT that comes inside is delivered at the end, to the handler that was there before.

    Nothing changes outside the main thread: Python interrupts only that one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def remember(*_: object) -> None:
        nonlocal asked
        asked = True

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if asked:
            signal.raise_signal(signal.SIGINT)
