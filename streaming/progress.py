"""Progress of running queries, as Spark reports it after each batch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from typing import Any
from uuid import UUID

from pyspark.sql import SparkSession
from pyspark.sql.streaming.listener import (
    QueryIdleEvent,
    QueryProgressEvent,
    QueryStartedEvent,
    QueryTerminatedEvent,
    StreamingQueryListener,
    StreamingQueryProgress,
)

from spinney.spark.session import java_listener

Receive = Callable[[StreamingQueryProgress], None]


def ignore_progress(progress: StreamingQueryProgress) -> None:
    """Ignore the progress."""
    del progress


class ProgressListener(StreamingQueryListener):
    """Collects the progress of every batch of the queries that start while it is attached.

    Spark calls `onQueryStarted` while the query starts, and the other methods in a thread of its own, some time after
    the batch was committed. The events of a query arrive in order, so its progress is complete once `onQueryTerminated`
    was called. Spark logs an exception of these methods and continues.

    receive: called in Spark's thread with the progress of each batch. idle: called there with the name of a query that
    has found nothing new for ten seconds, and again every ten seconds.
    """

    def __init__(self, receive: Receive = ignore_progress, idle: Callable[[str], None] = lambda _: None) -> None:
        self._receive, self._idle = receive, idle
        self._sessions: list[SparkSession] = []
        self._changed = threading.Condition()
        self._running: dict[UUID, str] = {}  # run id -> query
        self._latest: dict[str, StreamingQueryProgress] = {}

    @cached_property
    def _jlistener(self) -> Any:
        """The listener object in the JVM, which PySpark registers and removes."""
        return java_listener(self)

    def attach(self, spark: SparkSession) -> None:
        """Listen to the queries of a session. A session reports only its own queries."""
        if spark not in self._sessions:
            spark.streams.addListener(self)
            self._sessions.append(spark)

    def detach(self) -> None:
        """Stop listening; what was collected stays."""
        while self._sessions:
            with suppress(Exception):  # if the JVM has ended, there is nothing to detach from
                self._sessions.pop().streams.removeListener(self)

    def latest(self, query: str) -> StreamingQueryProgress | None:
        """Return the progress of the newest finished batch; None before the first."""
        with self._changed:
            return self._latest.get(query)

    def wait_until_complete(self, query: str, timeout_s: float) -> bool:
        """Wait until all progress of an ended query was received.

        Returns False if that takes longer than `timeout_s`.
        """
        with self._changed:
            return self._changed.wait_for(lambda: query not in self._running.values(), timeout_s)

    def onQueryStarted(self, event: QueryStartedEvent) -> None:  # noqa: N802
        """Remember the run: events of other runs are ignored."""
        with self._changed:
            self._running[event.runId] = str(event.name)

    def onQueryProgress(self, event: QueryProgressEvent) -> None:  # noqa: N802
        """Collect the progress of a batch."""
        progress = event.progress
        with self._changed:
            query = self._running.get(progress.runId)
            if query is None:
                return
            self._latest[query] = progress
        self._receive(progress)

    def onQueryIdle(self, event: QueryIdleEvent) -> None:  # noqa: N802
        """Pass on that the query has looked for new rows and found none."""
        with self._changed:
            query = self._running.get(event.runId)
        if query is not None:
            self._idle(query)

    def onQueryTerminated(self, event: QueryTerminatedEvent) -> None:  # noqa: N802
        """Note that no more progress of this run will come."""
        with self._changed:
            self._running.pop(event.runId, None)
            self._changed.notify_all()
