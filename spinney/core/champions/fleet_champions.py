"""The champion of every group in one vectorised pass over rows of `promotions`.

The same rules as `spinney.core.champions.champion`, whose functions take one group at a time (some 300 microseconds
each): a property test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.vocabulary import Decision
from spinney.core.champions.champion import ANSWERING, PEOPLE, RULING
from spinney.core.errors import ContractError

INPUT = (
    "shard", "group_key", "epoch", "model_id", "decision", "round_id", "trained_through", "fitted_at", "decided_at",
    "fit_ms",
)  # fmt: skip
"""Columns of `promotions` that `champions_of` reads."""

SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("group_key", pa.string()),
        ("model_id", pa.string()),
        ("epoch", pa.int64()),
        ("pinned", pa.bool_()),
        ("fit_ms", pa.float64()),
    ]
)

_Ints = npt.NDArray[np.int64]
_Bools = npt.NDArray[np.bool_]
_LEAST = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Ruling:
    """Which row makes the champion of each group.

    group_keys: one per group, sorted. group: of each row of the input, the position of its group in group_keys.
    champion: of each group, the row of the input that names its champion, -1 where no model may answer.
    is_pinned: of each group, whether a person pinned it.
    """

    group_keys: pa.Array
    group: _Ints
    champion: _Ints
    is_pinned: _Bools


def champions_of(rows: pa.Table) -> pa.Table:
    """One row per group that any row names, by key: SCHEMA; model_id is null where no model may answer.

    rows: rows of `promotions` with the columns INPUT, in any order. Times are microseconds or timestamps, null is 0.
    epoch: the greatest of any row. fit_ms: of the last fit that was decided about; of several at one moment, the
    longest; null if there was none.

    Raises ContractError when a group_key is null.
    """
    ruling = rulings(rows)
    groups = len(ruling.group_keys)
    names = _text(rows, "model_id").take(pa.array(ruling.champion, mask=ruling.champion < 0))
    any_row = np.zeros(groups, dtype=np.int64)
    any_row[ruling.group] = np.arange(rows.num_rows)
    return pa.Table.from_arrays(
        [
            _one(rows, "shard").cast(pa.int32()).take(pa.array(any_row)),
            ruling.group_keys,
            names,
            pa.array(_largest(groups, ruling.group, whole(rows, "epoch"))),
            pa.array(ruling.is_pinned),
            _last_fit_ms(rows, ruling),
        ],
        schema=SCHEMA,
    )


def rulings(rows: pa.Table) -> Ruling:
    """What rules in each group that any of these rows names; rows and errors as for `champions_of`.

    `shard` and `fit_ms` are not read.
    """
    group_keys, group = _groups(rows)
    groups = len(group_keys)
    epoch, decision, names = whole(rows, "epoch"), _text(rows, "decision"), _text(rows, "model_id")
    rules = _among(decision, RULING)
    ruling_epoch = _largest(groups, group[rules], epoch[rules])
    current = rules & (epoch == ruling_epoch[group])
    candidates = np.flatnonzero(current & _among(decision, ANSWERING) & ~_struck(rows, group, current))
    order = [whole(rows, "trained_through"), whole(rows, "fitted_at")]
    champion = _greatest(groups, group, candidates, order, names)
    pins = np.flatnonzero(current & _among(decision, {Decision.PINNED}))
    pinned = _greatest(groups, group, pins, [whole(rows, "decided_at")], names)
    return Ruling(group_keys, group, np.where(pinned >= 0, pinned, champion), pinned >= 0)


def whole(rows: pa.Table, name: str) -> _Ints:
    """A column of integers, or of timestamps as microseconds since 1970; null is 0."""
    column = _one(rows, name)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz))
    return np.asarray(pc.fill_null(column.cast(pa.int64()), 0), dtype=np.int64)


def _struck(rows: pa.Table, group: _Ints, current: _Bools) -> _Bools:
    """Of each row, whether a withdrawal keeps its model from answering.

    A withdrawal of the ruling epoch strikes what anyone said of its model, one of an older epoch what machines said.
    """
    withdrawn = _among(_text(rows, "decision"), {Decision.WITHDRAWN})
    if not withdrawn.any():
        return np.zeros(rows.num_rows, dtype=np.bool_)
    name = np.asarray(_text(rows, "model_id").dictionary_encode().indices, dtype=np.int64)
    model = group * (name.max() + 1) + name
    by_person = np.asarray(pc.starts_with(_text(rows, "round_id"), f"{PEOPLE}-"))
    for_all = np.isin(model, model[withdrawn & current])
    for_machines = np.isin(model, model[withdrawn])
    return np.where(by_person, for_all, for_machines)


def _greatest(groups: int, group: _Ints, rows: _Ints, by: Sequence[_Ints], names: pa.Array) -> _Ints:
    """Of each group the one of these rows that is the greatest by these columns, then by name; -1 where it has none."""
    for column in by:
        rows = rows[column[rows] == _largest(groups, group[rows], column[rows])[group[rows]]]
    found = np.full(groups, -1, dtype=np.int64)
    found[group[rows]] = rows
    if len(rows) > np.count_nonzero(found >= 0):  # names are compared where nothing else decides: they are long
        rank = np.asarray(pc.rank(names.take(pa.array(rows)), tiebreaker="dense"), dtype=np.int64)
        last = rank == _largest(groups, group[rows], rank)[group[rows]]
        found[group[rows[last]]] = rows[last]
    return found


def _last_fit_ms(rows: pa.Table, ruling: Ruling) -> pa.Array:
    groups, group = len(ruling.group_keys), ruling.group
    cost = np.asarray(_one(rows, "fit_ms").cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    decided_at = whole(rows, "decided_at")
    known = np.flatnonzero(~np.isnan(cost))
    known = known[decided_at[known] == _largest(groups, group[known], decided_at[known])[group[known]]]
    longest = np.full(groups, -np.inf)
    np.maximum.at(longest, group[known], cost[known])
    return pa.array(longest, pa.float64(), mask=np.isneginf(longest))


def _groups(rows: pa.Table) -> tuple[pa.Array, _Ints]:
    """The keys of all groups, sorted, and of each row the position of its own."""
    column = _one(rows, "group_key")
    if column.null_count:
        raise ContractError(
            f"promotions: expected a group_key in each of {len(column)} rows; got null in {column.null_count}. "
            "Restore the table"
        )
    coded = column.cast(pa.string()).dictionary_encode()
    order = pc.sort_indices(coded.dictionary)
    position = np.empty(len(order), dtype=np.int64)
    position[np.asarray(order)] = np.arange(len(order))
    return coded.dictionary.take(order), position[np.asarray(coded.indices)]


def _largest(groups: int, group: _Ints, values: _Ints) -> _Ints:
    largest = np.full(groups, _LEAST, dtype=np.int64)
    np.maximum.at(largest, group, values)
    return largest


def _among(texts: pa.Array, wanted: frozenset[Decision] | set[Decision]) -> _Bools:
    return np.asarray(pc.is_in(texts, pa.array([each.value for each in sorted(wanted)])))


def _text(rows: pa.Table, name: str) -> pa.Array:
    return pc.fill_null(_one(rows, name).cast(pa.string()), "")


def _one(rows: pa.Table, name: str) -> pa.Array:
    """A column in one piece."""
    column = rows.column(name)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
