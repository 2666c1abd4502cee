"""Keeps the figures of a fleet up to date in a thread of its own, so that no request reads the whole fleet."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from schemas import tables
from spinney.core.errors import SpinneyError
from spinney.core.json_conversion import json_value
from spinney.core.reporting.group_search import GroupSearch
from spinney.fleet import Fleet
from spinney.gateway.memory_release import release_free_memory
from spinney.page_data.fleet_figures import FleetFigures
from spinney.storage import retrain_requests
from spinney.storage.layout import Directory, FleetStore
from spinney.tables import delta, table_log

LOG = logging.getLogger(__name__)

WATCHED = tuple(base for base in tables.ALL if base not in (tables.DEAD_LETTERS, tables.INCUMBENT))
"""Tables whose changes change the figures of the fleet or a group."""

GROUPS_KEPT = 64
"""Documents of single groups that are kept until a table changes."""

PAUSE_S = 2.0
"""Shortest time from the end of one reading to the next look at the tables, in seconds."""

WATCHED_S = 120.0
"""Seconds after a request until the thread stops reading. Later than that nobody is looking at the page."""

READ_AGAIN_S = 300.0
"""Seconds after which the fleet is read again although no table changed: models age, and decisions become a day old."""

SHARE = 0.2
"""Largest share of the time that is spent reading: after a reading of 2 s, the next one begins 8 s later."""


@dataclass(frozen=True)
class Document:
    """A JSON document as it is sent. etag: changes when the document does, except for its field `at`."""

    body: bytes
    etag: str


@dataclass(frozen=True)
class FleetReading:
    """The figures of a fleet at one moment. pipeline: of the pipeline. search: finds groups by key."""

    fleet: Document
    pipeline: Document
    search: GroupSearch


def make_document(value: Any) -> Document:
    """Return a dataclass or mapping as a document."""
    plain = json_value(value)
    body = json.dumps(plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    timeless = {name: part for name, part in plain.items() if name != "at"}
    digest = sha256(json.dumps(timeless, ensure_ascii=False, sort_keys=True).encode()).hexdigest()
    return Document(body, f'"{digest[:32]}"')


class PageDataRefresh:
    """The newest reading of a fleet's figures. `start` begins a daemon thread that reads, until `stop`.

    A reading begins when a table has a new version, or READ_AGAIN_S after the last one. Pauses keep readings below
    SHARE of one core. Nothing is read before somebody asks. A reading that fails is logged, and the result of the one
    before stays.

    fleet: the fleet whose figures are read. pause_s: shortest time from the end of one reading to the next look at the
    tables. watched_s: seconds after a request for which figures are still read.
    """

    def __init__(self, fleet: Fleet, pause_s: float = PAUSE_S, watched_s: float = WATCHED_S) -> None:
        self.fleet = fleet
        self._pause_s, self._watched_s = pause_s, watched_s
        self._asked_at = -math.inf
        self._is_asleep = False
        self._store = FleetStore.of(fleet.config)
        self._requested_at = 0
        self._directories = [place for base in WATCHED for place in self._store.directories(base)]
        self._versions: dict[str, int] = {}
        self._reading: FleetReading | None = None
        self._figures: FleetFigures | None = None
        self._groups: dict[str, Document] = {}
        self._fleet_read_at = 0.0
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="figures", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Stop reading, and wait for a reading that is under way."""
        self._stopped.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def refresh_soon(self) -> None:
        """Look at the tables now, because this process has changed one."""
        self._groups = {}
        self._wake.set()

    def latest(self) -> FleetReading | None:
        """Return the newest reading; None before the first.

        Counts as a request: figures are kept up to date for `watched_s`.
        """
        self._note_request()
        return self._reading

    def _note_request(self) -> None:
        self._asked_at = time.monotonic()
        if self._is_asleep:
            self._wake.set()

    def group(self, key: str) -> Document:
        """Return the history and the numbers of a group. They are read anew once a table has changed or a retrain was
        requested.

        Raises the errors of `Fleet.why`: UnknownGroup.
        """
        self._note_request()
        requested_at = retrain_requests.last_change(self._store)
        if requested_at != self._requested_at:  # by any process: no table changes then
            self._groups, self._requested_at = {}, requested_at
        groups = self._groups  # a reading that ends meanwhile replaces it
        if (known := groups.get(key)) is not None:
            return known
        with ThreadPoolExecutor(1, thread_name_prefix="group") as pool:  # each takes about half of the time
            figures = pool.submit(self.fleet.group_figures, key)
            history = self.fleet.why(key)
        document = make_document({"history": history, "figures": figures.result()})
        if len(groups) >= GROUPS_KEPT:
            groups.clear()
        groups[key] = document
        return document

    def read_changes(self, *, again: bool = False) -> None:
        """Read what has changed since the last call. again: read even if nothing has changed. Raises StoreError."""
        versions = {place.name: self._newest_version(place) for place in self._directories}
        is_old = again or time.monotonic() - self._fleet_read_at > READ_AGAIN_S
        if self._reading is None or versions != self._versions or is_old:
            statuses = self.fleet.table()
            release_free_memory()  # otherwise the figures come on top of what the statuses no longer need
            self._figures = self.fleet.figures(statuses, self._figures)
            fleet, search = make_document(self._figures), GroupSearch(statuses)
            self._fleet_read_at, self._groups = time.monotonic(), {}
            release_free_memory()
        else:
            fleet, search = self._reading.fleet, self._reading.search
        self._reading = FleetReading(fleet, make_document(self.fleet.pipeline()), search)
        self._versions = versions

    def _newest_version(self, place: Directory) -> int:
        known = self._versions.get(place.name)
        return delta.current_version(place) if known is None else table_log.read_new_files(place, known)[0]

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._sleep_until_asked()
            self._wake.clear()
            if self._stopped.is_set():  # since the condition above was looked at
                return
            began = time.monotonic()
            try:
                self.read_changes()
            except SpinneyError as error:
                LOG.warning("the fleet page's figures could not be read: %s", error)
            except Exception:
                LOG.exception("the fleet page's figures could not be read")
            took = time.monotonic() - began
            self._wake.wait(max(self._pause_s, took * (1 / SHARE - 1)))

    def _sleep_until_asked(self) -> None:
        """Wait until somebody asks.

        Kept documents of groups are dropped, since changes of tables are not noticed meanwhile.
        """
        if self._is_watched():
            return
        self._groups, self._is_asleep = {}, True
        while not self._is_watched():
            self._wake.clear()
            if not self._is_watched():  # nobody asked before `clear`
                self._wake.wait()
        self._is_asleep = False

    def _is_watched(self) -> bool:
        return self._stopped.is_set() or time.monotonic() - self._asked_at <= self._watched_s
