"""Keeps a snapshot of the fleet's champions up to date in the background."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Event, Thread

from spinney.gateway.memory_release import release_free_memory
from spinney.serving.fleet_snapshot import FleetSnapshot, advance, read_snapshot
from spinney.storage.layout import FleetStore

log = logging.getLogger(__name__)

POLL_S = 1.0
"""Seconds between two looks at the tables' logs, one `stat` for each of three directories."""

REREAD_S = 3600.0
"""Seconds after which all of `promotions` is read again: commits that are no longer in the log would be missed."""


class ChampionRefresh:
    """The newest snapshot of a fleet. A request reads `current` once, so that it sees one state of the fleet.

    prepare: called with each later snapshot before it becomes `current`; may be set before `start`.

    clock: returns seconds that never go back. Raises StoreError if the tables do not exist.
    """

    def __init__(self, store: FleetStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._clock = store, clock
        self.prepare: Callable[[FleetSnapshot], None] = lambda _: None
        self._stopped = Event()
        self._thread = Thread(target=self._run, name="champions", daemon=True)
        self.current: FleetSnapshot = read_snapshot(store)
        self._read_at = self._checked_at = clock()

    @property
    def age_s(self) -> float:
        """Seconds since the tables were last read successfully."""
        return self._clock() - self._checked_at

    def start(self) -> None:
        """Start to look at the tables every POLL_S."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, if it runs."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def refresh(self) -> None:
        """Add the promotions committed since the last look. The current snapshot stays if the tables cannot be read."""
        try:
            if self._clock() - self._read_at >= REREAD_S:
                self._read_all()
            else:
                self._publish(advance(self.current, self._store))
        except FileNotFoundError:
            self._read_all()  # a file was replaced between the commit and now
        self._checked_at = self._clock()

    def _read_all(self) -> None:
        self._publish(read_snapshot(self._store))
        release_free_memory()
        self._read_at = self._clock()

    def _publish(self, snapshot: FleetSnapshot) -> None:
        if snapshot is not self.current:
            self.prepare(snapshot)
            self.current = snapshot

    def _run(self) -> None:
        while not self._stopped.wait(POLL_S):
            try:
                self.refresh()
            except Exception:  # the tables may be readable again a second later; until then the champions of now answer
                log.exception(
                    "promotions: expected to read what was committed since; the champions known before answer"
                )
