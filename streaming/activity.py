"""What the queries did, counted from what they committed; only records that were dropped stand in Spark's progress."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from schemas import tables
from schemas.contract import Contract
from schemas.vocabulary import QueryName
from spinney.core.config import Config
from spinney.operations.dead_letters.letters import Choice, Kind, Letters, kinds
from spinney.storage import checkpoints
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.table_log import appended
from streaming.reporting import Report

_COUNTED: dict[str, dict[str, tuple[Contract, str]]] = {
    QueryName.INGEST: {
        "events": (tables.EVENTS, ""),
        "outcomes": (tables.OUTCOMES, ""),
        "dead": (tables.DEAD_LETTERS, ""),
    },
    QueryName.SCORE: {"answers": (tables.PREDICTIONS, "")},
}
"""Query -> what it appends, a row each -> table and directory."""

_SUMMED: dict[str, tuple[Contract, str, dict[str, str]]] = {
    QueryName.LABELS: (tables.HEALTH, "labels", {"labels": "labelled"}),
    QueryName.RETRAIN: (
        tables.ROUNDS,
        "stream",
        {
            "groups_refitted": "fitted",
            "promoted": "promoted",
            "promoted_unproven": "unproven",
            "refused": "refused",
            "failed": "failed",
        },
    ),
}
"""Query -> table and directory, what is counted -> the column that is added up."""


class Activity:
    """Counts from the moment it is made, and then from each report to the next, batches that have ended."""

    def __init__(self, config: Config, names: Iterable[str]) -> None:
        self._config, self._store = config, FleetStore.of(config)
        self._names = tuple(names)
        self._ended = {name: self._newest(name) for name in self._names}
        self._read = {
            (name, what): self._version(name, what) for name in self._names for what in _COUNTED.get(name, {})
        }
        self._arrived: dict[int, int] = {}

    def saw(self, batches: Iterable[Any]) -> None:
        """Take in Spark's progress of batches of `ingest`; the same ones may come again."""
        for batch in batches:
            if batch.batchId > self._ended[QueryName.INGEST] and batch.durationMs.get("addBatch") is not None:
                arrivals = batch.observedMetrics.get("arrivals")
                self._arrived[batch.batchId] = arrivals["records"] if arrivals is not None else 0

    def reports(self) -> list[Report]:
        """What each query did since the last call."""
        return [self._report(name) for name in self._names]

    def _report(self, name: str) -> Report:
        since = self._ended[name]
        # Spark hands over a batch's progress a moment after it has ended; how many came is not known before.
        until = max(self._arrived, default=since) if name == QueryName.INGEST else self._newest(name)
        self._ended[name] = until
        if name in _SUMMED:
            return Report(name, self._sums(name, since, until))
        counts = {what: self._rows(name, what, until) for what in _COUNTED[name]}
        if name != QueryName.INGEST:
            return Report(name, counts)
        arrived, self._arrived = sum(self._arrived.values()), {}
        duplicates = max(0, arrived - sum(counts.values()))
        dead = self._dead(since) if counts["dead"] else ()
        return Report(name, {**counts, "duplicates": duplicates}, dead)

    def _version(self, name: str, what: str) -> int:
        base, part = _COUNTED[name][what]
        return delta.version(self._store.directory(base, part))

    def _newest(self, name: str) -> int:
        """The newest batch that ended; -1 before the first."""
        ended = checkpoints.newest(self._store.checkpoint(name), "commits")
        return -1 if ended is None else ended

    def _rows(self, name: str, what: str, until: int) -> int:
        """Rows that a query appended since the last report, up to this batch."""
        base, part = _COUNTED[name][what]
        first, last = self._read[name, what] + 1, self._version(name, what)
        rows = 0
        for commit in appended(self._store.directory(base, part), first, last):
            if commit.query == name and commit.batch_id is not None and commit.batch_id > until:
                last = commit.version - 1
                break
            rows += (commit.rows or 0) if commit.query == name else 0
        self._read[name, what] = last
        return rows

    def _sums(self, name: str, since: int, until: int) -> dict[str, int]:
        base, part, columns = _SUMMED[name]
        where = (ds.field("batch_id") > since) & (ds.field("batch_id") <= until)
        place = self._store.directory(base, part)
        table = delta.opened(place)
        if table is None:
            raise delta.not_made(place)
        rows = delta.dataset(table).to_table(list(columns.values()), filter=where)
        counts = {what: int(pc.sum(rows[column]).as_py() or 0) for what, column in columns.items()}
        return {"rounds": int(rows.num_rows), **counts} if name == QueryName.RETRAIN else counts

    def _dead(self, since: int) -> tuple[Kind, ...]:
        """Dead letters of later batches, by kind; among them may be some of the batch that is under way."""
        letters = Letters.opened(self._store, Choice(after_batch=since))
        return tuple(kinds(letters, pa.array([], pa.string())))
