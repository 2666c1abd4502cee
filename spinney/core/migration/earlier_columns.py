"""Columns from before a migration, which earlier models may still need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spinney.core.migration.migration_record import Migration

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class FormerColumn:
    """A column that is no longer declared. now: the column that has its values; None if none has. type: its last Spark
    SQL type.
    """

    now: str | None
    type: str


def former_columns(migrations: Iterable[Migration]) -> dict[str, FormerColumn]:
    """Return name -> what became of it, for each renamed or dropped column. migrations: oldest first."""
    columns: dict[str, FormerColumn] = {}
    last: dict[str, str] = {}  # former name -> what its column was called when it was dropped
    for migration in migrations:
        for name in migration.added:
            columns.pop(name, None)
        # A dropped column that is declared again has its values again, under its earlier names too.
        columns |= {
            name: FormerColumn(last[name], column.type)
            for name, column in columns.items()
            if column.now is None and last.get(name) in migration.added
        }
        last |= {
            name: column.now
            for name, column in columns.items()
            if column.now is not None and column.now in migration.dropped
        }
        moved = {name: _apply_migration(column, migration) for name, column in columns.items()}
        columns = {name: column for name, column in moved.items() if column.now != name}
        columns |= {old: FormerColumn(new, migration.before[old]) for old, new in migration.renamed.items()}
        columns |= {name: FormerColumn(None, migration.before[name]) for name in migration.dropped}
        columns = {name: column for name, column in columns.items() if name not in migration.after}
    return columns


def _apply_migration(column: FormerColumn, migration: Migration) -> FormerColumn:
    if column.now in migration.dropped:
        return FormerColumn(None, column.type)
    return FormerColumn(migration.renamed.get(column.now or "", column.now), column.type)


def retired_columns(migrations: Iterable[Migration]) -> dict[str, str]:
    """Return name -> type of columns that the table `events` still has but that are no longer declared."""
    columns: dict[str, str] = {}
    for migration in migrations:
        columns |= {name: migration.before[name] for name in migration.dropped}
        columns = {name: kind for name, kind in columns.items() if name not in migration.after}
    return columns


def add_former_columns(rows: pd.DataFrame, former: Mapping[str, FormerColumn]) -> pd.DataFrame:
    """Return the rows with the columns that earlier models may need.

    Renamed columns get their current values, dropped ones are null. Columns that are already there are kept.
    """
    missing = {name: column for name, column in former.items() if name not in rows}
    if not missing:
        return rows
    return rows.assign(**{name: rows.get(column.now) for name, column in missing.items()})
