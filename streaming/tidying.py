"""Tidying beside running queries: each directory by the process that writes it, while its query writes nothing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from spinney.core.config import Config
from spinney.stores import tidy

POLL_SECONDS = 1.0
"""Between two looks for a request: a file is read."""

log = logging.getLogger(__name__)


class Tidier:
    """Serves requests of `spinney tidy` in a thread of its own, for the queries that this process runs."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._writing: dict[str, threading.Lock] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve_until_stopped, name="tidying", daemon=True)

    def add(self, query: str, writing: threading.Lock) -> None:
        """writing: is held by the query while it writes a batch."""
        self._writing[query] = writing

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End, after the directory that is being tidied: our leases must not end before our writes."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _serve_until_stopped(self) -> None:
        while not self._stopping.wait(POLL_SECONDS):
            for query, writing in self._writing.items():
                try:
                    serve(self._config, query, writing, self._stopping.is_set)
                except Exception as error:
                    # The fleet goes on untidied; whoever asked waits in vain and says so.
                    log.warning("tidying what query %s writes: %s", query, error)


def serve(config: Config, query: str, writing: threading.Lock, stopping: Callable[[], bool]) -> None:
    """Serve a request that this query has not served yet. A batch waits for one directory at most."""
    request = tidy.requested(config, query)
    if request is None:
        return
    done, error = [], None
    for directory in tidy.owned(config, query):
        if stopping():
            return  # it is served at the next start
        try:
            with writing:
                done.append(tidy.carry_out(config, directory, datetime.now(UTC)))
        except Exception as failed:
            error = f"{directory.name}: {failed}"
            log.warning("tidying %s", error)
    tidy.serve(config, query, tidy.Served(request, tuple(done), error))
