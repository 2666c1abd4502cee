"""The columns that a fleet was made with, from which ids of records without one are computed."""

from __future__ import annotations

from collections.abc import Sequence

from spinney.core.migration.migration_record import Migration
from spinney.core.records.rules import OriginalColumn


def original_columns(migrations: Sequence[Migration]) -> dict[str, OriginalColumn] | None:
    """Return current name -> original column, for each column that the fleet was made with.

    migrations: oldest first. Dropped columns are listed under their last name, added ones are not listed. None if there
    was no migration: all columns are original.
    """
    if not migrations:
        return None
    columns = {name: OriginalColumn(name, kind) for name, kind in migrations[0].before.items()}
    for migration in migrations:
        columns = {migration.renamed.get(name, name): original for name, original in columns.items()}
    return columns
