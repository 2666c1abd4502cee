"""Names that the tables can have, for columns that files call otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from unicodedata import combining, normalize

from spinney.core.column_names import is_internal_name
from spinney.core.config.rules import RESERVED, storable


def stored_names(sources: Iterable[str], own: Mapping[str, str]) -> dict[str, str]:
    """Source name → column name: the same where tables can have it, else the nearest that they can.

    own: source → the one name of the tables' own that it may have. Names that differ only in case get a number.
    """
    taken: set[str] = set()
    found: dict[str, str] = {}
    for source in sources:
        name = source if storable(source) else _near(source)
        if is_internal_name(name):
            name = name.lower().lstrip("_")
        if name.lower() in RESERVED and own.get(source) != name:
            name += "_"
        number, wanted = 1, name
        while name.lower() in taken:
            number += 1
            name = f"{wanted}_{number}"
        taken.add(name.lower())
        found[source] = name
    return found


def _near(name: str) -> str:
    """``"Sale Price ($)"`` → ``"sale_price"``."""
    letters = "".join(each for each in normalize("NFKD", name) if not combining(each))
    return re.sub(r"[^a-z0-9]+", "_", letters.casefold()).strip("_") or "column"


def fleet_name(stem: str) -> str:
    """A fleet's name out of a file's."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:40] or "fleet"
