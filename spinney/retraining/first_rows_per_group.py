"""Select the first rows of each group in some order from batches of rows, with memory for the selected rows only.

A group may have a hundred times more rows than its window. Rows that can no longer be selected are dropped while
further batches are read.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

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
    """Select the newest `max_rows` rows of each group, in the order (group, event_time).

    Among rows of the same time, those with the greatest event_ids are kept.
    """
    return lambda rows: _newest(rows, owner, owners, max_rows)


def _newest(rows: pa.Table, owner: str, owners: int, most: int) -> Integers:
    of, times = to_int64(rows.column(owner)), to_int64(rows.column("event_time").cast(pa.int64()))
    order = np.lexsort((times, of))
    of, times = of[order], times[order]
    starts = np.searchsorted(of, np.arange(owners + 1))
    begins = np.maximum(starts[:-1], starts[1:] - most)
    for g in np.flatnonzero(begins > starts[:-1]).tolist():
        cut = int(begins[g])
        if times[cut - 1] == times[cut]:
            low = int(starts[g] + np.searchsorted(times[starts[g] : starts[g + 1]], times[cut], side="left"))
            high = int(starts[g] + np.searchsorted(times[starts[g] : starts[g + 1]], times[cut], side="right"))
            ids = rows.column("event_id").take(pa.array(order[low:high])).to_pylist()
            order[low:high] = order[low:high][np.argsort(np.array(ids, dtype=object), kind="stable")]
    return order[np.arange(len(order)) >= np.repeat(begins, np.diff(starts))]


def lowest(owner: str, by: str, max_rows: int) -> Choose:
    """Select the `max_rows` rows of each group with the lowest integers in column `by`; rows equal to the last one are
    kept too.
    """
    return lambda rows: _lowest(to_int64(rows.column(owner)), to_int64(rows.column(by)), max_rows)


def _lowest(of: Integers, by: Integers, most: int) -> Integers:
    if not len(of):
        return np.empty(0, dtype=np.int64)
    order = np.lexsort((by, of))
    of, by = of[order], by[order]
    last = np.minimum(np.searchsorted(of, of, side="left") + most, np.searchsorted(of, of, side="right")) - 1
    kept: Integers = order[by <= by[last]]
    return kept


def to_int64(column: pa.ChunkedArray) -> Integers:
    """Return the column as a NumPy int64 array."""
    return np.asarray(column.to_numpy(), dtype=np.int64)
