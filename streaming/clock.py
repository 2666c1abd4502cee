"""A machine's clock that leaps: a batch under a wrong clock is refused before it writes.

Duplicates and joins forget by a watermark that follows the batches' timestamps. One batch dated a year ahead would make
everything after the mended clock too late, and silently dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from spinney.core.errors import StoreError
from spinney.stores import checkpoints

LEAP = timedelta(minutes=10)
"""What the wall clock may differ from the steady one between two batches: a correction, not a leap."""

Seconds = Callable[[], float]


class Clock:
    """Compares the wall's clock with the machine's steady one from batch to batch."""

    def __init__(self, query: str, wall: Seconds = time.time, steady: Seconds = time.monotonic) -> None:
        self._query, self._wall, self._steady = query, wall, steady
        self._ahead = wall() - steady()

    def check(self) -> None:
        """Raises StoreError when the wall clock leapt since the last check, forwards or backwards."""
        ahead = self._wall() - self._steady()
        leapt = timedelta(seconds=ahead - self._ahead)
        if abs(leapt) > LEAP:
            raise StoreError(
                f"query {self._query}: this machine's clock leapt by {leapt} between two batches, to "
                f"{datetime.fromtimestamp(self._wall(), UTC):%Y-%m-%d %H:%M} UTC; the batch was not written. Set the "
                "clock right, then start again"
            )
        self._ahead = ahead


def refuse_the_past(query: str, location: str, now: datetime) -> None:
    """Raises StoreError when the checkpoint's newest batch was begun later than it is now."""
    began = checkpoints.newest_begun(location)
    if began is None or began.at <= now + LEAP:
        return
    remedy = (
        f"nothing of it was written: set the clock right, remove {location}/offsets/{began.batch_id}, and start again"
        if not began.ended
        else "set the clock right, or wait until then: until then every record would count as late"
    )
    raise StoreError(
        f"query {query}: its newest batch ({began.batch_id}) is dated {began.at:%Y-%m-%d %H:%M} UTC, and this "
        f"machine's clock says {now:%Y-%m-%d %H:%M}; {remedy}"
    )
