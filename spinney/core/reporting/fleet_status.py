"""Where every group of a fleet stands, in one vectorised pass over rows of its tables.

The same rules as `spinney.core.reporting.status`, which takes one group at a time: a property test holds them equal.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.vocabulary import Decision, ModelStatus, Staleness
from spinney.core.champions.fleet_champions import integer_values, locate_champions
from spinney.core.champions.promotion import CHAMPION_COLUMNS
from spinney.core.recipes.display_name import recipe_display_name
from spinney.core.reporting.status import UNFITTED, State

PROMOTION = (*CHAMPION_COLUMNS, "rows", "challenger_loss")
VERDICT = ("group_key", "decision", "round_id", "reason", "judged_at")
ATTEMPT = ("group_key", "status", "error", "fitted_at", "round_id", "model_id", "recipe_id")
"""The columns of `promotions`, `verdicts` and `models` that are read."""

_Ints = npt.NDArray[np.int64]
_Bools = npt.NDArray[np.bool_]


def answering(promotions: pa.Table) -> set[str]:
    """The keys of the groups and parents that have a champion by these rows, of columns PROMOTION."""
    ruling = locate_champions(promotions)
    return set(ruling.group_keys.filter(pa.array(ruling.champion_row >= 0)).to_pylist())


def standings(
    group_keys: pa.Array,
    promotions: pa.Table,
    verdicts: pa.Table,
    attempts: pa.Table,
    has_ancestor: Callable[[str], bool],
    estimators: Mapping[str, str],
) -> pa.Table:
    """One row per group, in the order of group_keys: the fields of a `Standing` as columns.

    group_keys: distinct. promotions, verdicts, attempts: all their rows, with the columns PROMOTION, VERDICT and
    ATTEMPT; rows of others are passed over. has_ancestor: whether a parent answers for a group that has no champion of
    its own. estimators: by recipe_id.
    """
    ruling = locate_champions(promotions)
    place = _positions(ruling.group_keys, group_keys)
    champion = _at(ruling.champion_row, place)
    decided = _at(_newest(len(ruling.group_keys), ruling.group_index, integer_values(promotions, "decided_at")), place)
    verdict, attempt = _newest_of(group_keys, verdicts, "judged_at"), _newest_of(group_keys, attempts, "fitted_at")
    said, outcome = _said_last((promotions, decided), (verdicts, verdict), (attempts, attempt))
    orphan = np.flatnonzero(champion < 0)
    parented = np.zeros(len(group_keys), dtype=np.bool_)
    parented[orphan] = [has_ancestor(key) for key in group_keys.take(pa.array(orphan)).to_pylist()]
    shown = _at(_shown(promotions, ruling.group_index, ruling.champion_row), place)
    pinned = _at(ruling.is_pinned.astype(np.int64), place) > 0
    return pa.table(
        {
            "group_key": group_keys,
            "state": _states(champion >= 0, parented, pinned, said, outcome),
            "model_id": _take(promotions, "model_id", champion),
            "recipe": _recipes(_take(promotions, "model_id", champion), attempts, estimators),
            **{name: _take(promotions, name, shown) for name in ("trained_through", "fitted_at", "rows")},
            "loss": _take(promotions, "challenger_loss", shown),
            "reason": _take(verdicts, "reason", verdict),
            "error": _take(attempts, "error", attempt),
        }
    )


def _recipes(champions: pa.Array, attempts: pa.Table, estimators: Mapping[str, str]) -> pa.Array:
    """How each champion's recipe is shown; null where its attempt is not known. A fleet has a handful of recipes."""
    place = pc.index_in(champions, value_set=_text(attempts, "model_id"), skip_nulls=True)
    coded = _text(attempts, "recipe_id").take(place).dictionary_encode()
    names = pa.array([recipe_display_name(each, estimators) for each in coded.dictionary.to_pylist()], pa.string())
    return names.take(coded.indices)


def _states(has_champion: _Bools, parented: _Bools, pinned: _Bools, said: pa.Array, outcome: pa.Array) -> pa.Array:
    """As `standing.state`, of arrays."""
    is_refused = np.where(
        np.asarray(said.is_null()), _among(outcome, {Decision.REFUSED}), _among(said, {Staleness.REFUSED})
    )
    cases = [
        (_among(outcome, UNFITTED), State.FAILED),
        (~has_champion & parented, State.PARENT),
        (~has_champion, State.NONE),
        (pinned, State.HELD),
        (_among(said, {Staleness.FIT, Staleness.DEFERRED}), State.STALE),
        (is_refused, State.REFUSED),
        (np.ones(len(has_champion), dtype=np.bool_), State.FRESH),
    ]
    code = np.select([mask for mask, _ in cases], range(len(cases)))
    return pa.array([state.value for _, state in cases]).take(pa.array(code))


def _said_last(
    promotions: tuple[pa.Table, _Ints], verdicts: tuple[pa.Table, _Ints], attempts: tuple[pa.Table, _Ints]
) -> tuple[pa.Array, pa.Array]:
    """The verdict and the outcome of each group's `Last`. Each: a table, and of each group its newest row there."""
    decided_at, judged_at, fitted_at = (
        _at(integer_values(table, name), row, empty=np.iinfo(np.int64).min)
        for (table, row), name in ((promotions, "decided_at"), (verdicts, "judged_at"), (attempts, "fitted_at"))
    )
    status = _take(attempts[0], "status", attempts[1])
    unfitted = (attempts[1] >= 0) & ~_among(status, {ModelStatus.FITTED})
    by_attempt = unfitted & ((promotions[1] < 0) | (fitted_at > decided_at))
    outcome = pc.if_else(pa.array(by_attempt), status, _take(promotions[0], "decision", promotions[1]))
    round_id = pc.if_else(
        pa.array(by_attempt),
        _take(attempts[0], "round_id", attempts[1]),
        _take(promotions[0], "round_id", promotions[1]),
    )
    same = pc.equal(pc.fill_null(round_id, ""), pc.fill_null(_take(verdicts[0], "round_id", verdicts[1]), ""))
    has_outcome = by_attempt | (promotions[1] >= 0)
    later = np.where(by_attempt, fitted_at, decided_at) > judged_at
    is_settled = has_outcome & (np.asarray(same) | later)
    return _take(verdicts[0], "decision", np.where(is_settled, -1, verdicts[1])), outcome


def _shown(promotions: pa.Table, group: _Ints, champion: _Ints) -> _Ints:
    """Of each group the newest row of its champion that says what it was fitted on; -1 where there is none."""
    names = pc.fill_null(_text(promotions, "model_id"), "").dictionary_encode()
    name = np.asarray(names.indices, dtype=np.int64)
    of_champion = (champion[group] >= 0) & (name == name[champion[group]]) if len(name) else np.zeros(0, np.bool_)
    told = of_champion & np.asarray(promotions.column("fitted_at").combine_chunks().is_valid())
    return _newest(len(champion), group, integer_values(promotions, "decided_at"), np.flatnonzero(told))


def _newest_of(group_keys: pa.Array, table: pa.Table, by: str) -> _Ints:
    """Of each group the position of its newest row in a table; -1 where it has none."""
    group = _positions(group_keys, _text(table, "group_key"))
    return _newest(len(group_keys), group, integer_values(table, by), np.flatnonzero(group >= 0))


def _newest(groups: int, group: _Ints, at: _Ints, rows: _Ints | None = None) -> _Ints:
    """Of each group the last of these rows that has its greatest time; -1 where it has none. rows: all if None."""
    rows = np.arange(len(at)) if rows is None else rows
    newest = np.full(groups, np.iinfo(np.int64).min)
    np.maximum.at(newest, group[rows], at[rows])
    rows = rows[at[rows] == newest[group[rows]]]
    found = np.full(groups, -1, dtype=np.int64)
    found[group[rows]] = rows
    return found


def _positions(among: pa.Array, wanted: pa.Array) -> _Ints:
    """Where each value stands; -1 where it does not."""
    return np.asarray(pc.fill_null(pc.index_in(wanted, value_set=among), -1), dtype=np.int64)


def _at(values: _Ints, place: _Ints, empty: int = -1) -> _Ints:
    """The values at these places; `empty` where the place is -1."""
    if not len(values):
        return np.full(len(place), empty, dtype=np.int64)
    return np.where(place >= 0, values[place], empty)


def _take(table: pa.Table, name: str, rows: _Ints) -> pa.Array:
    """A column's values in these rows; null where the row is -1."""
    column = table.column(name).combine_chunks()
    return column.take(pa.array(rows, mask=rows < 0))


def _text(table: pa.Table, name: str) -> pa.Array:
    return table.column(name).combine_chunks()


def _among(texts: pa.Array, wanted: Collection[str]) -> _Bools:
    return np.asarray(pc.is_in(texts, pa.array([str(each) for each in sorted(wanted)])))
