"""Resolves `as_of`, a time or the name of a round, to a time of the wall clock.

The wall clock is the clock of promotions (`decided_at`). It is used even if the fleet runs on event time, since the
time of an event does not tell which model answered it. Times before the first decision and in the future are errors.
"""

from __future__ import annotations

import difflib
from datetime import UTC, datetime

from schemas import tables
from spinney.core.errors import StoreError
from spinney.storage.kept_since import read_kept_since
from spinney.storage.layout import FleetStore
from spinney.tables import lookup
from spinney.tables.lookup import HasText

SUGGESTED_ROUNDS = 3
CLOCK = "the wall clock on which models were promoted, in UTC"


def resolve_as_of(store: FleetStore, named: str | datetime) -> datetime:
    """Return the wall-clock time that is meant. A round or a manual override means the time of its decision.

    named: a time (UTC if it has no zone), ISO 8601 text (``2026-11-20``, ``2026-11-20T18:00Z``), or a round_id
    (``batch-7``). Raises StoreError: neither a time nor a round; before the first decision; in the future; before
    decisions that `spinney tidy` has deleted.
    """
    if isinstance(named, datetime):
        at = named
    else:
        try:
            at = datetime.fromisoformat(named)
        except ValueError:
            at = _time_of_round(store, named)
            _require_kept(store, at, f"round {named}")
            return at
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    _require_known(store, at)
    _require_kept(store, at, at.isoformat())
    return at


def format_as_of(at: datetime) -> str:
    """Return a time and its clock as text for people."""
    return f"{at.astimezone(UTC).isoformat(sep=' ', timespec='seconds').removesuffix('+00:00')}, by {CLOCK}"


def _require_known(store: FleetStore, at: datetime) -> None:
    now, first = datetime.now(UTC), lookup.earliest_time(store, tables.PROMOTIONS, "decided_at")
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


def _require_kept(store: FleetStore, at: datetime, named: str) -> None:
    """Raise StoreError for a time of which some decisions were deleted: the champions of that time are not known."""
    kept_since = read_kept_since(store)
    if kept_since is not None and at < kept_since:
        raise StoreError(
            f"fleet {store.fleet.name}: expected a moment from {kept_since.isoformat(timespec='seconds')} on, by "
            f"{CLOCK}; got {named}: of earlier decisions `spinney tidy` has deleted some (retention.models), so who "
            "was champion then is not known of each group"
        )


def _time_of_round(store: FleetStore, named: str) -> datetime:
    for base, column in ((tables.ROUNDS, "started_at"), (tables.PROMOTIONS, "decided_at")):
        found = lookup.to_dicts(lookup.read_where(store, base, [column], HasText("round_id", named)))
        if found:
            at: datetime = max(row[column] for row in found)
            return at
    known = lookup.read_where(store, tables.ROUNDS, ["round_id"]).column("round_id").to_pylist()
    near = ", ".join(difflib.get_close_matches(named, known, n=SUGGESTED_ROUNDS, cutoff=0.0)) or "none yet"
    raise StoreError(
        f"fleet {store.fleet.name}: expected a time like 2026-11-20T18:00Z, or a round that was recorded; got "
        f"{named!r}. The nearest rounds are: {near}"
    )
