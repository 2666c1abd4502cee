"""Wait for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable

LIMIT_S = 60.0


def wait_until(holds: Callable[[], bool]) -> None:
    """Return when `holds` is true. Fails after LIMIT_S."""
    ends = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < ends, f"expected within {LIMIT_S:g} s; it did not happen"
        time.sleep(0.01)
