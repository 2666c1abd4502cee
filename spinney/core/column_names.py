"""Names of columns: our own wherever they stand beside those that a fleet declares, and any name as SQL has it."""

from __future__ import annotations

PREFIX = "_spinney_"
"""No column of a fleet may begin with this, whatever its case."""


def own(name: str) -> str:
    """The name of a column of ours, which no column of a fleet has."""
    return PREFIX + name


def is_own(name: str) -> bool:
    """Whether a column's name is kept for us."""
    return name.lower().startswith(PREFIX)


def quoted(name: str) -> str:
    """A column's name as an identifier of Spark SQL, whatever characters it has."""
    return "`" + name.replace("`", "``") + "`"
