"""A machine's clock that leaps: a batch under a wrong clock is refused before it writes.

Duplicates and joins forget by a watermark that follows the batches' timestamps. One batch dated a year ahead would make
everything after the mended clock too late, and silently dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from spinney.core.config import Kafka
from spinney.core.errors import StoreError
from spinney.storage import checkpoints
from spinney.storage.checkpoints import Begun

CORRECTION, LEAP = timedelta(seconds=1), timedelta(minutes=10)
"""By how much the wall clock may always leap between two batches, and by how much at the most."""

Seconds = Callable[[], float]


def watermark_delay(kafka: Kafka) -> timedelta:
    """How far the watermark of duplicates stays behind the newest arrival.

    Spark forgets an id once the watermark has reached its arrival plus this delay, so when the newest arrival is twice
    the delay after its own: half of `duplicates_within`, to remember for as long as was asked.
    """
    return kafka.duplicates_within / 2


def interval(length: timedelta) -> str:
    """As Spark reads it."""
    return f"{length // timedelta(milliseconds=1)} milliseconds"


def tolerance(kafka: Kafka) -> timedelta:
    """What the clock may leap: half of what the shortest watermark is behind, so that it may leap back as well."""
    return max(CORRECTION, min(LEAP, watermark_delay(kafka) / 2, kafka.label_horizon / 2))


def since_boot() -> float:
    """Seconds that no correction changes and that go on while the machine sleeps; on Linux those are a clock apart."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Clock:
    """Compares the wall's clock with the machine's steady one from batch to batch. tolerated: see `tolerance`."""

    def __init__(
        self, query: str, tolerated: timedelta, wall: Seconds = time.time, steady: Seconds = since_boot
    ) -> None:
        self._query, self._tolerated, self._wall, self._steady = query, tolerated, wall, steady
        self._ahead = wall() - steady()

    def check(self) -> None:
        """Raises StoreError when the wall clock leapt since the last check, forwards or backwards."""
        ahead = self._wall() - self._steady()
        leapt = timedelta(seconds=ahead - self._ahead)
        if abs(leapt) > self._tolerated:
            raise StoreError(
                f"query {self._query}: this machine's clock leapt by {leapt} between two batches, to "
                f"{datetime.fromtimestamp(self._wall(), UTC):%Y-%m-%d %H:%M} UTC; the batch was not written. Set the "
                "clock right, then start again; if it is right (the machine was paused), start again at once"
            )
        self._ahead = ahead


def refuse_late(query: str, location: str, begun: Begun) -> None:
    """Raises StoreError when a batch is dated before its watermark: Spark would drop all its records as too late."""
    if begun.at > begun.watermark:
        return
    raise StoreError(
        f"query {query}: its batch {begun.batch_id} is dated {_said(begun.at)}, and after the batches before it all up "
        f"to {_said(begun.watermark)} counts as late; this machine's clock was set back. Nothing of the batch was "
        f"written: set the clock right, remove {location}/offsets/{begun.batch_id}, and start again after that time"
    )


def refuse_the_past(query: str, location: str, now: datetime, tolerated: timedelta) -> None:
    """Raises StoreError when the checkpoint's newest batch was begun later than it is now, or before its watermark."""
    began = checkpoints.newest_begun(location)
    if began is None:
        return
    if not began.ended:
        refuse_late(query, location, began)
    if began.at <= now + tolerated:
        return
    remedy = (
        f"nothing of it was written: set the clock right, remove {location}/offsets/{began.batch_id}, and start again"
        if not began.ended
        else "set the clock right, or wait until then: until then every record would count as late"
    )
    raise StoreError(
        f"query {query}: its newest batch ({began.batch_id}) is dated {_said(began.at)}, and this machine's clock says "
        f"{_said(now)}; {remedy}"
    )


def _said(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
