"""Changes of the columns and the loss of a fleet with stored events, and their effect on earlier records and models."""

from __future__ import annotations

from spinney.core.migration.column_changes import ColumnChange, ColumnChangeKind, column_changes, likely_renames
from spinney.core.migration.earlier_columns import FormerColumn, add_former_columns, former_columns, retired_columns
from spinney.core.migration.earlier_settings import settings_before
from spinney.core.migration.loss_function_history import (
    LossChange,
    LossHistory,
    are_convertible,
    convert_losses,
    converted_sql,
)
from spinney.core.migration.migration_record import Migration
from spinney.core.migration.original_columns import original_columns
from spinney.core.migration.type_widening import is_widening

__all__ = [
    "ColumnChange",
    "ColumnChangeKind",
    "FormerColumn",
    "LossChange",
    "LossHistory",
    "Migration",
    "add_former_columns",
    "are_convertible",
    "column_changes",
    "convert_losses",
    "converted_sql",
    "former_columns",
    "is_widening",
    "likely_renames",
    "original_columns",
    "retired_columns",
    "settings_before",
]
