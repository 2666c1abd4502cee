"""Search among the keys of a fleet, by parts of the text that people see."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class SearchPage:
    """One page of the groups found. found: number of all. rows: with the fields of GroupStatus as columns."""

    found: int
    rows: pa.Table


class GroupSearch:
    """Finds groups by parts of their keys. Immutable: created again when the tables change.

    statuses: one row per group, sorted by group_key, as `Fleet.table` returns them.
    """

    def __init__(self, statuses: pa.Table) -> None:
        self._statuses = statuses.combine_chunks()
        keys = self._statuses.column("group_key").combine_chunks()
        self._text = pc.utf8_lower(keys)

    def find(self, words: str, *, state: str | None = None, offset: int = 0, limit: int = 50) -> SearchPage:
        """Return the groups whose keys contain each of the words, in the order of their keys.

        words: separated by white space; upper and lower case are equal. No word finds every group. state: only groups
        in this state. offset: number of groups to skip; limit: largest number of rows. Both are at least 0.
        """
        conditions = [pc.match_substring(self._text, word) for word in words.lower().split()]
        if state is not None:
            conditions.append(pc.equal(self._statuses.column("state").combine_chunks(), state))
        if not conditions:
            return SearchPage(len(self._statuses), self._statuses.slice(offset, limit))
        rows = np.flatnonzero(np.asarray(reduce(pc.and_, conditions)))
        return SearchPage(len(rows), self._statuses.take(pa.array(rows[offset : offset + limit])))
