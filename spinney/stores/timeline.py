"""A moment as a person names it: a time, or a round."""

from __future__ import annotations

import difflib
from datetime import UTC, datetime

from schemas import tables
from spinney.core.config import Config
from spinney.core.errors import StoreError
from spinney.stores import lookup
from spinney.stores.lookup import Equal

SHOWN = 3


def moment_of(config: Config, named: str) -> datetime:
    """The wall-clock time that is meant. A round, or a person's step, stands for the moment at which it decided.

    named: ISO 8601, in UTC where it names no zone (``2026-11-20``, ``2026-11-20T18:00Z``), or a round_id (``batch-7``).
    Raises StoreError.
    """
    try:
        at = datetime.fromisoformat(named)
    except ValueError:
        return _of_round(config, named)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _of_round(config: Config, named: str) -> datetime:
    for base, column in ((tables.ROUNDS, "started_at"), (tables.PROMOTIONS, "decided_at")):
        found = lookup.dicts(lookup.every(config, base, [column], Equal("round_id", named)))
        if found:
            at: datetime = max(row[column] for row in found)
            return at
    known = lookup.every(config, tables.ROUNDS, ["round_id"]).column("round_id").to_pylist()
    near = ", ".join(difflib.get_close_matches(named, known, n=SHOWN, cutoff=0.0)) or "none yet"
    raise StoreError(
        f"fleet {config.fleet.name}: expected a time like 2026-11-20T18:00Z, or a round that was recorded; got "
        f"{named!r}. The nearest rounds are: {near}"
    )
