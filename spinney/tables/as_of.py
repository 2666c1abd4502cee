"""A moment as a person names it: a time, or a round.

Moments are of the wall clock on which models were promoted (`decided_at`), whatever clock the fleet runs on: an event's
time says nothing about which model answered it. A moment of which nothing can be known is an error: before the first
decision no model answered, and what will answer is not known.
"""

from __future__ import annotations

import difflib
from datetime import UTC, datetime

from schemas import tables
from spinney.core.errors import StoreError
from spinney.storage.layout import FleetStore
from spinney.tables import lookup
from spinney.tables.lookup import Equal

SHOWN = 3
CLOCK = "the wall clock on which models were promoted, in UTC"


def moment_of(store: FleetStore, named: str | datetime) -> datetime:
    """The wall-clock time that is meant. A round, or a person's step, stands for the moment at which it decided.

    named: a time, in UTC where it names no zone, or as ISO 8601 (``2026-11-20``, ``2026-11-20T18:00Z``), or a round_id
    (``batch-7``). Raises StoreError: neither, before the first decision, or not yet.
    """
    if isinstance(named, datetime):
        at = named
    else:
        try:
            at = datetime.fromisoformat(named)
        except ValueError:
            return _of_round(store, named)
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    _refuse_unknown(store, at)
    return at


def shown(at: datetime) -> str:
    """A moment with its clock, for people."""
    return f"{at.astimezone(UTC).isoformat(sep=' ', timespec='seconds').removesuffix('+00:00')}, by {CLOCK}"


def _refuse_unknown(store: FleetStore, at: datetime) -> None:
    now, first = datetime.now(UTC), lookup.least(store, tables.PROMOTIONS, "decided_at")
    if first is None:
        expected, remedy = "a moment at which some model answered", "none was ever promoted: run spinney retrain --all"
    elif at < first:
        expected, remedy = f"a moment from {first.isoformat()} on", "before that no model answered"
    elif at > now:
        expected, remedy = f"a moment until now, {now.isoformat(timespec='seconds')}", "what will answer is not known"
    else:
        return
    raise StoreError(
        f"fleet {store.fleet.name}: expected {expected}, by {CLOCK}; got {at.isoformat()}: {remedy}. It is not the "
        "time of events; rounds by name do as well: `spinney why --json` has them"
    )


def _of_round(store: FleetStore, named: str) -> datetime:
    for base, column in ((tables.ROUNDS, "started_at"), (tables.PROMOTIONS, "decided_at")):
        found = lookup.dicts(lookup.every(store, base, [column], Equal("round_id", named)))
        if found:
            at: datetime = max(row[column] for row in found)
            return at
    known = lookup.every(store, tables.ROUNDS, ["round_id"]).column("round_id").to_pylist()
    near = ", ".join(difflib.get_close_matches(named, known, n=SHOWN, cutoff=0.0)) or "none yet"
    raise StoreError(
        f"fleet {store.fleet.name}: expected a time like 2026-11-20T18:00Z, or a round that was recorded; got "
        f"{named!r}. The nearest rounds are: {near}"
    )
