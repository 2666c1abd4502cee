"""MLflow as the deliverer talks to it: one call after the other, at a pace, until it is told to leave.

A call that is refused (429) or fails (5xx, no connection) is repeated by MLflow's own client, which backs off and heeds
`Retry-After`; doing that here too would multiply the attempts. Creating a run is not idempotent, repeated or not: see
`runs`.
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
"""Runs in one answer to a search."""

DELETED = "deleted"
"""How MLflow calls what stands in its bin."""

NOTABLE_SECONDS = 5.0
"""For which an answer is owed before a person is told."""

_SQLITE = "sqlite:///"


class DeliveryStopped(Exception):  # noqa: N818 - said as what is so
    """Raised when the delivery is asked to stop. What is not delivered yet is delivered next time."""


class DeliveryProgress:
    """Progress of a delivery, shared between the thread that delivers and the one that waits for it.

    leaving: set to have the delivery end at its next call. asked_at: on the steady clock, None while MLflow owes no
    answer: what is done here between two calls does not count against it. rounds: not delivered yet, as far as that is
    known. detail: how far the present one is; empty where that is soon done.
    """

    def __init__(self) -> None:
        self.leaving = threading.Event()
        self.asked_at: float | None = None
        self.rounds = 0
        self.detail = ""

    @property
    def still_for(self) -> float:
        """Seconds for which MLflow has owed an answer."""
        asked_at = self.asked_at
        return 0.0 if asked_at is None else time.monotonic() - asked_at

    @property
    def words(self) -> str:
        """How far it is; empty where there is nothing to say yet."""
        waiting_s = self.still_for
        waits = f"no answer for {waiting_s:,.0f} s" if waiting_s >= NOTABLE_SECONDS else ""
        left = f"{self.rounds:,} {'round' if self.rounds == 1 else 'rounds'} left" if self.rounds else ""
        return ", ".join(each for each in (self.detail, left, waits) if each)


class Server:
    """To be closed: `with Server(config.tracking, watch) as server`."""

    def __init__(self, tracking: Tracking, watch: DeliveryProgress) -> None:
        # Else each run's address is printed on standard output, which is the commands' own.
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        # MLflow takes seconds to import and a place in memory: only who delivers pays for it.
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
        """Call this method of MLflow's client when its turn has come. Raises what that raises, Left."""
        self._await_turn()
        self.watch.asked_at = time.monotonic()
        try:
            return getattr(self._client, call)(*arguments, **named)
        finally:
            self.watch.asked_at = None

    def upload(self, run_id: str, folder: Path, into: str | None = None) -> None:
        """Each file of a folder as an artifact; one that is there already is written over."""
        self._await_turn()  # the client asks once where a run's artifacts are
        for file in sorted(folder.iterdir()):
            self.ask("log_artifact", run_id, str(file), into)

    def experiment(self, name: str) -> str:
        """Its id; made where there is none. Raises StoreError for one that somebody has deleted."""
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
        """Every run that MLflow finds, page by page; deleted ones, too."""
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
        """Beside a database that is a file, which by itself would put them into whatever the current folder is.

        None: where the server has them.
        """
        if not self._uri.startswith(_SQLITE):
            return None
        database = Path(self._uri.removeprefix(_SQLITE).partition("?")[0]).resolve()
        return str(database.with_name(f"{database.stem}-artifacts") / name)
