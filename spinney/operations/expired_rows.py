"""Find the rows that the retention rules no longer keep: whole dates, or single rows that no rollback can need.

Rows of a directory's newest batch are never deleted, since an interrupted round counts them when it continues.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from schemas import tables
from schemas.vocabulary import Decision
from spinney.core.champions.jump_holds import JUMP, bounds_of_series
from spinney.core.champions.promotion import CHAMPION_COLUMNS, PEOPLE, Promotion
from spinney.core.champions.retention import reachable_promotions
from spinney.core.config import Retention
from spinney.retraining.gate_input import read_past_decisions
from spinney.storage.layout import Directory, FleetStore
from spinney.tables import delta, table_files
from spinney.tables.opened_tables import OpenedTables

LEAST = timedelta(days=1)
"""Rows younger than this are always kept: a round may still have to decide about them."""

_RULES = {name: name for name in ("predictions", "health", "verdicts", "models")} | {"promotions": "models"}
"""Table -> its key in [retention]."""

DATES = {tables.PREDICTIONS.name: "scored_on", tables.HEALTH.name: "observed_on"}


@dataclass(frozen=True)
class ExpiredRows:
    """Expired rows of a directory.

    rows: their number. until: if given, all rows up to this date are expired; if not, `names` has the identifying
    columns of each expired row. since: the time from which the rule keeps rows, by the wall clock.
    """

    rows: int = 0
    until: date | None = None
    names: pa.Table | None = None
    since: datetime | None = None


ROWS_AT_ONCE = 200_000
"""Rows that are examined at a time as Python objects, of about a kilobyte each."""


def find_expired_rows(
    store: FleetStore, retention: Retention, directory: Directory, now: datetime, opened: OpenedTables
) -> ExpiredRows:
    """Find the expired rows of a directory. Raises StoreError if the table was never created."""
    kind = directory.contract.name
    kept_for = getattr(retention, _RULES.get(kind, ""), None)
    if kept_for is None:
        return ExpiredRows()
    since = now - max(kept_for, LEAST)
    if kind in DATES:
        files = table_files.list_files(opened.open(directory))
        dates = [(on, file.rows) for file in files if (on := file.partition[DATES[kind]])]
        if kind == tables.PREDICTIONS.name and dates:
            # While no newer ones come, the last ones stay: copies of their events are recognised by them.
            since = min(since, since - (now - _end_of(max(on for on, _ in dates))))
        old = [(on, rows) for on, rows in dates if on < since.date()]
        return ExpiredRows(sum(rows for _, rows in old), max(on for on, _ in old)) if old else ExpiredRows()
    parts = [rows for rows in _expired_parts(store, directory, since, opened) if rows.num_rows]
    if not parts:
        return ExpiredRows()
    return ExpiredRows(sum(rows.num_rows for rows in parts), names=pa.concat_tables(parts), since=since)


def _end_of(day: date) -> datetime:
    return datetime.combine(day, time.max, UTC)


def _expired_parts(
    store: FleetStore, directory: Directory, since: datetime, opened: OpenedTables
) -> Iterator[pa.Table]:
    """Yield the identifying columns of expired rows, a few shards at a time to bound the memory."""
    kind, table = directory.contract.name, delta.open_dataset(opened.open(directory))
    columns, at = _NAMED[kind]
    old, newest = ds.field(at) < since, None if directory.name.endswith(f"/{PEOPLE}") else newest_batch_of(table)
    if newest is not None:
        # The newest batch of a machine may belong to an interrupted round, which still needs its plan and its results.
        old &= ds.field("batch_id") != newest
    for within in _shard_conditions(store, opened):
        rows = table.to_table(list(columns), filter=_both(old, within))
        if not rows.num_rows:
            continue
        if kind == tables.VERDICTS.name:
            mask = _verdicts_gone(store, rows, since, within, opened)
        elif kind == tables.PROMOTIONS.name:
            keep = {
                key: {_row_name(promotion) for promotion in history}
                for key, history in _promotions_within(store, since, within, opened).items()
            }
            bounds = _bounds_of_jumps(store, within, opened)
            promotions = [(row["group_key"], Promotion.from_row(row)) for row in rows.to_pylist()]
            mask = [
                _row_name(row) not in keep[key] and (key, row.decision, row.decided_at) not in bounds
                for key, row in promotions
            ]
        else:
            reachable = _promotions_within(store, since, within, opened).values()
            models = {row.model_id for history in reachable for row in history}
            last = _last_attempts(store, within, opened)
            mask = [
                row["model_id"] not in models and last[row["group_key"]] != (row["fitted_at"], row["round_id"])
                for row in rows.to_pylist()
            ]
        yield rows.filter(pa.array(mask, pa.bool_())).select(list(_NAMES[kind]))


def _shard_conditions(store: FleetStore, opened: OpenedTables) -> list[ds.Expression | None]:
    """Return conditions that divide the tables by shard; [None]: read all shards at once."""
    rows = max(
        int(opened.open(directory).count())
        for base in (tables.PROMOTIONS, tables.MODELS, tables.VERDICTS)
        for directory in store.directories(base)
    )
    shards = store.fleet.shards
    parts = min(shards, -(-rows // ROWS_AT_ONCE))
    if parts <= 1:
        return [None]
    ends = [shards * part // parts for part in range(parts + 1)]
    shard = ds.field("shard")
    return [(shard >= low) & (shard < high) for low, high in itertools.pairwise(ends)]


def _both(one: ds.Expression, other: ds.Expression | None) -> ds.Expression:
    return one if other is None else one & other


def _verdicts_gone(
    store: FleetStore, rows: pa.Table, since: datetime, within: ds.Expression | None, opened: OpenedTables
) -> list[bool]:
    """Return, for each row, whether the verdict is expired.

    The last verdict of a group before `since` is not, as it was in effect at that time.
    """
    is_old = _both(ds.field("judged_at") < since, within)
    old = delta.read_table(store, tables.VERDICTS, ["group_key", "judged_at"], is_old, opened.open)
    last = dict(
        zip(
            *(column.to_pylist() for column in old.group_by("group_key").aggregate([("judged_at", "max")])), strict=True
        )
    )
    return [row["judged_at"] != last[row["group_key"]] for row in rows.to_pylist()]


_ATTEMPT = ("group_key", "round_id", "model_id", "fitted_at")
_NAMED = {
    tables.VERDICTS.name: (("group_key", "round_id", "judged_at"), "judged_at"),
    tables.PROMOTIONS.name: (CHAMPION_COLUMNS, "decided_at"),
    tables.MODELS.name: (_ATTEMPT, "fitted_at"),
}
"""Table -> the columns that its rule reads, and the column with the time from which a row's age counts."""


_NAMES = {
    tables.VERDICTS.name: ("group_key", "round_id"),
    tables.MODELS.name: ("group_key", "round_id"),
    tables.PROMOTIONS.name: ("group_key", "round_id", "model_id", "decision"),
}
"""Table -> columns that identify a row."""


def _row_name(row: Promotion) -> tuple[str, str, str]:
    return (row.round_id, row.model_id, row.decision)


def _promotions_within(
    store: FleetStore, since: datetime, within: ds.Expression | None, opened: OpenedTables
) -> dict[str, list[Promotion]]:
    """Return the decisions of each group that a rollback may need, from all directories."""
    histories: dict[str, list[Promotion]] = defaultdict(list)
    for row in delta.read_table(store, tables.PROMOTIONS, [*CHAMPION_COLUMNS], within, opened.open).to_pylist():
        histories[row["group_key"]].append(Promotion.from_row(row))
    at = Promotion.from_row({"decided_at": since}).decided_at
    return {key: reachable_promotions(history, at) for key, history in histories.items()}


def _bounds_of_jumps(
    store: FleetStore, within: ds.Expression | None, opened: OpenedTables
) -> set[tuple[str, str, int]]:
    """Return the decisions from which the time of `gate.jump_hold` counts: group_key, decision, decided_at.

    They stay in whichever directory they are: a hold of the stream counts anew after a refusal of the batch.
    """
    about_jump = ds.field("about_jump")
    by_reason = about_jump.is_null() & pc.starts_with(ds.field("reason"), JUMP)
    is_hold = (ds.field("decision") == Decision.HELD.value) & (about_jump | by_reason)
    rows = delta.read_table(store, tables.PROMOTIONS, ["group_key"], _both(is_hold, within), opened.open)
    decisions = read_past_decisions(store, pc.unique(rows.column("group_key")), within) if rows.num_rows else {}
    return {
        (key, row.decision, row.decided_at) for key, history in decisions.items() for row in bounds_of_series(history)
    }


def _last_attempts(
    store: FleetStore, within: ds.Expression | None, opened: OpenedTables
) -> dict[str, tuple[datetime, str]]:
    """Return the newest attempt of each group, from which the state `failed` is derived."""
    newest: dict[str, tuple[datetime, str]] = {}
    columns = ["group_key", "fitted_at", "round_id"]
    for row in delta.read_table(store, tables.MODELS, columns, within, opened.open).to_pylist():
        key = (row["fitted_at"], row["round_id"])
        newest[row["group_key"]] = max(newest.get(row["group_key"], key), key)
    return newest


def newest_batch_of(table: ds.Dataset) -> int | None:
    """Return the greatest batch_id in a table; None if the table is empty."""
    newest = (pc.max(part.column("batch_id")).as_py() for part in table.to_batches(columns=["batch_id"]))
    return max((batch_id for batch_id in newest if batch_id is not None), default=None)
