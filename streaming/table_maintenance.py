"""Compaction, retention and purging of dead letters, in a thread beside the running queries.

Each directory is rewritten by the process that writes it. A query's lock is held for commits and deletions only, so
that no batch waits while files are rewritten.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime

from schemas.vocabulary import QueryName
from spinney.core.config import Config
from spinney.operations import clustering, maintenance
from spinney.operations.clustering import CommitGuard
from spinney.operations.dead_letters import purge
from spinney.storage.layout import Directory, FleetStore
from spinney.tables import delta, table_log
from spinney.tables.clustered_files.file_rewriting import RewriteInterrupted
from spinney.tables.opened_tables import OpenedTables

REQUEST_CHECK_INTERVAL_S = 1.0
"""Seconds between two checks for requests. Each check reads a file."""

CLUSTER_CHECK_INTERVAL_S = 30.0
"""Seconds between two checks for due merges. Each check reads the new commits, which takes milliseconds."""

MAX_SKIPPED_CALLS = 127
"""Largest number of skipped calls between two attempts that fail: clustering waits an hour at most, requests two
minutes.
"""

log = logging.getLogger(__name__)


class Backoff:
    """Skips calls of a function that fails: one after the first failure, then 3, 7, 15 …, up to MAX_SKIPPED_CALLS.

    It counts calls instead of seconds, so that it works the same at any interval.
    """

    def __init__(self) -> None:
        self._failures = self._calls_to_skip = 0

    def should_skip(self) -> bool:
        """Whether to skip this call; counts it as skipped."""
        if not self._calls_to_skip:
            return False
        self._calls_to_skip -= 1
        return True

    def record_failure(self) -> None:
        """Skip more calls from now on."""
        self._failures += 1
        self._calls_to_skip = min(2 ** min(self._failures, 30) - 1, MAX_SKIPPED_CALLS)

    def record_success(self) -> None:
        """Skip no more calls."""
        self._failures = 0


class MaintenanceThread:
    """Clusters the files that the queries write, and serves requests of `tidy` and `dead-letters purge`."""

    def __init__(self, config: Config) -> None:
        self._config, self._store = config, FleetStore.of(config)
        self._write_locks: dict[str, threading.Lock] = {}
        self._backoffs: defaultdict[str, Backoff] = defaultdict(Backoff)
        self._clusterers: list[Clusterer] = []
        self._stop_requested = threading.Event()
        self._thread = threading.Thread(target=self._serve_until_stopped, name="tidying", daemon=True)

    def add(self, query: str, write_lock: threading.Lock) -> None:
        """Maintain the directories of a query. write_lock: the lock that the query holds while it writes a batch."""
        self._write_locks[query] = write_lock
        guard = CommitGuard(write_lock, self._stop_requested.is_set)
        for directory in maintenance.directories_of_lease(self._store, query):
            if directory.contract.name in clustering.SORT_BY:
                self._clusterers.append(Clusterer(directory, guard))

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after its current commit: the leases must be held until the last write."""
        self._stop_requested.set()
        if self._thread.is_alive():
            self._thread.join()

    def _serve_until_stopped(self) -> None:
        clustered_at = time.monotonic()
        while not self._stop_requested.wait(REQUEST_CHECK_INTERVAL_S):
            for query, write_lock in self._write_locks.items():
                self._serve(query, write_lock)
            if time.monotonic() - clustered_at >= CLUSTER_CHECK_INTERVAL_S:
                for clusterer in self._clusterers:
                    clusterer.cluster_if_due()
                clustered_at = time.monotonic()

    def _serve(self, query: str, write_lock: threading.Lock) -> None:
        backoff = self._backoffs[query]
        if backoff.should_skip():
            return
        try:
            serve_requests(self._config, query, write_lock, self._stop_requested.is_set)
        except Exception as error:
            # The queries continue. The command that sent the request reports that it was not served in time.
            log.warning("tidying what query %s writes: %s", query, error)
            backoff.record_failure()
        else:
            backoff.record_success()


class Clusterer:
    """Clusters the files of one directory as it grows. guard: rules for its commits."""

    def __init__(self, directory: Directory, guard: CommitGuard) -> None:
        self._directory, self._guard = directory, guard
        self._clustered_version: int | None = None
        self._backoff = Backoff()

    def cluster_if_due(self) -> None:
        """Carry out the merges that are due. Errors are logged: without a merge, refits read more files.

        A rewrite that fails may have read and sorted a whole partition, so it is not repeated at every call.
        """
        if self._backoff.should_skip():
            return
        try:
            if self._guard.interrupted() or not self._has_new_commits():
                return
            # Opened each time: one that is kept up to date takes more memory and CPU with each commit.
            table = delta.open_table(self._directory)
            if table is None:
                return
            version = int(table.version())
            for merge in clustering.cluster(table, self._directory.contract.name, self._guard):
                log.info("clustered %s: %d files, %d rows", self._directory.name, len(merge.old), merge.rows)
            self._clustered_version = version
        except RewriteInterrupted:
            return
        except Exception as error:
            log.warning("clustering %s: %s", self._directory.name, error)
            self._backoff.record_failure()
        else:
            self._backoff.record_success()

    def _has_new_commits(self) -> bool:
        known = self._clustered_version
        return known is None or table_log.has_newer_commit(self._directory, known)


def serve_requests(config: Config, query: str, write_lock: threading.Lock, should_stop: Callable[[], bool]) -> None:
    """Serve the requests that this query has not served yet. should_stop: asked between two directories."""
    store = FleetStore.of(config)
    if query == QueryName.INGEST:
        purge.serve_purge(store, write_lock)
    request = maintenance.pending_request(store, query)
    if request is None:
        return
    done, error, opened = [], None, OpenedTables()
    for directory in maintenance.directories_of_lease(store, query):
        if should_stop():
            return  # the request is served at the next start
        try:
            done.append(
                maintenance.tidy_directory(
                    store,
                    config.safe_retention,
                    directory,
                    datetime.now(UTC),
                    CommitGuard(write_lock, should_stop),
                    opened,
                )
            )
        except RewriteInterrupted:
            return
        except Exception as failed:
            error = f"{directory.name}: {failed}"
            log.warning("tidying %s", error)
    maintenance.write_answer(store, query, maintenance.TidyAnswer(request, tuple(done), error))
