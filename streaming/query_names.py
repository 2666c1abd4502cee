"""Names of the queries, without an import of Spark."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.vocabulary import STREAMING, QueryName
from spinney.core.config import Config
from spinney.core.errors import StoreError

QUERY_NAMES = tuple(query.value for query in STREAMING)
"""Names of the queries in the order in which records pass through them; `--once` runs them in this order."""


def select_queries(config: Config, only: Sequence[str]) -> tuple[str, ...]:
    """Return the queries of a fleet to run, in order. only: their names; all if empty.

    Raises:
        StoreError: a name is unknown, or no query is left because the fleet does not need `labels`.
    """
    unknown = [name for name in only if name not in QUERY_NAMES]
    if unknown:
        raise StoreError(f"--only: no query named {unknown[0]!r}; there are {', '.join(QUERY_NAMES)}")
    requested = only or QUERY_NAMES
    unneeded = {QueryName.LABELS.value} if config.record_schema.has_label_in_event else set()
    selected = tuple(name for name in QUERY_NAMES if name in requested and name not in unneeded)
    if not selected:
        raise StoreError(
            f"--only {QueryName.LABELS}: expected a fleet with late labels (kafka.outcomes); got one whose labels are "
            f"inside its events; {QueryName.SCORE} counts those"
        )
    return selected
