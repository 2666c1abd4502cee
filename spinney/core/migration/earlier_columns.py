"""Columns of before a migration: models that were fitted on them go on answering."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spinney.core.migration.migration_record import Migration

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Former:
    """A column that is declared no more. now: the column that has its values; None where none is read any more.

    type: its Spark SQL type when it was last declared.
    """

    now: str | None
    type: str


def former_columns(migrations: Iterable[Migration]) -> dict[str, Former]:
    """Name -> what became of it, for each column that was renamed or dropped. migrations: oldest first."""
    found: dict[str, Former] = {}
    last: dict[str, str] = {}  # former name -> what its column was called when it was dropped
    for each in migrations:
        for name in each.added:
            found.pop(name, None)
        # A dropped column that is declared again has its values again, under its earlier names too.
        found |= {
            name: Former(last[name], mine.type)
            for name, mine in found.items()
            if mine.now is None and last.get(name) in each.added
        }
        last |= {name: mine.now for name, mine in found.items() if mine.now is not None and mine.now in each.dropped}
        moved = {name: _after(mine, each) for name, mine in found.items()}
        found = {name: mine for name, mine in moved.items() if mine.now != name}
        found |= {old: Former(new, each.before[old]) for old, new in each.renamed.items()}
        found |= {name: Former(None, each.before[name]) for name in each.dropped}
        found = {name: mine for name, mine in found.items() if name not in each.after}
    return found


def _after(column: Former, migration: Migration) -> Former:
    if column.now in migration.dropped:
        return Former(None, column.type)
    return Former(migration.renamed.get(column.now or "", column.now), column.type)


def retired(migrations: Iterable[Migration]) -> dict[str, str]:
    """Name -> type of the columns that the table `events` still has and that are declared no more."""
    found: dict[str, str] = {}
    for each in migrations:
        found |= {name: each.before[name] for name in each.dropped}
        found = {name: kind for name, kind in found.items() if name not in each.after}
    return found


def with_former(rows: pd.DataFrame, former: Mapping[str, Former]) -> pd.DataFrame:
    """The rows with the columns that models of before may ask for: renamed ones as they are now, dropped ones null.

    A column that is there already stays.
    """
    there = {name: mine for name, mine in former.items() if name not in rows}
    if not there:
        return rows
    return rows.assign(**{name: rows.get(mine.now) for name, mine in there.items()})
