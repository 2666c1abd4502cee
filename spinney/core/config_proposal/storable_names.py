"""Column names that tables can store, for columns with other names in files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from unicodedata import combining, normalize

from spinney.core.config.cross_checks import RESERVED_NAMES, is_storable
from spinney.core.internal_column_names import is_internal_name


def stored_names(sources: Iterable[str], own: Mapping[str, str]) -> dict[str, str]:
    """Return source name → column name: the same if tables can store it, else the most similar one that they can.

    own: source → the one reserved name that it may have. Names that differ only in case get a number.
    """
    taken: set[str] = set()
    names: dict[str, str] = {}
    for source in sources:
        name = source if is_storable(source) else _storable_name(source)
        if is_internal_name(name):
            name = name.lower().lstrip("_")
        if name.lower() in RESERVED_NAMES and own.get(source) != name:
            name += "_"
        number, wanted = 1, name
        while name.lower() in taken:
            number += 1
            name = f"{wanted}_{number}"
        taken.add(name.lower())
        names[source] = name
    return names


def _storable_name(name: str) -> str:
    """Return a storable name: ``"Sale Price ($)"`` → ``"sale_price"``."""
    letters = "".join(letter for letter in normalize("NFKD", name) if not combining(letter))
    return re.sub(r"[^a-z0-9]+", "_", letters.casefold()).strip("_") or "column"


def fleet_name(stem: str) -> str:
    """Return a fleet's name made from a file's name."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:40] or "fleet"
