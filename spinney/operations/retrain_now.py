"""Ask the running stream to retrain a group in its next round, on behalf of a person who uses the
command or the page.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from schemas import tables
from schemas.vocabulary import QueryName, RoundKind, Staleness
from spinney.core import keys
from spinney.core.champions.champion_selection import is_pinned
from spinney.core.champions.promotion import CHAMPION_COLUMNS, Promotion
from spinney.core.errors import GroupError, UnknownGroup
from spinney.operations.interventions import Attribution
from spinney.retraining.unfinished_rounds import read_unfinished_round
from spinney.storage import leases, retrain_requests
from spinney.storage.layout import FleetStore
from spinney.storage.retrain_requests import RetrainRequest
from spinney.tables import lookup
from spinney.tables.lookup import RowFilter


@dataclass(frozen=True)
class RequestOutcome:
    """The outcome of a request. request: None if it was only checked and not written.

    is_stream_running: whether the query `retrain` runs and will take the request with its next round. waiting: number
    of waiting requests, including this one.
    """

    group_key: str
    request: RetrainRequest | None
    is_stream_running: bool
    waiting: int


def check_request(store: FleetStore, group_key: str) -> RequestOutcome:
    """Return the outcome that a request would have; nothing is written.

    Raises UnknownGroup. GroupError: it is pinned, requested already, or in the plan of a round that is not recorded.
    StoreError: its request, or the lease of `retrain`, cannot be read.
    """
    _require_known(store, group_key)
    if (known := retrain_requests.find_request(store, group_key)) is not None:
        raise GroupError(group_key, _already_requested(known))
    if (round_id := _open_round_of(store, group_key)) is not None:
        raise GroupError(group_key, f"round {round_id} is retraining it; ask again once that round is recorded")
    return _outcome(store, group_key, None)


def request_retrain(store: FleetStore, group_key: str, attribution: Attribution) -> RequestOutcome:
    """Write a request to retrain a group.

    Raises the errors of `check_request`; Busy if too many requests wait; StoreError if the request cannot be written.
    """
    check_request(store, group_key)
    request = RetrainRequest.new(group_key, attribution.by, attribution.reason, datetime.now(UTC))
    written = retrain_requests.add_request(store, request)
    if written.id != request.id:  # somebody else asked between the check and now
        raise GroupError(group_key, _already_requested(written))
    return _outcome(store, group_key, written)


def _outcome(store: FleetStore, group_key: str, request: RetrainRequest | None) -> RequestOutcome:
    waiting = len(retrain_requests.read_requests(store))
    return RequestOutcome(group_key, request, leases.is_held(store, QueryName.RETRAIN.value), waiting)


def _already_requested(request: RetrainRequest) -> str:
    at = f"{request.requested_at.astimezone(UTC):%Y-%m-%d %H:%M}"
    return f"{request.by} asked for it at {at} UTC ({request.reason}), and the request is not carried out yet"


def _require_known(store: FleetStore, group_key: str) -> None:
    """Raise UnknownGroup for a group without events, GroupError for a pinned one."""
    rows = RowFilter.of_groups([group_key])
    promotions = lookup.to_dicts(lookup.read_rows(store, tables.PROMOTIONS, CHAMPION_COLUMNS, rows))
    if is_pinned([Promotion.from_row(row) for row in promotions]):
        raise GroupError(group_key, "it is pinned, so that no new model may replace its own; unpin it first")
    if promotions:
        return
    is_parent = keys.is_parent(group_key) and retrain_requests.is_key_of(store.fleet, group_key)
    if not is_parent and not lookup.read_rows(store, tables.EVENTS, ["group_key"], rows).num_rows:
        known = lookup.read_group_keys(store, tables.EVENTS)
        raise UnknownGroup(keys.unknown_group_message(group_key, known, "nothing was ever stored of it"))


def _open_round_of(store: FleetStore, group_key: str) -> str | None:
    """Return the stream's round that plans to fit the group and is not recorded yet; None if there is none.

    A round of a batch does not count, since stream and batch may retrain a group at the same time.
    """
    planned = read_unfinished_round(store, RoundKind.STREAM)
    if planned is None:
        return None
    columns = ["group_key", "decision", "round_id"]
    verdicts = lookup.to_dicts(lookup.read_rows(store, tables.VERDICTS, columns, RowFilter.of_groups([group_key])))
    is_in_it = any(row["decision"] == Staleness.FIT and row["round_id"] == planned.round_id for row in verdicts)
    return planned.round_id if is_in_it else None
