"""Which group each row of a parent's sample belongs to, and which parents lie between that group and the parent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinney.core.features.encoding import Integers
from spinney.core.internal_column_names import internal_name
from spinney.core.keys import decode, is_parent, parent_values

ORIGIN = internal_name("origin")
"""Column of a row in a parent's sample: the key of the group that the row is of."""

Ladder = tuple[tuple[str, ...], ...]
"""The key columns of a group, then those of each of its parents, nearest first; each has some of those before it."""

NO_CODE = -1


def lineage_codes(
    keys: Sequence[str], key_of_row: Integers, origins: npt.NDArray[np.object_], ladder: Ladder
) -> Integers:
    """Number the groups and parents below each row's owner, shape (n_rows, len(ladder) - 1).

    The owner of a row is the group or parent that is fitted on it. Column l has the code of the row's group (l = 0) or
    of its parent at rung l of the ladder, and NO_CODE for rungs that are not below the owner. So the rows of a group
    have NO_CODE in every column. Equal codes mean equal keys. Codes are in the order of the sorted keys, whatever the
    order of the rows.

    keys: owners, groups and parents. key_of_row: position of each row's owner. origins: the key of each row's group.
    """
    rungs = np.array([rung_of(key, ladder) or 0 for key in keys], dtype=np.int64)[key_of_row]
    of_origin, known = pd.factorize(origins, sort=True)
    values = [dict(zip(ladder[0], decode(key), strict=True)) for key in known]
    codes = np.full((len(origins), len(ladder) - 1), NO_CODE, dtype=np.int64)
    for rung, columns in enumerate(ladder[:-1]):
        of_key, _ = pd.factorize(np.array([str([value[name] for name in columns]) for value in values], dtype=object))
        codes[:, rung] = np.where(rungs > rung, of_key.astype(np.int64)[of_origin], NO_CODE)
    return codes


def rung_of(key: str, ladder: Ladder) -> int | None:
    """Return the position of a group or parent on the ladder, 0 for a group; None for a parent that is not on it."""
    if not is_parent(key):
        return 0
    columns = set(parent_values(key))
    return next((rung for rung, names in enumerate(ladder) if rung and set(names) == columns), None)
