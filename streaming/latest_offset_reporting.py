"""Write how far the topics reached when Spark last looked at them, so that other processes can show the lag."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from pyspark.sql.streaming.listener import SourceProgress, StreamingQueryProgress

from spinney.storage.layout import FleetStore
from spinney.storage.reported_offsets import SeenOffsets, write_seen_offsets

log = logging.getLogger(__name__)

INTERVAL_S = 2.0
"""Shortest time between two writes of a query's file, in seconds."""

KAFKA = "Kafka"
"""Beginning of Spark's description of a Kafka source."""


class OffsetReporter:
    """Writes the newest offsets of each query that reads topics, when a batch ends and while the query is idle.

    An idle query reports no batch, although Spark looks for new records. clock: returns seconds that never go back.
    """

    def __init__(self, store: FleetStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._clock = store, clock
        self._lock = threading.Lock()  # each session reports its queries in a thread of its own
        self._ends: dict[str, dict[str, dict[str, int]]] = {}
        self._written_at: dict[str, float] = {}

    def receive(self, progress: StreamingQueryProgress) -> None:
        """Note the offsets of a batch that has ended."""
        ends, query = latest_offsets(progress.sources), str(progress.name)
        if not ends:
            return
        with self._lock:
            self._ends[query] = {**self._ends.get(query, {}), **ends}
        self.still_current(query)

    def still_current(self, query: str) -> None:
        """Note that Spark has looked again and found nothing new.

        Writes the file unless it was written within INTERVAL_S.
        """
        with self._lock:
            now = self._clock()
            if query not in self._ends or now - self._written_at.get(query, now - INTERVAL_S) < INTERVAL_S:
                return
            self._written_at[query] = now
            seen = SeenOffsets(datetime.now(UTC), self._ends[query])
            try:
                write_seen_offsets(self._store, query, seen)
            except OSError as error:  # the lag is not shown: no reason to end a query
                log.warning("offsets of %s cannot be written: %s", query, error)


def latest_offsets(sources: Iterable[SourceProgress]) -> dict[str, dict[str, int]]:
    """Return topic -> partition -> end offset, for the Kafka sources of a batch. sources: as Spark reports them."""
    found: dict[str, dict[str, int]] = {}
    for source in sources:
        if source.description.startswith(KAFKA):
            # Not its attribute, whose text is JSON or Python's, by how the event was read.
            found |= json.loads(source.json)["latestOffset"] or {}  # null: Spark has not looked yet
    return found
