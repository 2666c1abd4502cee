"""Tidying and purging beside running queries: each directory by the process that writes it, while its query goes on.

A query's lock is held for commits and deletions only, so that no batch waits for files to be rewritten.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime

from deltalake import DeltaTable

from schemas.vocabulary import QueryName
from spinney.core.config import Config
from spinney.operations import clustering, maintenance
from spinney.operations.clustering import CommitGuard
from spinney.operations.dead_letters import purge
from spinney.storage.layout import Directory, FleetStore
from spinney.tables import delta
from spinney.tables.file_rewriting import Interrupted

POLL_SECONDS = 1.0
"""Between two looks for a request: a file is read."""

CLUSTER_SECONDS = 30.0
"""Between two looks whether files are due to be clustered: new commits are read, which takes milliseconds."""

MOST_LEFT_OUT = 127
"""Calls left out between two attempts that fail, at most: looks over an hour, polls over two minutes."""

log = logging.getLogger(__name__)


class Backoff:
    """Which calls of something that fails are left out: one after the first failure, twice as many and one each time.

    Counted in calls, so that it means the same at any pace.
    """

    def __init__(self) -> None:
        self._failures = self._left_out = 0

    def waits(self) -> bool:
        """Whether this call is to be left out."""
        if not self._left_out:
            return False
        self._left_out -= 1
        return True

    def failed(self) -> None:
        self._failures += 1
        self._left_out = min(2 ** min(self._failures, 30) - 1, MOST_LEFT_OUT)

    def succeeded(self) -> None:
        self._failures = 0


class Tidier:
    """Clusters what its queries write, and serves requests to tidy and to purge, in a thread of its own."""

    def __init__(self, config: Config) -> None:
        self._config, self._store = config, FleetStore.of(config)
        self._writing: dict[str, threading.Lock] = {}
        self._backoffs: defaultdict[str, Backoff] = defaultdict(Backoff)
        self._clusterers: list[Clusterer] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve_until_stopped, name="tidying", daemon=True)

    def add(self, query: str, writing: threading.Lock) -> None:
        """writing: is held by the query while it writes a batch."""
        self._writing[query] = writing
        guard = CommitGuard(writing, self._stopping.is_set)
        for directory in maintenance.owned(self._store, query):
            if directory.contract.name in clustering.SORT_BY:
                self._clusterers.append(Clusterer(self._config, directory, guard))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End, after what is being committed: our leases must not end before our writes."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _serve_until_stopped(self) -> None:
        looked = time.monotonic()
        while not self._stopping.wait(POLL_SECONDS):
            for query, writing in self._writing.items():
                self._serve(query, writing)
            if time.monotonic() - looked >= CLUSTER_SECONDS:
                for each in self._clusterers:
                    each.look()
                looked = time.monotonic()

    def _serve(self, query: str, writing: threading.Lock) -> None:
        backoff = self._backoffs[query]
        if backoff.waits():
            return
        try:
            serve(self._config, query, writing, self._stopping.is_set)
        except Exception as error:
            # The fleet goes on untidied; whoever asked waits in vain and says so.
            log.warning("tidying what query %s writes: %s", query, error)
            backoff.failed()
        else:
            backoff.succeeded()


class Clusterer:
    """Clusters one directory as it grows."""

    def __init__(self, config: Config, directory: Directory, guard: CommitGuard) -> None:
        self._config, self._directory, self._guard = config, directory, guard
        self._table: DeltaTable | None = None
        self._seen = -1
        self._backoff = Backoff()

    def look(self) -> None:
        """Carry out the merges that are due. What fails is logged: refits read more files then, and the same rows.

        A rewrite that fails has read and sorted up to its whole partition: it is not repeated at every look.
        """
        if self._backoff.waits():
            return
        try:
            if self._table is None:
                self._table = delta.opened(self._directory)
            else:
                self._table.update_incremental()
            if self._table is None or self._table.version() == self._seen or self._guard.interrupted():
                return
            seen = self._table.version()
            for each in clustering.cluster(self._table, self._directory.contract.name, self._guard):
                log.info("clustered %s: %d files, %d rows", self._directory.name, len(each.old), each.rows)
            self._seen = seen
        except Interrupted:
            return
        except Exception as error:
            log.warning("clustering %s: %s", self._directory.name, error)
            self._table = None  # opened anew: what is known of its files may be what failed
            self._backoff.failed()
        else:
            self._backoff.succeeded()


def serve(config: Config, query: str, writing: threading.Lock, stopping: Callable[[], bool]) -> None:
    """Serve requests that this query has not served yet."""
    store = FleetStore.of(config)
    if query == QueryName.INGEST:
        purge.serve(store, writing)
    request = maintenance.requested(store, query)
    if request is None:
        return
    done, error = [], None
    for directory in maintenance.owned(store, query):
        if stopping():
            return  # it is served at the next start
        try:
            done.append(maintenance.carry_out(config, directory, datetime.now(UTC), CommitGuard(writing, stopping)))
        except Interrupted:
            return
        except Exception as failed:
            error = f"{directory.name}: {failed}"
            log.warning("tidying %s", error)
    maintenance.serve(store, query, maintenance.Served(request, tuple(done), error))
