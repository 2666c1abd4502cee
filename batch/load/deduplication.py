"""Deduplicate the rows of some shards, drop those that are stored already, and sort them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from batch.load.group_numbers import GroupNumbers, Numbers
from batch.load.vectorized_validation import GROUP, PLACE
from spinney.core.records.column_conversion import Mask

STORED_ROWS_PER_STEP = 1_000_000
"""Stored rows that are compared in one step. Each step builds a hash table of the new ids, so small steps would be
slow.
"""


class Merger:
    """Merges rows into a table. groups: the groups of all rows; no group is added afterwards."""

    def __init__(self, groups: GroupNumbers) -> None:
        self._shards = groups.shards()
        self._keys = groups.keys()
        self._ranks = groups.ranks()

    def distinct(self, rows: pa.Table, time: str) -> pa.Table:
        """Return one row per (group, event_id): the earliest time; if times are equal, the first in the source."""
        identity = _RowIdentities(rows).of_rows
        if len(pc.unique(pa.array(identity))) == len(identity):
            return rows
        order = np.lexsort((np.asarray(rows[PLACE]), _micros(rows[time]), identity))
        ordered = identity[order]
        first = np.ones(len(order), dtype=np.bool_)
        first[1:] = ordered[1:] != ordered[:-1]
        return rows.take(pa.array(np.sort(order[first])))

    def missing(self, rows: pa.Table, stored_table: ds.Dataset | None) -> pa.Table:
        """Return the rows whose (group_key, event_id) is not stored. stored_table: None if it is empty."""
        if stored_table is None or not rows.num_rows:
            return rows
        found = self.stored(rows, stored_table)
        return rows if not found.any() else rows.filter(pa.array(~found))

    def stored(self, rows: pa.Table, stored_table: ds.Dataset) -> Mask:
        """Return the mask of rows that are in the table, shape (rows,)."""
        identity = _RowIdentities(rows)
        numbers = np.unique(np.asarray(rows[GROUP]))
        keys = self._keys.take(pa.array(numbers))
        found: Mask = np.zeros(rows.num_rows, dtype=np.bool_)
        for part in self._parts(stored_table, self._shards[numbers]):
            codes = pc.index_in(part["event_id"], value_set=identity.ids)
            places = pc.index_in(part["group_key"].filter(codes.is_valid()), value_set=keys)
            codes = np.asarray(codes.drop_null().filter(places.is_valid()))
            if len(codes):
                groups = numbers[np.asarray(places.drop_null())]
                found |= np.isin(identity.of_rows, identity.number(groups, codes))
        return found

    def _parts(self, stored_table: ds.Dataset, shards: np.ndarray) -> Iterator[pa.Table]:
        """Yield (group_key, event_id) of the stored rows of these shards, at least STORED_ROWS_PER_STEP per step."""
        # By the shard alone: a merge or delete may leave strings as views, which Arrow cannot filter by.
        shard = ds.field("shard")
        low, high = int(shards.min()), int(shards.max())
        wanted = (shard >= low) & (shard <= high)
        scanner = stored_table.scanner(
            ["group_key", "event_id"], filter=wanted, batch_readahead=2, fragment_readahead=1, use_threads=True
        )
        kept: list[pa.RecordBatch] = []
        rows = 0
        for batch in scanner.to_batches():
            kept.append(batch)
            rows += batch.num_rows
            if rows >= STORED_ROWS_PER_STEP:
                yield _texts(kept)
                kept, rows = [], 0
        if rows:
            yield _texts(kept)

    def order(self, rows: pa.Table, time: str | None) -> Numbers:
        """Return indices that sort the rows by shard, group_key, time, event_id, so that readers can skip row groups.

        time: None keeps the given order within a group.
        """
        ranks = self._ranks[np.asarray(rows[GROUP])]
        if time is None:
            return np.argsort(ranks, kind="stable")
        times = _micros(rows[time])
        order: Numbers = np.lexsort((times, ranks))
        ranks, times = ranks[order], times[order]
        tied = np.zeros(len(order), dtype=np.bool_)
        same = (ranks[1:] == ranks[:-1]) & (times[1:] == times[:-1])
        tied[1:] |= same
        tied[:-1] |= same
        if tied.any():
            ties = order[tied]
            ids = rows["event_id"].take(pa.array(ties))
            table = pa.table({"rank": ranks[tied], "time": times[tied], "id": ids})
            by = [(name, "ascending") for name in table.column_names]
            order[tied] = ties[np.asarray(pc.sort_indices(table, by))]
        return order


class _RowIdentities:
    """(group, event_id) of each row as one integer: group number × distinct ids + index of the id."""

    def __init__(self, rows: pa.Table) -> None:
        ids = rows["event_id"]
        ids = pa.concat_arrays(ids.chunks) if ids.num_chunks else pa.array([], pa.string())
        encoded = ids.dictionary_encode()
        self.ids = encoded.dictionary
        self.of_rows = self.number(np.asarray(rows[GROUP]), np.asarray(encoded.indices))

    def number(self, groups: Numbers, codes: np.ndarray) -> Numbers:
        numbers: Numbers = groups * max(len(self.ids), 1) + codes
        return numbers


def _micros(times: pa.ChunkedArray) -> Numbers:
    return np.asarray(times.cast(pa.int64()))


def _texts(batches: list[pa.RecordBatch]) -> pa.Table:
    return pa.Table.from_batches(batches).cast(pa.schema([("group_key", pa.string()), ("event_id", pa.string())]))
