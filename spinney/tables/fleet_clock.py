"""Now, by the fleet's clock: the wall's, or the greatest event time stored."""

from __future__ import annotations

from datetime import UTC, datetime

from schemas import tables
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.snapshot import Shards, snapshot


def fleet_clock(store: FleetStore) -> datetime | None:
    """None before the first event, where the clock is the events'. Opens only the files that may hold the newest."""
    if store.fleet.clock == "wall":
        return datetime.now(UTC)
    place = store.directory(tables.EVENTS)
    if delta.opened(place) is None:
        return None
    newest: datetime | None = snapshot(place).greatest("event_time", Shards(0, store.fleet.shards - 1))
    return newest
