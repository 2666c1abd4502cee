"""The numbers of the pipeline: batches of each query, rows of the tables, dead letters by kind, the newest rounds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from schemas import tables
from schemas.vocabulary import STREAMING
from spinney.core.reporting.round_progress import RoundProgress
from spinney.operations.dead_letters import ledger
from spinney.operations.dead_letters.letters import LOADED, DeadLetters, LetterFilter, LetterGroup, group_letters
from spinney.page_data.rounds_under_way import read_rounds_under_way
from spinney.storage import checkpoints
from spinney.storage.checkpoints import BatchTime
from spinney.storage.layout import FleetStore
from spinney.storage.reported_offsets import TopicLag, read_lag
from spinney.storage.retrain_requests import RetrainRequest, read_requests
from spinney.tables import lookup

BATCHES = 60
"""Largest number of batches that are shown of each query: the newest."""

ROUNDS = 20
"""Largest number of rounds that are shown: the newest."""

LETTERS_WITHIN = timedelta(days=7)
"""Dead letters of this age or less are counted."""

_ROUND = tuple(name for name in tables.ROUNDS.names if name not in ("pins", "batch_id"))


@dataclass(frozen=True)
class QueryBatches:
    """The newest batches of a streaming query, oldest first; empty if it has never run.

    lag: number of records that it has not processed, by topic; empty for a query that reads no topic.
    """

    query: str
    batches: tuple[BatchTime, ...]
    lag: tuple[TopicLag, ...] = ()


@dataclass(frozen=True)
class RowCounts:
    """Rows of the tables, from their logs. loaded: number of events that `spinney load` wrote; these are never scored.

    Once the stream has read everything, events - loaded = predictions. While it runs, one query may be ahead of the
    other.
    """

    events: int
    loaded: int
    predictions: int
    outcomes: int
    dead_letters: int


@dataclass(frozen=True)
class PipelineFigures:
    """The figures of the pipeline. The field names are those of the page's JSON.

    rounds: rows of that table, the newest first, with `reasons` and `seconds` as objects. under_way: rounds that are
    planned and not recorded yet, at most one of the stream and one of batches. requests: people's requests to retrain
    groups that the stream has not carried out yet, oldest first. experiment_url: the fleet's experiment in the web page
    of the MLflow server, without credentials; None if the tracking URI is not that of a server.
    """

    at: datetime
    queries: tuple[QueryBatches, ...]
    counts: RowCounts
    dead_letters: tuple[LetterGroup, ...]
    rounds: tuple[dict[str, Any], ...]
    under_way: tuple[RoundProgress, ...]
    requests: tuple[RetrainRequest, ...]
    experiment_url: str | None


def read_pipeline_figures(store: FleetStore, tracking_uri: str, now: datetime) -> PipelineFigures:
    """Return the figures of the pipeline. Raises StoreError if a table does not exist."""
    letters = DeadLetters.opened(store, LetterFilter(since=now - LETTERS_WITHIN))
    queries = (
        QueryBatches(name, checkpoints.batch_times(store.checkpoint(name), BATCHES), read_lag(store, name))
        for name in STREAMING
    )
    return PipelineFigures(
        at=now,
        queries=tuple(queries),
        counts=_count_rows(store),
        dead_letters=tuple(group_letters(letters, ledger.read_replayed(store))),
        rounds=tuple(_round(row) for row in _read_rounds(store)),
        under_way=read_rounds_under_way(store, now),
        requests=read_requests(store),
        experiment_url=_experiment_url(tracking_uri, store.fleet.name),
    )


def _count_rows(store: FleetStore) -> RowCounts:
    (loaded,) = lookup.select(
        store, tables.EVENTS, ["topic"], "count(*) AS n", f"WHERE topic LIKE '{LOADED}%'"
    ).to_pylist()
    bases = (tables.EVENTS, tables.PREDICTIONS, tables.OUTCOMES, tables.DEAD_LETTERS)
    counts = {base.name: lookup.count_rows(store, base) for base in bases}
    return RowCounts(**counts, loaded=loaded["n"])


def _read_rounds(store: FleetStore) -> list[dict[str, Any]]:
    return lookup.to_dicts(lookup.read_newest(store, tables.ROUNDS, _ROUND, "started_at", ROUNDS))


def _experiment_url(uri: str, experiment: str) -> str | None:
    """The list of experiments whose names contain this one, in a browser. Ids are known to MLflow alone.

    A password in the address must not reach callers who may only read.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    page = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/") + "/", "", ""))
    return f"{page}#/experiments?{urlencode({'experimentSearchFilter': experiment})}"


def _round(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, **{name: json.loads(row[name] or "{}") for name in ("reasons", "seconds")}}
