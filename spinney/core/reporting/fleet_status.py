"""The status of every group of a fleet, in one vectorised pass over rows of its tables.

The same rules as `group_status`, which takes one group at a time. A property test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.vocabulary import Decision, ModelStatus, Staleness
from spinney.core.champions.fleet_champion_selection import integer_values, locate_champions
from spinney.core.champions.promotion import CHAMPION_COLUMNS
from spinney.core.recipes.display_name import recipe_display_name
from spinney.core.reporting.group_status import FAILED_STATUSES, State

PROMOTION_COLUMNS = (*CHAMPION_COLUMNS, "rows", "challenger_loss", "loss_name")
VERDICT_COLUMNS = ("group_key", "decision", "round_id", "reason", "judged_at")
ATTEMPT_COLUMNS = ("group_key", "status", "error", "fitted_at", "round_id", "model_id", "recipe_id")
"""Columns of `promotions`, `verdicts` and `models` that are read."""

_Ints = npt.NDArray[np.int64]
_Bools = npt.NDArray[np.bool_]


def owners_with_champion(promotions: pa.Table) -> set[str]:
    """Return the keys of groups and parents that have a champion. promotions: rows with PROMOTION_COLUMNS."""
    champions = locate_champions(promotions)
    return set(champions.group_keys.filter(pa.array(champions.champion_row >= 0)).to_pylist())


def derive_statuses(
    group_keys: pa.Array,
    promotions: pa.Table,
    verdicts: pa.Table,
    attempts: pa.Table,
    has_ancestor: Callable[[str], bool],
    estimators: Mapping[str, str],
) -> pa.Table:
    """Return one row per group, in the order of group_keys: the fields of GroupStatus as columns.

    group_keys: distinct. promotions, verdicts, attempts: all rows of these groups, with PROMOTION_COLUMNS,
    VERDICT_COLUMNS and ATTEMPT_COLUMNS; rows of other groups are ignored. has_ancestor: whether a parent of a group has
    a champion; called only for groups without one. estimators: recipe_id -> estimator.
    """
    champions = locate_champions(promotions)
    position = _positions(champions.group_keys, group_keys)
    champion_row = _at(champions.champion_row, position)
    newest = _newest(len(champions.group_keys), champions.group_index, _decision_times(promotions))
    decided = _at(newest, position)
    verdict, attempt = _newest_of(group_keys, verdicts, "judged_at"), _newest_of(group_keys, attempts, "fitted_at")
    verdict_decision, outcome = _latest_verdicts_and_outcomes(
        (promotions, decided), (verdicts, verdict), (attempts, attempt)
    )
    without_model = np.flatnonzero(champion_row < 0)
    has_parent = np.zeros(len(group_keys), dtype=np.bool_)
    has_parent[without_model] = [has_ancestor(key) for key in group_keys.take(pa.array(without_model)).to_pylist()]
    fit_row = _at(_fit_rows(promotions, champions.group_index, champions.champion_row), position)
    pinned = _at(champions.is_pinned.astype(np.int64), position) > 0
    return pa.table(
        {
            "group_key": group_keys,
            "state": _states(champion_row >= 0, has_parent, pinned, verdict_decision, outcome),
            "model_id": _take(promotions, "model_id", champion_row),
            "recipe": _recipes(_take(promotions, "model_id", champion_row), attempts, estimators),
            **{name: _take(promotions, name, fit_row) for name in ("trained_through", "fitted_at", "rows")},
            "loss": _take(promotions, "challenger_loss", fit_row),
            "reason": _take(verdicts, "reason", verdict),
            "error": _take(attempts, "error", attempt),
            "loss_name": _take(promotions, "loss_name", fit_row),
        }
    )


def _recipes(model_ids: pa.Array, attempts: pa.Table, estimators: Mapping[str, str]) -> pa.Array:
    """The display name of each champion's recipe; null where its attempt is not known."""
    position = pc.index_in(model_ids, value_set=_text(attempts, "model_id"), skip_nulls=True)
    coded = _text(attempts, "recipe_id").take(position).dictionary_encode()
    names = pa.array(
        [recipe_display_name(recipe_id, estimators) for recipe_id in coded.dictionary.to_pylist()], pa.string()
    )
    return names.take(coded.indices)


def _states(
    has_champion: _Bools, has_parent: _Bools, pinned: _Bools, verdict_decision: pa.Array, outcome: pa.Array
) -> pa.Array:
    """Return each group's state, by the same rules as `group_status.derive_state`."""
    is_refused = np.where(
        np.asarray(verdict_decision.is_null()),
        _among(outcome, {Decision.REFUSED}),
        _among(verdict_decision, {Staleness.REFUSED}),
    )
    cases = [
        (_among(outcome, FAILED_STATUSES), State.FAILED),
        (~has_champion & has_parent, State.PARENT),
        (~has_champion, State.NONE),
        (pinned, State.HELD),
        (_among(verdict_decision, {Staleness.FIT, Staleness.DEFERRED}), State.STALE),
        (_among(outcome, {Decision.HELD}), State.HELD),
        (is_refused, State.REFUSED),
        (np.ones(len(has_champion), dtype=np.bool_), State.FRESH),
    ]
    code = np.select([mask for mask, _ in cases], range(len(cases)))
    return pa.array([state.value for _, state in cases]).take(pa.array(code))


def _latest_verdicts_and_outcomes(
    promotions: tuple[pa.Table, _Ints], verdicts: tuple[pa.Table, _Ints], attempts: tuple[pa.Table, _Ints]
) -> tuple[pa.Array, pa.Array]:
    """Verdict and outcome of LatestRecords per group. Arguments: a table and each group's newest row in it."""
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


def _decision_times(promotions: pa.Table) -> _Ints:
    """The order of the decisions: by time, and a withdrawal before the other decision of its moment."""
    is_about_challenger = ~_among(_text(promotions, "decision"), {Decision.WITHDRAWN})
    times: _Ints = 2 * integer_values(promotions, "decided_at") + is_about_challenger
    return times


def _fit_rows(promotions: pa.Table, group: _Ints, champion: _Ints) -> _Ints:
    """For each group the newest row of its champion that says what the model was fitted on; -1 if there is none."""
    names = pc.fill_null(_text(promotions, "model_id"), "").dictionary_encode()
    name = np.asarray(names.indices, dtype=np.int64)
    of_champion = (champion[group] >= 0) & (name == name[champion[group]]) if len(name) else np.zeros(0, np.bool_)
    has_fit = of_champion & np.asarray(promotions.column("fitted_at").combine_chunks().is_valid())
    return _newest(len(champion), group, integer_values(promotions, "decided_at"), np.flatnonzero(has_fit))


def _newest_of(group_keys: pa.Array, table: pa.Table, by: str) -> _Ints:
    """For each group the position of its newest row in a table; -1 without one."""
    group = _positions(group_keys, _text(table, "group_key"))
    return _newest(len(group_keys), group, integer_values(table, by), np.flatnonzero(group >= 0))


def _newest(groups: int, group: _Ints, at: _Ints, rows: _Ints | None = None) -> _Ints:
    """For each group the row with the greatest time, the last of several equal ones; -1 if there is none.

    rows: None for all.
    """
    rows = np.arange(len(at)) if rows is None else rows
    newest = np.full(groups, np.iinfo(np.int64).min)
    np.maximum.at(newest, group[rows], at[rows])
    rows = rows[at[rows] == newest[group[rows]]]
    newest_row = np.full(groups, -1, dtype=np.int64)
    newest_row[group[rows]] = rows
    return newest_row


def _positions(among: pa.Array, wanted: pa.Array) -> _Ints:
    """The position of each wanted value in `among`; -1 where it is missing."""
    return np.asarray(pc.fill_null(pc.index_in(wanted, value_set=among), -1), dtype=np.int64)


def _at(values: _Ints, position: _Ints, empty: int = -1) -> _Ints:
    """The values at these positions; `empty` where the position is -1."""
    if not len(values):
        return np.full(len(position), empty, dtype=np.int64)
    return np.where(position >= 0, values[position], empty)


def _take(table: pa.Table, name: str, rows: _Ints) -> pa.Array:
    """A column's values in these rows; null where the row is -1."""
    column = table.column(name).combine_chunks()
    return column.take(pa.array(rows, mask=rows < 0))


def _text(table: pa.Table, name: str) -> pa.Array:
    return table.column(name).combine_chunks()


def _among(texts: pa.Array, wanted: Collection[str]) -> _Bools:
    return np.asarray(pc.is_in(texts, pa.array([str(value) for value in sorted(wanted)])))
