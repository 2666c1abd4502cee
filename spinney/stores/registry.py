"""The fleet as one registered model in MLflow: a version is a manifest of the fleet at a moment.

Made by a client with an address of its own, so that nothing a process has set in MLflow is touched; the number of calls
does not depend on the number of groups.
"""

from __future__ import annotations

import re
import tempfile
import warnings
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.dataset as ds

from schemas import tables
from spinney.core.champion import champion
from spinney.core.champions import Champions
from spinney.core.config import Config
from spinney.core.config.secrets import shown
from spinney.core.errors import SpinneyError, StoreError
from spinney.stores import charter, delta, layout, leases, manifest
from spinney.stores.manifest import Written
from spinney.stores.tracking.server import Server, Watch

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

MODEL = "model"
"""The folder of a run's artifacts that a version is made of."""

NAME = "registry"
DIGEST = "spinney.digest"
MOST_RECIPES = 50
"""What a tag of 5,000 letters has room for."""


@dataclass(frozen=True)
class Registered:
    """What was registered, or would be.

    version: the one that the alias names now; None: nothing was done. made: whether it is new; else the one that holds
    the very same was found. manifest: what it holds.
    """

    model: str
    alias: str
    as_of: datetime
    manifest: Written
    version: int | None = None
    made: bool = False

    def __str__(self) -> str:
        held = self.manifest
        models = f"{held.models:,} models of {held.groups:,} groups and {held.parents:,} parents"
        what = f"{models} as of {self.as_of:%Y-%m-%d %H:%M:%S} UTC, {held.bytes:,} bytes"
        if self.version is None:
            return f"{self.model}: a version would hold {what}"
        how = "is new:" if self.made else "holds the very same already:"
        address = f"models:/{self.model}@{self.alias}"
        return f"{self.model} version {self.version} {how} {what}\n{self.alias} is version {self.version}: {address}"


def register(config: Config, champions: Champions, as_of: datetime, alias: str, *, dry_run: bool = False) -> Registered:
    """Register the manifest of these champions and let the alias name it. The very same is not registered twice.

    as_of: the moment at which they were champions. dry_run: the manifest is made and thrown away, MLflow not asked.

    Raises StoreError when nobody is champion, one is stored nowhere or MLflow refuses; Busy while another process
    registers; SetupError when there is no signing key.
    """
    with tempfile.TemporaryDirectory(prefix="spinney-") as temporary:
        folder = Path(temporary) / manifest.FOLDER
        folder.mkdir()
        written = manifest.write(config, champions, folder)
        if not written.groups + written.parents:
            raise StoreError(
                f"fleet {config.fleet.name}: expected a champion as of {as_of.isoformat()}; got none. Have models "
                "fitted first: spinney retrain --all, or spinney stream"
            )
        found = Registered(config.fleet.name, alias, as_of, written)
        if dry_run:
            return found
        with leases.held(config, [NAME]):
            try:
                return _register(config, found, folder, _recipes(config, champions))
            except Exception as error:
                if isinstance(error, SpinneyError):
                    raise
                uri = shown("tracking.uri", config.tracking.uri)
                raise StoreError(
                    f"MLflow at {uri}: expected it to register {config.fleet.name} as {alias}; got "
                    f"{str(error).rstrip('.')}. No alias was moved; mend that, then run spinney register again"
                ) from error


def _recipes(config: Config, champions: Champions) -> list[str]:
    """The recipes that the champions were fitted by, the most used first."""
    answering = [row.model_id for row in map(champion, champions.histories.values()) if row]
    fitted = ds.field("model_id").isin(pa.array(answering, pa.string()))
    found = delta.read(config, tables.MODELS, ["model_id", "recipe_id"], fitted).group_by(["model_id", "recipe_id"])
    return [name for name, _ in Counter(found.aggregate([]).column("recipe_id").to_pylist()).most_common()]


def _register(config: Config, wanted: Registered, folder: Path, recipes: list[str]) -> Registered:
    identity = charter.ensure_fixed(config).fleet_id
    requirements = pinned()
    digest = sha256("\n".join([identity, wanted.manifest.digest, *requirements]).encode()).hexdigest()
    with Server(config, Watch()) as server:
        found = server.ask("search_model_versions", f"name = '{wanted.model}' AND tags.`{DIGEST}` = '{digest}'")
        if found:
            version = max(int(each.version) for each in found)
        else:
            place = folder.with_name(MODEL)
            _save(config, folder, place, requirements)
            version = _new_version(server, place, _tags(wanted, identity, digest, recipes), wanted.model)
        server.ask("set_registered_model_alias", wanted.model, wanted.alias, str(version))
    return replace(wanted, version=version, made=not found)


def _tags(wanted: Registered, identity: str, digest: str, recipes: list[str]) -> dict[str, str]:
    held = wanted.manifest
    return {
        DIGEST: digest,
        "spinney.fleet_id": identity,
        "spinney.as_of": wanted.as_of.isoformat(),
        "spinney.groups": str(held.groups),
        "spinney.parents": str(held.parents),
        "spinney.models": str(held.models),
        "spinney.recipes": ", ".join(recipes[:MOST_RECIPES]),
    }


def pinned() -> list[str]:
    """This package and what it needs directly, each as installed here."""
    needed = [re.split(r"[^\w.-]", text)[0] for text in metadata.requires("spinney") or () if "extra ==" not in text]
    return [f"{name}=={metadata.version(name)}" for name in ("spinney", *needed)]


def signature(config: Config) -> ModelSignature:
    """The group and the features are required; other declared columns are for models fitted on other features.

    Only strings have a type: MLflow refuses whole numbers for a double and nulls among integers, and what a frame may
    hold is checked, by column and row, when it is answered.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import AnyType, Map

    fleet = config.fleet
    required = dict.fromkeys((*fleet.group, *fleet.features))
    possible = {fleet.event_time, *config.event_columns} - {fleet.target, *required}

    def column(name: str) -> ColSpec:
        return ColSpec("string" if fleet.type_of(name) == "string" else AnyType(), name, required=name in required)

    answer = layout.answer_type(config)
    answers = [ColSpec(answer, "prediction", required=False)]
    if fleet.task == "classification":
        answers.append(ColSpec(Map(value_type="double"), "probabilities", required=False))
    answers += [ColSpec("string", "model_id", required=False), ColSpec("string", "answered_by")]
    return ModelSignature(Schema([column(name) for name in (*required, *sorted(possible))]), Schema(answers))


def _save(config: Config, folder: Path, place: Path, requirements: list[str]) -> None:
    from mlflow import pyfunc

    with warnings.catch_warnings():
        # An example row would be stored beside the model and answered once; the signature is derived, not inferred.
        warnings.filterwarnings("ignore", message=".*An input example was not provided.*")
        pyfunc.save_model(
            place,
            python_model=str(Path(__file__).with_name("registered_fleet.py")),
            artifacts={manifest.FOLDER: str(folder)},
            signature=signature(config),
            pip_requirements=requirements,
        )


def _new_version(server: Server, place: Path, tags: dict[str, str], fleet: str) -> int:
    from mlflow.exceptions import MlflowException

    said = {"spinney.kind": manifest.FOLDER, DIGEST: tags[DIGEST]}
    run = server.ask(
        "create_run", server.experiment(fleet), tags=said, run_name=f"{fleet} {manifest.FOLDER}"
    ).info.run_id
    server.ask("log_artifacts", run, str(place), MODEL)
    server.ask("set_terminated", run, "FINISHED")
    with suppress(MlflowException):  # it is there; where it could not be made, neither can a version
        server.ask("create_registered_model", fleet)
    return int(server.ask("create_model_version", fleet, f"runs:/{run}/{MODEL}", run, tags=tags).version)
