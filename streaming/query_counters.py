"""Counts of what the queries did, from their commits, and of dropped records, from Spark's progress."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyspark.sql.streaming.listener import StreamingQueryProgress

from schemas import tables
from schemas.contract import Contract
from schemas.vocabulary import QueryName
from spinney.operations.dead_letters.letters import DeadLetters, LetterFilter, LetterGroup, group_letters
from spinney.storage import checkpoints
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.table_log import Append, read_appends
from streaming.reporting import QueryReport

_COUNTED_ROWS: dict[str, dict[str, tuple[Contract, str]]] = {
    QueryName.INGEST: {
        "events": (tables.EVENTS, ""),
        "outcomes": (tables.OUTCOMES, ""),
        "dead": (tables.DEAD_LETTERS, ""),
    },
    QueryName.SCORE: {"answers": (tables.PREDICTIONS, "")},
}
"""Query -> name of a count -> table and directory whose appended rows are counted."""

_SUMMED_COLUMNS: dict[str, tuple[Contract, str, dict[str, str]]] = {
    QueryName.LABELS: (tables.HEALTH, "labels", {"labels": "labelled"}),
    QueryName.RETRAIN: (
        tables.ROUNDS,
        "stream",
        {
            "groups_refitted": "fitted",
            "promoted": "promoted",
            "promoted_unproven": "unproven",
            "refused": "refused",
            "withdrawn": "withdrawn",
            "failed": "failed",
        },
    ),
}
"""Query -> table and directory, and name of a count -> column that is summed."""


class QueryCounters:
    """Counts what each query did in the batches that have ended since the last report, or since this was created.

    names: of the queries.
    """

    def __init__(self, store: FleetStore, names: Iterable[str]) -> None:
        self._store = store
        self._names = tuple(names)
        self._reported_batch = {name: self._newest_ended_batch(name) for name in self._names}
        self._read_version = {
            (name, count): self._table_version(name, count)
            for name in self._names
            for count in _COUNTED_ROWS.get(name, {})
        }
        self._lock = threading.Lock()  # progress arrives in a thread of Spark's
        self._ingested_batch = self._reported_batch.get(QueryName.INGEST, -1)
        self._arrived_records = 0
        self._reported_empty: frozenset[str] = frozenset()

    def add_progress(self, batches: Iterable[StreamingQueryProgress]) -> None:
        """Add the records that arrived in batches of `ingest`.

        batches: oldest first. A batch that was added before is ignored.
        """
        with self._lock:
            for batch in batches:
                if batch.batchId > self._ingested_batch and batch.durationMs.get("addBatch") is not None:
                    self._ingested_batch = batch.batchId
                    arrivals = batch.observedMetrics.get("arrivals")
                    self._arrived_records += arrivals["records"] if arrivals is not None else 0

    def reports(self) -> list[QueryReport]:
        """Return what each query did since the last call."""
        return [self._report(name) for name in self._names]

    def _report(self, name: str) -> QueryReport:
        since = self._reported_batch[name]
        if name == QueryName.INGEST:
            return self._ingest_report(since)
        until = self._reported_batch[name] = self._newest_ended_batch(name)
        if name in _SUMMED_COLUMNS:
            return QueryReport(name, self._sums(name, since, until))
        counts = {count: _number_of_rows(self._appends(name, count, until)) for count in _COUNTED_ROWS[name]}
        return QueryReport(name, counts)

    def _ingest_report(self, since: int) -> QueryReport:
        name = QueryName.INGEST.value
        with self._lock:
            # A batch's progress arrives a moment after its end; before, the number of its records is unknown.
            until, arrived = self._ingested_batch, self._arrived_records
            self._arrived_records = 0
        self._reported_batch[name] = until
        appends = {count: self._appends(name, count, until) for count in _COUNTED_ROWS[name]}
        counts = {count: _number_of_rows(of) for count, of in appends.items()}
        duplicates = max(0, arrived - sum(counts.values()))
        dead_letters = self._dead_letters(since) if counts["dead"] else ()
        without_values = self._columns_without_values(appends["events"])
        return QueryReport(name, {**counts, "duplicates": duplicates}, dead_letters, without_values)

    def _columns_without_values(self, appends: Sequence[Append]) -> dict[str, str]:
        """Return column -> its field in messages, for those that no appended event has a value of.

        A column is returned once, and again only after an event had a value.
        """
        if not _number_of_rows(appends):
            return {}
        fleet = self._store.fleet
        empty = [
            name
            for name in self._store.record_schema.event_columns
            if all(append.nulls.get(name) == append.rows for append in appends)
        ]
        found = {name: fleet.fields.get(name, name) for name in empty if name not in self._reported_empty}
        self._reported_empty = frozenset(empty)
        return found

    def _table_version(self, name: str, count: str) -> int:
        base, part = _COUNTED_ROWS[name][count]
        return delta.current_version(self._store.directory(base, part))

    def _newest_ended_batch(self, name: str) -> int:
        """The newest batch that ended; -1 before the first."""
        ended = checkpoints.newest_batch_id(self._store.checkpoint(name), "commits")
        return -1 if ended is None else ended

    def _appends(self, name: str, count: str, until: int) -> list[Append]:
        """Return what a query appended since the last report, up to this batch."""
        base, part = _COUNTED_ROWS[name][count]
        first, last = self._read_version[name, count] + 1, self._table_version(name, count)
        found = []
        for commit in read_appends(self._store.directory(base, part), first, last):
            if commit.query == name and commit.batch_id is not None and commit.batch_id > until:
                last = commit.version - 1
                break
            if commit.query == name:
                found.append(commit)
        self._read_version[name, count] = last
        return found

    def _sums(self, name: str, since: int, until: int) -> dict[str, int]:
        base, part, columns = _SUMMED_COLUMNS[name]
        where = (ds.field("batch_id") > since) & (ds.field("batch_id") <= until)
        table = delta.open_existing(self._store.directory(base, part))
        rows = delta.open_dataset(table).to_table(list(columns.values()), filter=where)
        counts = {count: int(pc.sum(rows[column]).as_py() or 0) for count, column in columns.items()}
        return {"rounds": int(rows.num_rows), **counts} if name == QueryName.RETRAIN else counts

    def _dead_letters(self, since: int) -> tuple[LetterGroup, ...]:
        """Return the dead letters of later batches, by kind.

        They may include some of the batch that is still running.
        """
        letters = DeadLetters.opened(self._store, LetterFilter(after_batch=since))
        return tuple(group_letters(letters, pa.array([], pa.string())))


def _number_of_rows(appends: Iterable[Append]) -> int:
    return sum(append.rows or 0 for append in appends)
