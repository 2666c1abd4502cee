"""Who answers: the fleet's champions, from its promotions."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from schemas import tables
from spinney.core.champions import fleet_champions
from spinney.storage.layout import FleetStore
from spinney.tables.snapshot import Wanted, snapshots


def current(store: FleetStore, pins: Mapping[str, int], wanted: Wanted) -> pa.Table:
    """One row per wanted group that any promotion names: champion_table.SCHEMA.

    fit_ms: of its last fit that was decided about; null if none was.
    """
    names = {name: name for name in fleet_champions.INPUT_COLUMNS}
    rows = [table.read(names, wanted) for table in snapshots(store, tables.PROMOTIONS, pins)]
    return fleet_champions.select_champions(pa.concat_tables(rows))
