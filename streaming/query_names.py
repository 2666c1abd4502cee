"""The queries' names, for who must not import Spark yet."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.vocabulary import STREAMING, QueryName
from spinney.core.config import Config
from spinney.core.errors import StoreError

NAMES = tuple(each.value for each in STREAMING)
"""In the order in which records flow; `--once` drains them so."""


def named(config: Config, only: Sequence[str]) -> tuple[str, ...]:
    """Return those of a fleet that are asked for; only: none is all.

    Raises StoreError: a query that there is not, or that this fleet does not need.
    """
    unknown = [name for name in only if name not in NAMES]
    if unknown:
        raise StoreError(f"--only: no query named {unknown[0]!r}; there are {', '.join(NAMES)}")
    asked = only or NAMES
    found = tuple(
        name for name in NAMES if name in asked and (name != QueryName.LABELS or not config.has_label_in_event)
    )
    if not found:
        raise StoreError(
            f"--only {QueryName.LABELS}: expected a fleet with late labels (kafka.outcomes); got one whose labels are "
            f"inside its events; {QueryName.SCORE} counts those"
        )
    return found
