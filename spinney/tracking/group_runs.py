"""Mode `group`: a nested run for each attempted group, with its model, inside the round's run.

A group counts as delivered once its MLflow run has ended. If a delivery is killed, the next one finds the round's runs
by their tags, completes the unfinished ones and creates the missing ones.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.vocabulary import ModelStatus
from spinney.core.errors import Corrupt
from spinney.core.models.signing import Claim, Signer
from spinney.core.models.sklearn_export import GroupModel
from spinney.core.recipes.recipe import Recipe
from spinney.storage import signing_key
from spinney.storage.layout import FleetStore
from spinney.tracking import round_attempts
from spinney.tracking.mlflow_client import DeliveryClient
from spinney.tracking.rounds import LONGEST_NAME, log_batch, parameters, round_metrics
from spinney.tracking.runs import Run, is_unfinished, runs_by_identity, to_milliseconds

if TYPE_CHECKING:
    from mlflow.entities import Run as Stored

PARENT = "mlflow.parentRunId"
"""MLflow's own tag that makes a run a nested one."""

GROUP, ROUND = "spinney.group_key", "spinney.round_id"
MODEL = "model"
"""The artifact folder that a model is loaded from: `mlflow.sklearn.load_model("runs:/<run_id>/model")`."""

_TAGS = ("status", "decision", "reason", "model_id", "error_class", "error")
_PARAMS = ("trained_from", "trained_through", "codec", "champion_id", "chosen")
_ENDED = {ModelStatus.FAILED.value: "FAILED", ModelStatus.TIMED_OUT.value: "FAILED"}
"""MLflow's status of the run of an attempt with this status; any other attempt has `FINISHED`."""

LONGEST_VALUE = 5000
"""Maximum characters of a tag or parameter in MLflow."""

_REQUIRED = ("numpy", "scikit-learn", "skops", "spinney")


@dataclass(frozen=True)
class RoundGroupRuns:
    """The nested runs of a round's groups. current: the configuration's recipe. row: a row of `rounds`."""

    server: DeliveryClient
    store: FleetStore
    current: Recipe
    experiment: str
    parent: Run
    row: Mapping[str, Any]

    def deliver(self) -> None:
        """Deliver every attempt of the round that is not delivered yet.

        Raises MLflow's errors, DeliveryStopped, SetupError.
        """
        store = self.store
        groups = round_attempts.attempts_of_round(store, self.row).to_pylist()
        tried = {row["group_key"]: row for row in groups if row["status"] in set(ModelStatus)}
        existing = self._existing_runs()
        left = {key for key in tried if key not in existing or is_unfinished(existing[key])}
        if not left:
            return
        signer = signing_key.load_signer(store)
        shared = parameters(store, self.current, self.row)
        for stored in round_attempts.stored_models(store, self.row):
            key = stored["group_key"]
            if key in left:
                done = len(tried) - len(left)
                self.server.watch.detail = f"{done:,} of {len(tried):,} groups of {self.row['round_id']} delivered"
                self._deliver(existing.get(key), tried[key], shared, mlflow_model(stored, signer))
                left.remove(key)
        self.server.watch.detail = ""
        self._existing_runs()

    def _existing_runs(self) -> dict[str, Stored]:
        """Return the runs of the round's groups, one per key."""
        where = f"tags.`{PARENT}` = '{self.parent.run_id}' and tags.`{ROUND}` = '{self.row['round_id']}'"
        found = self.server.search(self.experiment, where)
        return runs_by_identity(self.server, found, lambda run: str(run.data.tags[GROUP]))

    def _deliver(
        self, run: Stored | None, attempt: Mapping[str, Any], shared: Mapping[str, str], model: GroupModel | str | None
    ) -> None:
        began = to_milliseconds(self.row["started_at"])
        if run is None:
            tags = self._tags(attempt)
            if isinstance(model, str):
                tags["spinney.model_refused"] = model[:LONGEST_VALUE]
            named = attempt["group_key"][:LONGEST_NAME]
            run = self.server.ask("create_run", self.experiment, began, tags, run_name=named)
        run_id = run.info.run_id
        log_batch(
            self.server,
            run_id,
            {**shared, **_attempt_params(attempt)},
            round_metrics(self.row, attempt_metrics(attempt)),
        )
        if isinstance(model, GroupModel):
            with tempfile.TemporaryDirectory() as folder:
                self.server.upload(run_id, _save_model(model, Path(folder) / MODEL), MODEL)
        ended = _ENDED.get(attempt["status"], "FINISHED")
        self.server.ask("set_terminated", run_id, ended, began + math.ceil(attempt["fit_ms"] or 0))

    def _tags(self, attempt: Mapping[str, Any]) -> dict[str, str]:
        tags = {f"spinney.{name}": str(attempt[name]) for name in _TAGS if attempt[name] is not None}
        identity = {PARENT: self.parent.run_id, GROUP: attempt["group_key"], ROUND: self.row["round_id"]}
        return {**{name: value[:LONGEST_VALUE] for name, value in tags.items()}, **identity}


def attempt_metrics(attempt: Mapping[str, Any]) -> dict[str, float]:
    """Return the finite numbers of an attempt."""
    found = {name: value for name, value in attempt.items() if isinstance(value, int | float)}
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}


def mlflow_model(stored: Mapping[str, Any], signer: Signer) -> GroupModel | str | None:
    """Return the attempt's model, or the reason why it must not be loaded; None if it has none.

    The payload is not parsed here.
    """
    if stored["payload"] is None:
        return None
    key, model_id, codec = (str(stored[name]) for name in ("group_key", "model_id", "codec"))
    try:
        signer.verify(Claim(key, model_id, codec), stored["payload"], stored["signature"])
    except Corrupt as error:
        return str(error)
    return GroupModel(codec, stored["payload"], key, model_id)


def _save_model(model: GroupModel, folder: Path) -> Path:
    import mlflow.sklearn

    # With requirements given, MLflow infers none: milliseconds instead of seconds.
    mlflow.sklearn.save_model(
        model,
        str(folder),
        serialization_format="skops",
        skops_trusted_types=[f"{GroupModel.__module__}.{GroupModel.__name__}"],
        pip_requirements=_requirements(),
    )
    return folder


@cache
def _requirements() -> list[str]:
    return [f"{name}=={metadata.version(name)}" for name in _REQUIRED]


def _attempt_params(attempt: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(attempt[name])[:LONGEST_VALUE] for name in _PARAMS if attempt.get(name) is not None}
