"""Read the losses of a fleet's champions by shard, for the calibration of intervals."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pyarrow as pa

from schemas import tables
from spinney.core.champions import fleet_champion_selection, held_out_loss_codec
from spinney.core.champions.promotion import CHAMPION_COLUMNS
from spinney.core.intervals.champion_intervals import Pool, pools_of
from spinney.storage.layout import FleetStore
from spinney.tables import lookup
from spinney.tables.lookup import InShards, NotAfter

ROWS_AT_ONCE = 1_000_000
"""Rows of `promotions` in memory at a time, about 300 bytes each."""


def read_pools(store: FleetStore, shards: Collection[int], until: NotAfter | None) -> dict[int, Pool]:
    """Return the losses of the champions in these shards, in the order of their keys.

    until: only decisions up to this time count; None: all. Raises StoreError if the table does not exist.
    """
    n_shards = store.fleet.shards
    most = max(1, n_shards * ROWS_AT_ONCE // max(1, lookup.count_rows(store, tables.PROMOTIONS)))
    pools: dict[int, Pool] = {}
    for wanted in _runs(shards, most):
        columns = (*CHAMPION_COLUMNS, *held_out_loss_codec.COLUMNS)
        pools |= pools_of(_champions(lookup.read_where(store, tables.PROMOTIONS, columns, until, wanted)), n_shards)
    return pools


def _runs(shards: Collection[int], most: int) -> Iterator[InShards]:
    """Return the shards as ranges of consecutive shards, each with at most `most` of them."""
    first = last = None
    for shard in sorted(shards):
        if first is None or last is None or shard > last + 1 or shard - first >= most:
            if first is not None and last is not None:
                yield InShards(first, last)
            first = shard
        last = shard
    if first is not None and last is not None:
        yield InShards(first, last)


def _champions(rows: pa.Table) -> pa.Table:
    """Return the promotion of each group's champion, sorted by key."""
    places = fleet_champion_selection.locate_champions(rows).champion_row
    return rows.take(pa.array(places[places >= 0]))
