"""Rounds → MLflow: one run per weekly batch, one per stream and day with its rounds as steps.

The deliverer reads `rounds`, so MLflow may be down, slow or gone: models do not wait for it, and what was not delivered
is delivered when it is back. The number of calls does not grow with the number of groups. Creating a run is not
idempotent, so a lease lets one process deliver at a time.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from schemas import tables
from schemas.vocabulary import RoundKind
from spinney.core.config import Config
from spinney.core.errors import Busy
from spinney.core.recipe import Recipe
from spinney.stores import charter, delta, leases

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

NAME = "tracking"
FLEET, RUN, THROUGH = "spinney.fleet_id", "spinney.run", "spinney.through"
"""Tags: whose run it is, which run of the fleet's, and the greatest batch delivered to it.

By the fleet's identity: another fleet of the same name counts its batches from 0, too.
"""

COUNTS = (
    "groups_in", "fitted", "failed", "too_few_rows", "kept", "deferred", "promoted", "unproven", "refused", "held",
)  # fmt: skip
FIGURES = (*COUNTS, "predicted_seconds", "mean_champion_loss", "mean_challenger_loss")
EVERY_SECONDS = 30.0
PATIENCE_SECONDS = 30.0
"""How long a stop waits for a last delivery; what is not delivered then is at the next start."""

MOST_METRICS = 1000
"""What one `log_batch` may carry."""


class Deliverer:
    """The one that talks to MLflow, in a thread of its own beside the work."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._deliver_until_stopped, name="tracking", daemon=True)

    def start(self) -> None:
        if self._config.tracking.mode != "off":
            self._thread.start()

    def stop(self) -> None:
        """Deliver what is left, once, and end; a server that does not answer is not waited for."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(PATIENCE_SECONDS)

    def _deliver_until_stopped(self) -> None:
        last = False
        while not last:
            last = self._stopping.wait(EVERY_SECONDS)
            try:
                with suppress(Busy):  # another process delivers; what it does not, the next look does
                    deliver(self._config)
            except Exception as error:
                # Whatever the tracking server does, the fleet goes on; the rounds stay in their table.
                log.warning("MLflow at %s: %s; rounds are kept and delivered later", self._config.tracking.uri, error)


def deliver_now(config: Config) -> None:
    """Deliver what is left, as far as the server answers in time; the next delivery brings the rest."""
    deliverer = Deliverer(config)
    deliverer.start()
    deliverer.stop()


def deliver(config: Config) -> int:
    """Deliver every round that is not there yet. Returns how many.

    Raises what MLflow raises, Busy while another process delivers.
    """
    rounds = delta.read(config, tables.ROUNDS)
    if config.tracking.mode == "off" or not rounds.num_rows:
        return 0
    with leases.held(config, [NAME]):
        return _deliver(config, rounds, charter.ensure_fixed(config).fleet_id)


def _deliver(config: Config, rounds: pa.Table, fleet_id: str) -> int:
    client = _client(config)
    experiment = _experiment(client, config.fleet.name)
    # Looked for by tag first: creating a run twice makes two.
    known = _known_runs(client, experiment, fleet_id)
    delivered = 0
    for name, rows in _by_run(rounds).items():
        run = known.get(name) or _new_run(client, experiment, config, {FLEET: fleet_id, RUN: name}, rows[0])
        fresh = [row for row in rows if row["batch_id"] > run.through]
        if fresh:
            _log(client, run, fresh)
        if run.open and _over(rows[-1]):
            client.set_terminated(run.run_id, "FINISHED")
        delivered += len(fresh)
    return delivered


def _by_run(rounds: pa.Table) -> dict[str, list[dict[str, Any]]]:
    """The rounds of each run, oldest first: a stream's by the day they began, a batch's each alone."""
    runs: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in sorted(rounds.to_pylist(), key=lambda row: row["started_at"]):
        stream = row["kind"] == RoundKind.STREAM.value
        runs[f"stream {row['started_at']:%Y-%m-%d}" if stream else row["round_id"]].append(row)
    return runs


def _client(config: Config) -> MlflowClient:
    # MLflow takes seconds to import and a place in memory: only who delivers pays for it.
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=config.tracking.uri)


def _experiment(client: MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found else client.create_experiment(name))


@dataclass(frozen=True)
class _Run:
    """A run in MLflow. through: the greatest batch delivered to it; open: more may come."""

    run_id: str
    through: int = -1
    open: bool = True


def _known_runs(client: MlflowClient, experiment: str, fleet_id: str) -> dict[str, _Run]:
    """The fleet's runs by name: one call for a thousand of them, however old the fleet is."""
    known: dict[str, _Run] = {}
    token: str | None = None
    while True:
        page = client.search_runs([experiment], f"tags.`{FLEET}` = '{fleet_id}'", page_token=token)
        for run in page:
            through = int(run.data.tags.get(THROUGH, -1))
            known[run.data.tags[RUN]] = _Run(run.info.run_id, through, run.info.status == "RUNNING")
        token = page.token
        if not token:
            return known


def _new_run(
    client: MlflowClient, experiment: str, config: Config, identity: dict[str, str], first: dict[str, Any]
) -> _Run:
    tags = {**identity, "spinney.recipe": first["recipe_id"], "spinney.kind": first["kind"]}
    name = f"{config.fleet.name} {identity[RUN]}"
    run = client.create_run(experiment, _ms(first["started_at"]), tags, run_name=name)
    recipe = Recipe.of(config)
    params = {"estimator": recipe.estimator, "loss": recipe.loss, "features": ", ".join(config.fleet.features)}
    params |= {f"estimator.{param}": text for param, text in recipe.params}
    for key, value in params.items():
        client.log_param(run.info.run_id, key, value)
    return _Run(run.info.run_id)


def _log(client: MlflowClient, run: _Run, fresh: list[dict[str, Any]]) -> None:
    from mlflow.entities import Metric

    metrics = [
        Metric(figure, value, _ms(row["started_at"]), row["batch_id"])
        for row in fresh
        for figure, value in _figures(row).items()
    ]
    for at in range(0, len(metrics), MOST_METRICS):
        client.log_batch(run.run_id, metrics=metrics[at : at + MOST_METRICS], synchronous=True)
    # Last: a deliverer that dies before this logs the same steps again, which changes no figure.
    client.set_tag(run.run_id, THROUGH, str(max(row["batch_id"] for row in fresh)))


def _over(last: dict[str, Any]) -> bool:
    """Whether no round can come to the run whose newest this is: a batch's at once, a stream's when its day is."""
    return bool(last["kind"] == RoundKind.BATCH.value or last["started_at"].date() < datetime.now(UTC).date())


def _figures(row: dict[str, Any]) -> dict[str, float]:
    """A round's numbers; what is null is not a number."""
    figures = {name: float(row[name]) for name in FIGURES if row[name] is not None}
    figures |= {f"seconds.{stage}": float(took) for stage, took in json.loads(row["seconds"] or "{}").items()}
    return figures | {f"reason.{name}": float(count) for name, count in json.loads(row["reasons"] or "{}").items()}


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
