"""Reserved names of internal columns, and any column name quoted as an SQL identifier."""

from __future__ import annotations

PREFIX = "_spinney_"
"""No column of a fleet may begin with this, whatever its case."""


def internal_name(name: str) -> str:
    """Return the name of an internal column, which no column of a fleet can have."""
    return PREFIX + name


def is_internal_name(name: str) -> bool:
    """Return whether a column name is reserved for internal columns."""
    return name.lower().startswith(PREFIX)


def quote_identifier(name: str) -> str:
    """Return a column name as an identifier of Spark SQL."""
    return "`" + name.replace("`", "``") + "`"
