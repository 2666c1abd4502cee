"""Calls of MLflow by a delivery: one after the other, at a limited rate, until the delivery is stopped.

MLflow's own client repeats a call that is refused (429) or fails (5xx, no connection), with back-off and `Retry-After`;
repeating it here too would multiply the attempts. Creating a run is not idempotent: see `runs`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pyrate_limiter import Duration, Limiter, Rate

from spinney.core.config import Tracking
from spinney.core.errors import StoreError

if TYPE_CHECKING:
    from mlflow.entities import Run

PAGE = 1000
"""Maximum runs in one answer to a search."""

DELETED = "deleted"
"""MLflow's name for the lifecycle stage of deleted entities."""

NOTABLE_SECONDS = 5.0
"""Seconds without an answer after which the user is told."""

_SQLITE = "sqlite:///"


class DeliveryStopped(Exception):  # noqa: N818 - said as what is so
    """Raised when the delivery is asked to stop. What is not delivered yet is delivered next time."""


class DeliveryProgress:
    """Progress of a delivery, shared between the thread that delivers and the one that waits for it.

    leaving: event that ends the delivery at its next call when it is set. asked_at: start of the current call on the
    monotonic clock; None between calls, so that work between calls does not count as waiting. rounds: number of rounds
    that are not delivered yet, as far as known. detail: progress within the current round; empty if the round is
    delivered quickly.
    """

    def __init__(self) -> None:
        self.leaving = threading.Event()
        self.asked_at: float | None = None
        self.rounds = 0
        self.detail = ""

    @property
    def still_for(self) -> float:
        """Seconds since the start of the current call; 0 between calls."""
        asked_at = self.asked_at
        return 0.0 if asked_at is None else time.monotonic() - asked_at

    @property
    def words(self) -> str:
        """The progress in words; empty if there is nothing to report yet."""
        waiting_s = self.still_for
        waits = f"no answer for {waiting_s:,.0f} s" if waiting_s >= NOTABLE_SECONDS else ""
        left = f"{self.rounds:,} {'round' if self.rounds == 1 else 'rounds'} left" if self.rounds else ""
        return ", ".join(part for part in (self.detail, left, waits) if part)


class DeliveryClient:
    """A connection to MLflow. Use it as a context: `with DeliveryClient(config.tracking, watch) as server`."""

    def __init__(self, tracking: Tracking, watch: DeliveryProgress) -> None:
        # Otherwise MLflow prints each run's address on standard output, which belongs to the commands.
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        # Imported here, since MLflow takes seconds and memory to import.
        from mlflow import MlflowClient

        self._uri = tracking.uri
        self._client = MlflowClient(tracking_uri=self._uri)
        self._pace = Limiter(Rate(tracking.calls_per_second, Duration.SECOND))
        self.watch = watch

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pace.close()

    def ask(self, call: str, *arguments: Any, **named: Any) -> Any:
        """Call a method of MLflow's client at the configured rate. Raises MLflow's errors, DeliveryStopped."""
        self._await_turn()
        self.watch.asked_at = time.monotonic()
        try:
            return getattr(self._client, call)(*arguments, **named)
        finally:
            self.watch.asked_at = None

    def upload(self, run_id: str, folder: Path, into: str | None = None) -> None:
        """Upload each file of a folder as an artifact, replacing existing ones."""
        self._await_turn()  # the client requests the location of a run's artifacts once
        for file in sorted(folder.iterdir()):
            self.ask("log_artifact", run_id, str(file), into)

    def experiment(self, name: str) -> str:
        """Return the id of an experiment, created if necessary. Raises StoreError if it was deleted."""
        found = self.ask("get_experiment_by_name", name)
        if found and found.lifecycle_stage == DELETED:
            raise StoreError(
                f"experiment {name}: expected one to write to; got one that was deleted. Restore it: mlflow "
                f'experiments restore -x {found.experiment_id}; or set tracking.mode = "off"'
            )
        if found:
            return str(found.experiment_id)
        return str(self.ask("create_experiment", name, artifact_location=self._artifacts(name)))

    def search(self, experiment: str, where: str) -> Iterator[Run]:
        """Return every run that a search finds, including deleted ones. where: a filter in MLflow's syntax."""
        from mlflow.entities import ViewType

        token: str | None = None
        while True:
            page = self.ask("search_runs", [experiment], where, ViewType.ALL, PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _await_turn(self) -> None:
        if self.watch.leaving.is_set():
            raise DeliveryStopped
        self._pace.try_acquire("mlflow")

    def _artifacts(self, name: str) -> str | None:
        """Return the location for artifacts: a folder beside an SQLite file. None: the server decides.

        For a database MLflow's own default is the current folder.
        """
        if not self._uri.startswith(_SQLITE):
            return None
        database = Path(self._uri.removeprefix(_SQLITE).partition("?")[0]).resolve()
        return str(database.with_name(f"{database.stem}-artifacts") / name)
