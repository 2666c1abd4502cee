"""Search among the keys of a fleet, by parts of the text that people see."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spinney.core import keys

SEPARATOR = " · "
"""Between the values of a key, as on the page (`keyText` in elements.js)."""

PARSED = r"\\|null"
"""Keys that are parsed one by one: those with an escape, or perhaps a null."""


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
        group_keys = self._statuses.column("group_key").combine_chunks()
        self._keys, self._shown = pc.utf8_lower(group_keys), pc.utf8_lower(shown_keys(group_keys))

    def find(self, words: str, *, state: str | None = None, offset: int = 0, limit: int = 50) -> SearchPage:
        """Return the groups whose keys contain each of the words, in the order of their keys.

        words: parts of the key as the page shows it, or of the key itself if the first word begins with a bracket;
        separated by white space; upper and lower case are equal. No word finds every group. state: only groups in this
        state. offset: number of groups to skip; limit: largest number of rows. Both are at least 0.
        """
        texts = self._keys if words.lstrip().startswith("[") else self._shown
        # Lowered by the same function as the keys: Python's makes other letters of some, such as a Greek sigma.
        conditions = [pc.match_substring(texts, word) for word in pc.utf8_lower(words).as_py().split()]
        if state is not None:
            conditions.append(pc.equal(self._statuses.column("state").combine_chunks(), state))
        if not conditions:
            return SearchPage(len(self._statuses), self._statuses.slice(offset, limit))
        rows = np.flatnonzero(np.asarray(reduce(pc.and_, conditions)))
        return SearchPage(len(rows), self._statuses.take(pa.array(rows[offset : offset + limit])))


def shown_keys(group_keys: pa.Array) -> pa.Array:
    """Return the keys of groups as people read them: the values of the key columns, between SEPARATOR.

    group_keys: JSON arrays of texts, as `keys.encode` writes them; none is null.
    """
    # Without a backslash every quote begins or ends a text, so that no value can have what is replaced here.
    inner = pc.utf8_slice_codeunits(pc.replace_substring(group_keys, '","', SEPARATOR), 2, -2)
    is_plain = pc.invert(pc.match_substring_regex(group_keys, PARSED))
    if pc.all(is_plain, min_count=0).as_py():
        return inner
    others = [_shown(key) for key in group_keys.filter(pc.invert(is_plain)).to_pylist()]
    return pc.replace_with_mask(inner, pc.invert(is_plain), pa.array(others, group_keys.type))


def _shown(key: str) -> str:
    return SEPARATOR.join("null" if text is None else text for text in keys.decode(key))
