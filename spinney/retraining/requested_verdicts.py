"""Verdicts of groups that people asked to retrain: rows of the next round's plan."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from schemas import tables
from schemas.vocabulary import MANUAL, RoundKind, RoundQueue, Staleness
from spinney.core import keys
from spinney.core.planning.budget import QUEUE, Candidate
from spinney.core.staleness.expected_gain import UNKNOWN_COST_MS
from spinney.retraining.round_plan import PLANNED_SCHEMA, champion_numbers
from spinney.storage.layout import FleetStore
from spinney.storage.retrain_requests import RetrainRequest
from spinney.tables import delta, lookup
from spinney.tables.lookup import RowFilter
from spinney.tables.readers import current_champions
from spinney.tables.snapshot import filter_of_groups

REQUEST = "request"
"""Key in the numbers of a verdict: the id of the request that it carries out."""


@dataclass(frozen=True)
class PlanMoment:
    """Inputs of a plan. pins: directory -> version of a table. clock: the fleet's. now: wall clock."""

    pins: Mapping[str, int]
    clock: datetime
    now: datetime


def requested_verdicts(store: FleetStore, requests: Sequence[RetrainRequest], moment: PlanMoment) -> pa.Table:
    """Return a verdict `fit` per request, in their order: PLANNED_SCHEMA.

    requests: of distinct groups. The champions are those of the pinned `promotions`.
    """
    wanted = filter_of_groups([request.group_key for request in requests], store.fleet.shards)
    known = current_champions.read_champions(store, moment.pins, wanted).to_pylist()
    champion_of = {row["group_key"]: row for row in known}
    rows = [_verdict(store, request, champion_of.get(request.group_key, {}), moment) for request in requests]
    return pa.Table.from_pylist(rows, schema=PLANNED_SCHEMA)


def candidates_of(verdicts: pa.Table) -> list[Candidate]:
    """Return the rows of `requested_verdicts` as candidates of a round, in their order."""
    costs = zip(verdicts.column("group_key").to_pylist(), verdicts.column("predicted_ms").to_pylist(), strict=True)
    return [Candidate(key, MANUAL, 0.0, 0, predicted_ms) for key, predicted_ms in costs]


def deferred_groups(store: FleetStore, group_keys: Sequence[str]) -> dict[str, int]:
    """Return those of these groups whose newest verdict of the stream is `deferred`: group_key -> shard.

    The judge has called such a group stale, and has not decided otherwise since: it reports every change of a decision.
    """
    place = store.directory(tables.VERDICTS, RoundKind.STREAM.value)
    columns, wanted = ("group_key", "shard", "decision", "batch_id"), RowFilter.of_groups(group_keys)
    found = [
        row
        for batch in lookup.read_directory(store, delta.open_existing(place), place, columns, wanted)
        for row in lookup.to_dicts(batch)
    ]
    newest = {row["group_key"]: row for row in sorted(found, key=lambda row: row["batch_id"])}
    return {key: row["shard"] for key, row in newest.items() if row["decision"] == Staleness.DEFERRED}


def _verdict(
    store: FleetStore, request: RetrainRequest, champion: Mapping[str, Any], moment: PlanMoment
) -> dict[str, Any]:
    """The row of a request. champion: of fleet_champion_selection.SCHEMA; empty for a group without a promotion."""
    fit_ms = champion.get("fit_ms")
    return {
        "shard": keys.shard_of(request.group_key, store.fleet.shards),
        "group_key": request.group_key,
        "policy": MANUAL,
        "decision": Staleness.FIT.value,
        "reason": f"asked for by {request.by}: {request.reason}",
        "numbers": _numbers(request, champion),
        "model_id": champion.get("model_id"),
        "epoch": champion.get("epoch") or 0,
        "clock": moment.clock,
        "judged_at": moment.now,
        "predicted_ms": UNKNOWN_COST_MS if fit_ms is None else fit_ms,
    }


def _numbers(request: RetrainRequest, champion: Mapping[str, Any]) -> str:
    numbers = {REQUEST: request.id, QUEUE: RoundQueue.REQUEST.value, **champion_numbers(champion)}
    return json.dumps(numbers, separators=(",", ":"))
