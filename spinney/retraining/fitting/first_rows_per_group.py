"""Select the first rows of each group in some order from batches of rows, with memory for the selected rows only.

A group may have a hundred times more rows than its window. Rows that can no longer be selected are dropped while
further batches are read.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

HELD_ROWS = 2_000_000
"""Rows that are held before rows are dropped; a task has as many events."""

Integers = npt.NDArray[np.int64]
Choose = Callable[[pa.Table], Integers]


class Selection:
    """Keeps the rows that `choose` selects from all rows that were added.

    choose: returns the positions of the rows to keep, in their final order. A row that it drops must also be dropped
    when more rows are added. owner: the column with the number of a row's group, below `owners`. max_per_group:
    `choose` keeps all rows of a group with at most this many rows; if no group has more, the rows keep their order.
    None: not known.
    """

    def __init__(
        self, schema: pa.Schema, owner: str, owners: int, choose: Choose, max_per_group: int | None = None
    ) -> None:
        self.schema = schema
        self._max_per_group = max_per_group
        self._choose, self._owner, self._owners = choose, owner, owners
        self._held = [schema.empty_table()]
        self.held_rows, self._drop_above_rows = 0, HELD_ROWS
        self.dropped: npt.NDArray[np.bool_] = np.zeros(owners, dtype=np.bool_)
        """Whether rows of each group were dropped. Final after `table` was called."""

    def add(self, rows: pa.Table) -> None:
        """Add rows, and drop rows that cannot be selected if too many are held."""
        if not rows.num_rows:
            return
        self._held.append(rows)
        self.held_rows += rows.num_rows
        if self.held_rows > self._drop_above_rows:
            self._drop()

    def table(self) -> pa.Table:
        """Return the rows that are selected from all that were added."""
        self._drop()
        return self._held[0]

    def _drop(self) -> None:
        whole = pa.concat_tables(self._held)
        counts = rows_per_group(whole, self._owner, self._owners)
        if self._max_per_group is not None and counts.max(initial=0) <= self._max_per_group:
            kept = whole
        else:
            kept = whole.take(pa.array(self._choose(whole)))
            self.dropped |= counts > rows_per_group(kept, self._owner, self._owners)
        self._held, self.held_rows = [kept], kept.num_rows
        # Twice as many, so that the selection does not run again after every few rows.
        self._drop_above_rows = max(HELD_ROWS, 2 * kept.num_rows)


def rows_per_group(rows: pa.Table, owner: str, owners: int) -> Integers:
    """Number of rows of each group, shape (owners,)."""
    return np.bincount(to_int64(rows.column(owner)), minlength=owners).astype(np.int64)


def newest(owner: str, owners: int, max_rows: int) -> Choose:
    """Select the newest `max_rows` events of each group, in the order (group, event_time).

    Among events of the same time, those with the greatest event_ids are kept. Rows of one event, with the same id and
    time, count as one and are all kept: `spinney.core.training.training_set` chooses among them.
    """
    return lambda rows: _newest(rows, owner, owners, max_rows)


def _newest(rows: pa.Table, owner: str, owners: int, most: int) -> Integers:
    of, times = to_int64(rows.column(owner)), to_int64(rows.column("event_time").cast(pa.int64()))
    order = np.lexsort((times, of))
    of, times = of[order], times[order]
    starts = np.searchsorted(of, np.arange(owners + 1))
    is_cut = np.diff(starts) > most
    if not is_cut.any():
        return order
    same = np.zeros(len(order), dtype=np.bool_)
    same[1:] = is_cut[of[1:]] & (of[1:] == of[:-1]) & (times[1:] == times[:-1])
    order, is_copy = _in_order_of_ids(order, same, rows.column("event_id"))
    number = np.cumsum(~is_copy)
    kept: Integers = order[number[starts[1:] - 1][of] - number < most]
    return kept


def _in_order_of_ids(
    order: Integers, same: npt.NDArray[np.bool_], ids: pa.ChunkedArray
) -> tuple[Integers, npt.NDArray[np.bool_]]:
    """Reorder rows of the same group and time by event_id. Returns the order, and the mask of rows with the same id as
    the one before.

    same: for each row in `order`, whether it has the group and the time of the one before.
    """
    is_copy = np.zeros(len(order), dtype=np.bool_)
    if not same.any():
        return order, is_copy
    is_tied = same.copy()
    is_tied[:-1] |= same[1:]
    places = np.flatnonzero(is_tied)
    tied = pa.table({"run": np.cumsum(~same)[places], "id": ids.take(pa.array(order[places]))})
    within = pc.sort_indices(tied, [("run", "ascending"), ("id", "ascending")])
    reordered, tied = order.copy(), tied.take(within).combine_chunks()
    reordered[places] = order[places][np.asarray(within)]
    names = tied.column("id").combine_chunks()
    has_same_id = np.asarray(pc.equal(names[1:], names[:-1]))
    is_copy[places[1:]] = same[places[1:]] & has_same_id
    return reordered, is_copy


def lowest(owner: str, by: str, max_values: int) -> Choose:
    """Select the rows of each group with its `max_values` lowest distinct integers in column `by`."""
    return lambda rows: _lowest(to_int64(rows.column(owner)), to_int64(rows.column(by)), max_values)


def _lowest(of: Integers, by: Integers, most: int) -> Integers:
    if not len(of):
        return np.empty(0, dtype=np.int64)
    order = np.lexsort((by, of))
    of, by = of[order], by[order]
    is_other = np.ones(len(order), dtype=np.bool_)
    is_other[1:] = (of[1:] != of[:-1]) | (by[1:] != by[:-1])
    number = np.cumsum(is_other)
    kept: Integers = order[number - number[np.searchsorted(of, of, side="left")] < most]
    return kept


def to_int64(column: pa.ChunkedArray) -> Integers:
    """Return the column as a NumPy int64 array."""
    return np.asarray(column.to_numpy(), dtype=np.int64)
