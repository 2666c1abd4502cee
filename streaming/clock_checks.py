"""Refuse a batch under a wrong clock before it writes.

Remembered ids, and predictions that wait for their labels, expire by the timestamps of batches. A single batch dated a
year ahead would make the query forget all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from spinney.core.config import Kafka
from spinney.core.errors import StoreError
from spinney.storage import checkpoints

MIN_TOLERANCE, MAX_TOLERANCE = timedelta(seconds=1), timedelta(minutes=10)
"""Bounds of the tolerated jump of the wall clock between two batches."""

ReadClock = Callable[[], float]
"""Returns seconds."""


def clock_tolerance(kafka: Kafka) -> timedelta:
    """Return how far this machine's clock may jump between two batches without the second being refused.

    It is a small part of the time for which ids and predictions are remembered: a jump forward makes the query forget
    that much too early, whether or not the clock is set back later.
    """
    return max(MIN_TOLERANCE, min(MAX_TOLERANCE, kafka.duplicates_within / 4, kafka.label_horizon / 2))


def seconds_since_boot() -> float:
    """Return seconds of a monotonic clock that includes sleep, which on Linux is not the usual monotonic clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class ClockJumpCheck:
    """Compares the wall clock with the machine's monotonic clock from batch to batch.

    query: named in the error. tolerance: see `clock_tolerance`.
    """

    def __init__(
        self,
        query: str,
        tolerance: timedelta,
        wall: ReadClock = time.time,
        monotonic: ReadClock = seconds_since_boot,
    ) -> None:
        self._query, self._tolerance, self._wall, self._monotonic = query, tolerance, wall, monotonic
        self._offset_s = wall() - monotonic()

    def check(self) -> None:
        """Raise StoreError if the wall clock jumped since the last check, forwards or backwards."""
        offset_s = self._wall() - self._monotonic()
        jump = timedelta(seconds=offset_s - self._offset_s)
        if abs(jump) > self._tolerance:
            raise StoreError(
                f"query {self._query}: this machine's clock jumped by {jump} between two batches, to "
                f"{datetime.fromtimestamp(self._wall(), UTC):%Y-%m-%d %H:%M} UTC; the batch was not written. Set the "
                "clock right, then start again; if it is right (the machine was paused), start again at once"
            )
        self._offset_s = offset_s


def refuse_clock_behind_checkpoint(query: str, location: str, now: datetime, tolerance: timedelta) -> None:
    """Raise StoreError if the checkpoint's newest batch began later than `now`, by more than the tolerance."""
    began = checkpoints.newest_started_batch(location)
    if began is None or began.started_at <= now + tolerance:
        return
    remedy = (
        f"nothing of it was written: set the clock right, remove {location}/offsets/{began.batch_id}, and start again"
        if not began.is_committed
        else "set the clock right, or wait until then: until then ids would be forgotten too early"
    )
    raise StoreError(
        f"query {query}: its newest batch ({began.batch_id}) is dated {_utc_text(began.started_at)}, and this "
        f"machine's clock says {_utc_text(now)}; {remedy}"
    )


def _utc_text(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
