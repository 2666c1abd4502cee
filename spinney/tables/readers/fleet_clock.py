"""Read the fleet's clock: the current wall-clock time, or the greatest stored event time."""

from __future__ import annotations

from datetime import UTC, datetime

from schemas import tables
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.snapshot import ShardRange, take_snapshot


def read_fleet_clock(store: FleetStore) -> datetime | None:
    """Return the current time by the fleet's clock; None on event time before the first event.

    Opens only the files that may have the newest event.
    """
    if store.fleet.clock == "wall":
        return datetime.now(UTC)
    place = store.directory(tables.EVENTS)
    if delta.open_table(place) is None:
        return None
    newest: datetime | None = take_snapshot(place).greatest("event_time", ShardRange(0, store.fleet.shards - 1))
    return newest
