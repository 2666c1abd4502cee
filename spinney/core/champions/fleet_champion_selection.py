"""The champions of all groups in one vectorised pass over rows of `promotions`.

The same rules as `champion_selection`, which takes one group at a time (about 300 µs each). Property tests compare
the two.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.vocabulary import MACHINES, Decision
from spinney.core.champions.champion_selection import KEPT_CANDIDATES
from spinney.core.champions.promotion import CHAMPION_COLUMNS, CHAMPION_DECISIONS, PEOPLE, PROMOTING_DECISIONS
from spinney.core.champions.withdrawals import mark_withdrawn
from spinney.core.errors import ContractError

INPUT_COLUMNS = ("shard", *CHAMPION_COLUMNS, "fit_ms", "clock", "by")
"""Columns of `promotions` that `select_champions` reads."""

SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("group_key", pa.string()),
        ("model_id", pa.string()),
        ("epoch", pa.int64()),
        ("pinned", pa.bool_()),
        ("fit_ms", pa.float64()),
        ("predecessor_id", pa.string()),
        ("attempted_at", pa.int64()),
    ]
)
"""Columns that `select_champions` returns."""

_Ints = npt.NDArray[np.int64]
_Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ChampionRows:
    """Which row of the input names the champion of each group.

    group_keys: sorted, shape (n_groups,). group_index: for each row of the input, the position of its group in
    group_keys. champion_row: for each group, the row that names its champion, -1 where no model may answer. is_pinned:
    for each group, whether a person pinned it.
    """

    group_keys: pa.Array
    group_index: _Ints
    champion_row: _Ints
    is_pinned: _Bools


def select_champions(rows: pa.Table) -> pa.Table:
    """Return one row of SCHEMA per group that any row names, sorted by key.

    rows: rows of `promotions`, with INPUT_COLUMNS, in any order. Times are microseconds or timestamps; null is 0.

    model_id is null where no model may answer. epoch is the greatest of any row. fit_ms is that of the last decision
    with one; of several at the same moment, the longest; null without any. predecessor_id: of the model that would
    answer if a machine withdrew the champion; null where none may. attempted_at: the fleet's clock at the last decision
    of a machine, microseconds; null without any. Raises ContractError when a group_key is null.
    """
    candidates = _Candidates.of(rows)
    champions = candidates.champions()
    n_groups = len(champions.group_keys)
    row = champions.champion_row
    any_row = np.zeros(n_groups, dtype=np.int64)
    any_row[champions.group_index] = np.arange(rows.num_rows)
    return pa.Table.from_arrays(
        [
            _combined(rows, "shard").cast(pa.int32()).take(pa.array(any_row)),
            champions.group_keys,
            _text(rows, "model_id").take(_or_null(row)),
            pa.array(_maximum_per_group(n_groups, champions.group_index, integer_values(rows, "epoch"))),
            pa.array(champions.is_pinned),
            _last_fit_ms(rows, champions),
            _text(rows, "model_id").take(_or_null(candidates.predecessor_rows(champions))),
            _last_attempt(rows, champions),
        ],
        schema=SCHEMA,
    )


def locate_champions(rows: pa.Table) -> ChampionRows:
    """Find the row that names the champion of each group. rows and errors: as for `select_champions`.

    Only CHAMPION_COLUMNS are read.
    """
    return _Candidates.of(rows).champions()


@dataclass(frozen=True)
class _Candidates:
    """Which rows of `promotions` may name a champion. group, decided_at, is_*: of shape (n_rows,).

    is_current: of its group's greatest revision. is_candidate: promoted or unproven, and not withdrawn.
    """

    rows: pa.Table
    group_keys: pa.Array
    group: _Ints
    names: pa.Array
    decision: pa.Array
    decided_at: _Ints
    is_current: _Bools
    is_candidate: _Bools

    @classmethod
    def of(cls, rows: pa.Table) -> _Candidates:
        group_keys, group = _group_indices(rows)
        revision, decision = integer_values(rows, "epoch"), _text(rows, "decision")
        can_decide = _is_in(decision, CHAMPION_DECISIONS)
        current_revision = _maximum_per_group(len(group_keys), group[can_decide], revision[can_decide])
        is_current = can_decide & (revision == current_revision[group])
        is_promoted = is_current & _is_in(decision, PROMOTING_DECISIONS)
        is_candidate = is_promoted & ~_is_withdrawn(rows, group, is_current)
        decided_at = integer_values(rows, "decided_at")
        names = _text(rows, "model_id")
        return cls(rows, group_keys, group, names, decision, decided_at, is_current, is_candidate)

    def champions(self) -> ChampionRows:
        n_groups, pins = len(self.group_keys), np.flatnonzero(self.is_current & self._is(Decision.PINNED))
        promoted = self._newest(self.is_candidate)
        pinned = _last_row_per_group(n_groups, self.group, pins, [self.decided_at], self.names)
        return ChampionRows(self.group_keys, self.group, np.where(pinned >= 0, pinned, promoted), pinned >= 0)

    def predecessor_rows(self, champions: ChampionRows) -> _Ints:
        """Return the row of each group that `champion_selection.select_predecessor` returns; -1 for none."""
        n_groups, has_champion = len(self.group_keys), champions.champion_row >= 0
        champion_names = self.names.take(_or_null(champions.champion_row)).take(pa.array(self.group))
        is_own = self.is_candidate & np.asarray(pc.fill_null(pc.equal(self.names, champion_names), False))
        is_by_person = np.asarray(pc.starts_with(_text(self.rows, "round_id"), f"{PEOPLE}-"))
        by_person = np.bincount(self.group[is_own & is_by_person], minlength=n_groups) > 0
        is_withdrawal = self.is_current & self._is(Decision.WITHDRAWN)
        promoted_at, withdrawn_at = (
            _maximum_per_group(n_groups, self.group[is_of], self.decided_at[is_of]) for is_of in (is_own, is_withdrawal)
        )
        is_watched = has_champion & ~champions.is_pinned & ~by_person & (withdrawn_at <= promoted_at)
        predecessor = self._newest(self.is_candidate & ~is_own)
        through = integer_values(self.rows, "trained_through")
        is_dated = (predecessor >= 0) & (through[predecessor] != 0) if len(through) else False
        return np.where(is_watched & is_dated, predecessor, -1)

    def _newest(self, is_of: _Bools) -> _Ints:
        """For each group, the one of these rows with the newest data; -1 without any."""
        order = [integer_values(self.rows, "trained_through"), integer_values(self.rows, "fitted_at")]
        return _last_row_per_group(len(self.group_keys), self.group, np.flatnonzero(is_of), order, self.names)

    def _is(self, decision: Decision) -> _Bools:
        return _is_in(self.decision, {decision})


def condense_rows(rows: pa.Table) -> pa.Table:
    """Drop the rows that can no longer decide which model answers: `champion_selection.condense` for every group.

    rows: rows of `promotions`, with CHAMPION_COLUMNS and `codec`, in any order; other columns are kept. Returns the
    rows left, sorted by key. Of equal rows one is left, so rows may be added again. Errors as for `select_champions`.
    """
    rows = rows.filter(pa.array(_is_in(_text(rows, "decision"), CHAMPION_DECISIONS)))
    history = _History.of(rows)
    is_kept = np.zeros(rows.num_rows, dtype=np.bool_)
    for kept in (history.last_withdrawals(), history.last_pins(), history.newest_candidates()):
        is_kept[kept] = True
    # Without a row of the current revision, earlier revisions would count again.
    revision = _maximum_per_group(history.n_groups, history.group[is_kept], history.revision[is_kept])
    is_lost = (revision < history.current_revision)[history.group]
    is_kept[history.last_of(np.flatnonzero(history.is_current & is_lost), history.group)] = True
    kept = np.flatnonzero(is_kept)
    return rows.take(pa.array(kept[np.argsort(history.group[kept], kind="stable")]))


@dataclass(frozen=True)
class _History:
    """Rows of `promotions` as arrays of shape (n_rows,), for `condense_rows`.

    group, model: numbers of the row's group and model. place: the row's position in the order of
    `champion_selection._total_order`. current_revision: shape (n_groups,).
    """

    n_groups: int
    group: _Ints
    model: _Ints
    revision: _Ints
    current_revision: _Ints
    decided_at: _Ints
    place: _Ints
    is_current: _Bools
    is_by_person: _Bools
    is_withdrawn: _Bools
    decision: pa.Array

    @classmethod
    def of(cls, rows: pa.Table) -> _History:
        group_keys, group = _group_indices(rows)
        model, revision = _sorted_codes(_text(rows, "model_id")), integer_values(rows, "epoch")
        current_revision = _maximum_per_group(len(group_keys), group, revision)
        is_current = revision == current_revision[group]
        decision, round_id = _text(rows, "decision"), _text(rows, "round_id")
        decided_at, carries = integer_values(rows, "decided_at"), np.asarray(_combined(rows, "codec").is_valid())
        order = (
            carries, _sorted_codes(round_id), decided_at, _sorted_codes(decision), model,
            integer_values(rows, "fitted_at"), integer_values(rows, "trained_through"),
        )  # fmt: skip
        place = np.empty(rows.num_rows, dtype=np.int64)
        place[np.lexsort(order)] = np.arange(rows.num_rows)
        is_by_person = np.asarray(pc.starts_with(round_id, f"{PEOPLE}-"))
        is_withdrawn = _is_withdrawn(rows, group, is_current)
        return cls(
            len(group_keys), group, model, revision, current_revision, decided_at, place, is_current, is_by_person,
            is_withdrawn, decision,
        )  # fmt: skip

    def last_of(self, rows: _Ints, of: _Ints, *before: _Ints) -> _Ints:
        """Return, for each value of `of`, the last of these rows in the order of `before`, then of `place`."""
        order = rows[np.lexsort((self.place[rows], *(key[rows] for key in reversed(before)), of[rows]))]
        ends = np.flatnonzero(np.diff(of[order], append=-1))
        return order[ends]

    def last_withdrawals(self) -> _Ints:
        """Return the last withdrawal of each withdrawn model."""
        rows = np.flatnonzero(_is_in(self.decision, {Decision.WITHDRAWN}))
        return self.last_of(rows, self._group_and_model(), self.revision)

    def last_pins(self) -> _Ints:
        """Return the pin that counts in each group that has one."""
        rows = np.flatnonzero(_is_in(self.decision, {Decision.PINNED}) & self.is_current)
        return self.last_of(rows, self.group, self.decided_at, self.model)

    def newest_candidates(self) -> _Ints:
        """Return the last row by a person and by a machine of each of a group's KEPT_CANDIDATES newest models."""
        may_answer = _is_in(self.decision, PROMOTING_DECISIONS) & self.is_current & ~self.is_withdrawn
        rows, of_model = np.flatnonzero(may_answer), self._group_and_model()
        newest = self.last_of(rows, of_model)
        newest = newest[np.lexsort((-self.place[newest], self.group[newest]))]
        starts = np.flatnonzero(np.diff(self.group[newest], prepend=-1))
        rank = np.arange(len(newest)) - np.repeat(starts, np.diff(starts, append=len(newest)))
        rows = rows[np.isin(of_model[rows], of_model[newest[rank < KEPT_CANDIDATES]])]
        return self.last_of(rows, 2 * of_model + self.is_by_person)

    def _group_and_model(self) -> _Ints:
        numbers: _Ints = self.group * (self.model.max(initial=0) + 1) + self.model
        return numbers


def _sorted_codes(texts: pa.Array) -> _Ints:
    """For each text its position among the distinct ones, sorted."""
    coded = texts.dictionary_encode()
    position = np.empty(len(coded.dictionary), dtype=np.int64)
    position[np.asarray(pc.sort_indices(coded.dictionary))] = np.arange(len(coded.dictionary))
    codes: _Ints = position[np.asarray(coded.indices)]
    return codes


def integer_values(rows: pa.Table, name: str) -> _Ints:
    """Return a column of integers, or of timestamps as microseconds since 1970, as an array; null is 0."""
    column = _combined(rows, name)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz))
    return np.asarray(pc.fill_null(column.cast(pa.int64()), 0), dtype=np.int64)


def _is_withdrawn(rows: pa.Table, group: _Ints, is_current: _Bools) -> _Bools:
    """For each row, whether its model is withdrawn."""
    is_withdrawal = _is_in(_text(rows, "decision"), {Decision.WITHDRAWN})
    if not is_withdrawal.any():
        return np.zeros(rows.num_rows, dtype=np.bool_)
    name = np.asarray(_text(rows, "model_id").dictionary_encode().indices, dtype=np.int64)
    is_by_person = np.asarray(pc.starts_with(_text(rows, "round_id"), f"{PEOPLE}-"))
    return mark_withdrawn(group * (name.max() + 1) + name, is_withdrawal, is_current, is_by_person)


def _last_row_per_group(n_groups: int, group: _Ints, rows: _Ints, by: Sequence[_Ints], names: pa.Array) -> _Ints:
    """For each group, the one of these rows that is greatest by these columns, then by name; -1 without any."""
    for column in by:
        rows = rows[column[rows] == _maximum_per_group(n_groups, group[rows], column[rows])[group[rows]]]
    last = np.full(n_groups, -1, dtype=np.int64)
    last[group[rows]] = rows
    if len(rows) > np.count_nonzero(last >= 0):  # names are long: compare them only where nothing else decides
        rank = np.asarray(pc.rank(names.take(pa.array(rows)), tiebreaker="dense"), dtype=np.int64)
        is_last = rank == _maximum_per_group(n_groups, group[rows], rank)[group[rows]]
        last[group[rows[is_last]]] = rows[is_last]
    return last


def _last_fit_ms(rows: pa.Table, champions: ChampionRows) -> pa.Array:
    n_groups, group = len(champions.group_keys), champions.group_index
    cost = np.asarray(_combined(rows, "fit_ms").cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    decided_at = integer_values(rows, "decided_at")
    known = np.flatnonzero(~np.isnan(cost))
    known = known[decided_at[known] == _maximum_per_group(n_groups, group[known], decided_at[known])[group[known]]]
    longest = np.full(n_groups, -np.inf)
    np.maximum.at(longest, group[known], cost[known])
    return pa.array(longest, pa.float64(), mask=np.isneginf(longest))


def _last_attempt(rows: pa.Table, champions: ChampionRows) -> pa.Array:
    """The greatest clock of each group's decisions by machines, microseconds; null without any."""
    clock, by_machine = _combined(rows, "clock"), pa.array(sorted(kind.value for kind in MACHINES))
    counts = np.asarray(pc.is_in(_text(rows, "by"), by_machine)) & np.asarray(clock.is_valid())
    n_groups, group = len(champions.group_keys), champions.group_index[counts]
    last = _maximum_per_group(n_groups, group, integer_values(rows, "clock")[counts])
    return pa.array(last, mask=np.bincount(group, minlength=n_groups) == 0)


def _or_null(places: _Ints) -> pa.Array:
    """Positions to take; null for those below 0."""
    return pa.array(places, mask=places < 0)


def _group_indices(rows: pa.Table) -> tuple[pa.Array, _Ints]:
    """The keys of all groups, sorted, and for each row the position of its own."""
    column = _combined(rows, "group_key")
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


def _maximum_per_group(n_groups: int, group: _Ints, values: _Ints) -> _Ints:
    largest = np.full(n_groups, np.iinfo(np.int64).min, dtype=np.int64)
    np.maximum.at(largest, group, values)
    return largest


def _is_in(texts: pa.Array, decisions: Collection[Decision]) -> _Bools:
    return np.asarray(pc.is_in(texts, pa.array([decision.value for decision in sorted(decisions)])))


def _text(rows: pa.Table, name: str) -> pa.Array:
    return pc.fill_null(_combined(rows, name).cast(pa.string()), "")


def _combined(rows: pa.Table, name: str) -> pa.Array:
    """A column as one array."""
    column = rows.column(name)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
