"""Find and create the fleet's MLflow runs, identified by their tags. No run is created twice.

Creating a run is not idempotent: if an answer is lost or the client repeats its call, there are two. So a run is
searched before it is created, and duplicates are deleted except the first. A run that a person has deleted counts as
delivered and is not created again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from spinney.tracking.mlflow_client import DELETED, DeliveryClient

if TYPE_CHECKING:
    from mlflow.entities import Run as Stored

FLEET, RUN, THROUGH, RECIPE = "spinney.fleet_id", "spinney.run", "spinney.through", "spinney.recipe"
"""Tags: the fleet's identity, the run's name, the greatest batch delivered to it, and its recipe_id. The identity is
the fleet's id, not its name: another fleet of the same name also counts its batches from 0. Nested runs of groups lack
these tags, so that a search finds only the runs of rounds.
"""

RUNNING = "RUNNING"


@dataclass(frozen=True)
class Run:
    """A run in MLflow.

    through: the greatest batch delivered to it; -1: none. open: whether it has not ended. recipe_id: of its rounds;
    None if not known yet. deleted: whether a person deleted it, so that it counts as delivered.
    """

    run_id: str
    through: int
    open: bool
    deleted: bool = False
    recipe_id: str | None = None


@dataclass(frozen=True)
class RunIndex:
    """The runs of a fleet's experiment."""

    server: DeliveryClient
    fleet_name: str
    experiment: str
    fleet_id: str

    def with_runs(self, known: dict[str, Run], named: Mapping[str, Mapping[str, Any]]) -> dict[str, Run]:
        """Return `known` with a run for each name, created if necessary.

        named: name -> row of the run's first round.
        """
        missing = [name for name in named if name not in known]
        for name in missing:
            self._make(name, named[name])
        return self.known() if missing else known

    def known(self) -> dict[str, Run]:
        """Return the fleet's runs by name, with one call per thousand runs."""
        found = self.server.search(self.experiment, f"tags.`{FLEET}` = '{self.fleet_id}'")
        return {
            name: _run(run)
            for name, run in runs_by_identity(self.server, found, lambda run: str(run.data.tags[RUN])).items()
        }

    def _make(self, name: str, first: Mapping[str, Any]) -> None:
        tags = {FLEET: self.fleet_id, RUN: name, "spinney.kind": first["kind"]}
        if first["recipe_id"]:
            tags[RECIPE] = first["recipe_id"]
        began, called = to_milliseconds(first["started_at"]), f"{self.fleet_name} {name}"
        self.server.ask("create_run", self.experiment, began, tags, run_name=called)


def _run(run: Stored) -> Run:
    through = sys.maxsize if is_deleted(run) else _through(run)
    return Run(run.info.run_id, through, is_unfinished(run), is_deleted(run), run.data.tags.get(RECIPE))


def runs_by_identity(
    server: DeliveryClient, found: Iterable[Stored], identity: Callable[[Stored], str]
) -> dict[str, Stored]:
    """Return identity -> run. identity: returns the identity of a stored run.

    Of several with the same identity the most advanced is kept and the others are deleted. A deleted run counts only if
    there is no other.
    """
    first: dict[str, Stored] = {}
    for run in sorted(found, key=_best_first):
        if first.setdefault(identity(run), run) is not run and not is_deleted(run):
            server.ask("delete_run", run.info.run_id)
    return first


def is_deleted(run: Stored) -> bool:
    """Return whether a person has deleted the run in MLflow."""
    return bool(run.info.lifecycle_stage == DELETED)


def is_unfinished(run: Stored) -> bool:
    """Whether the run was not deleted and has not ended, so that more data may be added."""
    return run.info.status == RUNNING and not is_deleted(run)


def to_milliseconds(moment: datetime) -> int:
    """Return a time in milliseconds since 1970, as MLflow takes it."""
    return int(moment.timestamp() * 1000)


def _best_first(run: Stored) -> tuple[bool, bool, int, str]:
    return is_deleted(run), run.info.status == RUNNING, -_through(run), run.info.run_id


def _through(run: Stored) -> int:
    return int(run.data.tags.get(THROUGH, -1))
