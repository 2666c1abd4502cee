"""Skip the rows of a file that are valid and belong to another group, without validating them one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch.load.group_numbers import GroupNumbers
from batch.load.typed_batch import TypedBatch
from batch.load.vectorized_validation import GROUP, PLACE, ColumnValidator, event_columns
from spinney.core.arrow_types import arrow_type
from spinney.core.config import RecordSchema
from spinney.sources import RowBatch

MOST_NAMED = 3


class OtherGroupsFilter:
    """Removes rows of other groups from batches, if the column checks show that they are valid.

    newest: the greatest event time of the removed rows.
    """

    def __init__(self, schema: RecordSchema, group_key: str, now: datetime) -> None:
        fleet = schema.fleet
        self._key = group_key
        self._groups = GroupNumbers([arrow_type(fleet.columns[name]) for name in fleet.group], fleet.shards)
        self._validator = ColumnValidator(schema.fleet, event_columns(schema), self._groups, now)
        self.newest: datetime | None = None

    @property
    def other_keys(self) -> Sequence[str]:
        """Up to three keys of other groups."""
        keys: list[str] = self._groups.keys().slice(0, MOST_NAMED + 1).to_pylist()
        return [key for key in keys if key != self._key][:MOST_NAMED]

    def keep_candidates(self, batch: RowBatch) -> RowBatch:
        """Return the rows of the group, and the rows that have to be validated one by one."""
        if batch.columns is None:
            return batch
        typed = TypedBatch(batch, self._validator.columns.rules)
        valid = self._validator.validate(typed, pa.array(np.arange(typed.rows))).valid
        skipped = valid.filter(pc.not_equal(valid[GROUP], pc.index(self._groups.keys(), self._key)))
        newest = pc.max(skipped[self._validator.columns.stored_time]).as_py()
        if newest is not None:
            self.newest = newest if self.newest is None else max(newest, self.newest)
        kept = np.ones(typed.rows, dtype=np.bool_)
        kept[np.asarray(skipped[PLACE])] = False
        rows = np.flatnonzero(kept)
        numbers = [batch.numbers[row] for row in rows.tolist()]
        return replace(batch, numbers=numbers, columns=batch.columns.take(pa.array(rows)), malformed=())
