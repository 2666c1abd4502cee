"""How the columns of a fleet that has stored events may change, and what records and models of before become."""

from __future__ import annotations

from spinney.core.migration.column_changes import Change, Kind, changes, likely_renames
from spinney.core.migration.earlier_columns import Former, former_columns, retired, with_former
from spinney.core.migration.earlier_settings import settings_before
from spinney.core.migration.migration_record import Migration
from spinney.core.migration.type_widening import is_widening

__all__ = [
    "Change",
    "Former",
    "Kind",
    "Migration",
    "changes",
    "former_columns",
    "is_widening",
    "likely_renames",
    "retired",
    "settings_before",
    "with_former",
]
