"""Report the last round if it was halted."""

from __future__ import annotations

from schemas import tables
from spinney.storage.layout import FleetStore
from spinney.tables import lookup

_COLUMNS = ("round_id", "started_at", "halted")


def describe_halt(store: FleetStore) -> str | None:
    """Return why the newest round replaced no champion; None if it was not halted. Raises StoreError without tables."""
    newest = lookup.read_newest(store, tables.ROUNDS, _COLUMNS, "started_at", 1).to_pylist()
    if not newest or newest[0]["halted"] is None:
        return None
    return (
        f"the last round, {newest[0]['round_id']}, was halted and replaced no champion: {newest[0]['halted']}. Find "
        "what broke (`spinney fleet --state failed`, `spinney dead-letters list`), then run `spinney retrain --all`"
    )
