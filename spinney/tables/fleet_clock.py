"""Now, by the fleet's clock: the wall's, or the greatest event time stored."""

from __future__ import annotations

from datetime import UTC, datetime

from schemas import tables
from spinney.core.config import Config
from spinney.storage.layout import directory
from spinney.tables import delta
from spinney.tables.snapshot import Shards, snapshot


def fleet_clock(config: Config) -> datetime | None:
    """None before the first event, where the clock is the events'. Opens only the files that may hold the newest."""
    if config.fleet.clock == "wall":
        return datetime.now(UTC)
    place = directory(config, tables.EVENTS)
    if delta.opened(config, place) is None:
        return None
    newest: datetime | None = snapshot(config, place).greatest("event_time", Shards(0, config.fleet.shards - 1))
    return newest
