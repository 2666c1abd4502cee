"""Read the champions of a fleet from its promotions."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from schemas import tables
from spinney.core.champions import fleet_champion_selection
from spinney.storage.layout import FleetStore
from spinney.tables.snapshot import GroupFilter, take_snapshots


def read_champions(store: FleetStore, pins: Mapping[str, int], wanted: GroupFilter) -> pa.Table:
    """Return one row per wanted group that any promotion names: fleet_champion_selection.SCHEMA.

    pins: directory name -> version of the table `promotions` to read.

    fit_ms of a row is that of the group's last fit that was decided about; null if there is none.
    """
    names = {name: name for name in fleet_champion_selection.INPUT_COLUMNS}
    rows = [table.read(names, wanted) for table in take_snapshots(store, tables.PROMOTIONS, pins)]
    return fleet_champion_selection.select_champions(pa.concat_tables(rows))
