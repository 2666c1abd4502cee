"""The first rows of each group in some order, out of rows that come batch by batch: memory follows what is kept.

A group may have a hundred times more rows than its window. What cannot be among the kept rows any more is dropped while
the rest is read.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

HELD_ROWS = 2_000_000
"""Rows that are held before the first are dropped: what the plan of a round counts for a task."""

Integers = npt.NDArray[np.int64]
Choose = Callable[[pa.Table], Integers]


class Selection:
    """Keeps what `choose` keeps of all rows that were added.

    choose: the places of the rows to keep, in the order in which they are to stand; what it drops once it drops with
    more rows beside it too. owner: the column with the number of a row's group, from 0 to before `owners`. most: rows
    up to which `choose` keeps all of a group's; where no group has more, the rows stay as they came. None: not known.
    """

    def __init__(self, schema: pa.Schema, owner: str, owners: int, choose: Choose, most: int | None = None) -> None:
        self.schema = schema
        self._enough = most
        self._choose, self._owner, self._owners = choose, owner, owners
        self._held = [schema.empty_table()]
        self.held_rows, self._most = 0, HELD_ROWS
        self.dropped: npt.NDArray[np.bool_] = np.zeros(owners, dtype=np.bool_)
        """Of each group, whether some of its rows were dropped. Final once `table` was asked for."""

    def add(self, rows: pa.Table) -> None:
        if not rows.num_rows:
            return
        self._held.append(rows)
        self.held_rows += rows.num_rows
        if self.held_rows > self._most:
            self._drop()

    def table(self) -> pa.Table:
        """The kept rows of all that were added."""
        self._drop()
        return self._held[0]

    def _drop(self) -> None:
        whole = pa.concat_tables(self._held)
        counts = counts_by(whole, self._owner, self._owners)
        if self._enough is not None and counts.max(initial=0) <= self._enough:
            kept = whole
        else:
            kept = whole.take(pa.array(self._choose(whole)))
            self.dropped |= counts > counts_by(kept, self._owner, self._owners)
        self._held, self.held_rows = [kept], kept.num_rows
        # Twice as many, so that what is kept is not chosen again for every few rows.
        self._most = max(HELD_ROWS, 2 * kept.num_rows)


def counts_by(rows: pa.Table, owner: str, owners: int) -> Integers:
    """How many rows each group has, shape (owners,)."""
    return np.bincount(integers(rows.column(owner)), minlength=owners).astype(np.int64)


def newest(owner: str, owners: int, most: int) -> Choose:
    """The newest `most` rows of each group, in the order (group, event_time).

    Of rows of one time that do not all fit, those with the greatest event_ids stay.
    """
    return lambda rows: _newest(rows, owner, owners, most)


def _newest(rows: pa.Table, owner: str, owners: int, most: int) -> Integers:
    of, times = integers(rows.column(owner)), integers(rows.column("event_time").cast(pa.int64()))
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


def lowest(owner: str, by: str, most: int) -> Choose:
    """Of each group the `most` rows with the lowest integers in column `by`, and those that equal the last of them."""
    return lambda rows: _lowest(integers(rows.column(owner)), integers(rows.column(by)), most)


def _lowest(of: Integers, by: Integers, most: int) -> Integers:
    if not len(of):
        return np.empty(0, dtype=np.int64)
    order = np.lexsort((by, of))
    of, by = of[order], by[order]
    last = np.minimum(np.searchsorted(of, of, side="left") + most, np.searchsorted(of, of, side="right")) - 1
    kept: Integers = order[by <= by[last]]
    return kept


def integers(column: pa.ChunkedArray) -> Integers:
    return np.asarray(column.to_numpy(), dtype=np.int64)
