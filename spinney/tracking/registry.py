"""Register the fleet as one model in MLflow: a version is a manifest of the fleet at one time.

It uses a client with its own tracking URI, so that the process's global MLflow settings stay unchanged. The number of
calls does not depend on the number of groups.
"""

from __future__ import annotations

import json
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
from spinney.core.champions.champion_selection import select_champion
from spinney.core.champions.shard_champions import Champions
from spinney.core.config import Config, RecordSchema, Tracking
from spinney.core.config.secrets import display_value, mask_passwords
from spinney.core.config.value_types import declared_type
from spinney.core.errors import SpinneyError, StoreError
from spinney.serving import manifest
from spinney.serving.manifest import ManifestSummary
from spinney.storage import charter, leases
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tracking.mlflow_client import DeliveryClient, DeliveryProgress
from spinney.tracking.runs import FLEET, RUNNING, runs_by_identity

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

MODEL = "model"
"""Artifact folder of a run from which a version is created."""

CODE = Path(__file__).with_name("registered_fleet.py")
"""The model's code, copied into each version."""

DIGEST = "spinney.digest"
MANIFEST_OF = "spinney.manifest_of"
"""Tag of a manifest's run, with the fleet's identity. It differs from FLEET, by which the runs of rounds are found."""

NOT_THERE = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})
"""MLflow's error codes for a model or an alias that does not exist."""

MOST_LETTERS = 5000
"""Maximum characters of a description in MLflow's database."""

AND_OTHERS = "\n\nand others: the model's metadata, `columns`, has all"

MOST_RECIPES = 50
"""Largest number of recipes in a tag: more would not fit into 5,000 characters."""


@dataclass(frozen=True)
class RegisteredVersion:
    """A registered version, or one that a dry run describes.

    version: number of the version that the alias names now; None in a dry run. made: whether the version is new; if
    not, a version with the same content existed. manifest: its content.
    """

    model: str
    alias: str
    as_of: datetime
    manifest: ManifestSummary
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


def register(
    config: Config,
    champions: Champions,
    as_of: datetime,
    alias: str,
    *,
    dry_run: bool = False,
    take_over: bool = False,
) -> RegisteredVersion:
    """Register the manifest of these champions and point the alias to it. The same content is not registered twice.

    as_of: the time at which they were champions. dry_run: the manifest is created and discarded, and MLflow is not
    called. take_over: move the alias even from another fleet's version.

    Raises StoreError: there is no champion, one is not stored, the alias names another fleet's version, or MLflow
    refuses. Busy while another process registers. SetupError without a signing key.
    """
    store = FleetStore.of(config)
    with tempfile.TemporaryDirectory(prefix="spinney-") as temporary:
        folder = Path(temporary) / manifest.FOLDER
        folder.mkdir()
        written = manifest.write_manifest(config, champions, folder)
        if not written.groups + written.parents:
            raise StoreError(
                f"fleet {config.fleet.name}: expected a champion as of {as_of.isoformat()}; got none. Have models "
                "fitted first: spinney retrain --all, or spinney stream"
            )
        found = RegisteredVersion(config.fleet.name, alias, as_of, written)
        if dry_run:
            return found
        with leases.held(store, [leases.REGISTRY]):
            try:
                return _register(
                    store, config.tracking, found, folder, _recipe_ids(store, champions), take_over=take_over
                )
            except Exception as error:
                if isinstance(error, SpinneyError):
                    raise
                uri = display_value("tracking.uri", config.tracking.uri)
                raise StoreError(
                    f"MLflow at {uri}: expected it to register {config.fleet.name} as {alias}; got "
                    f"{mask_passwords(str(error)).rstrip('.')}. No alias was moved. Solve this, then run "
                    "spinney register again"
                ) from error


def _recipe_ids(store: FleetStore, champions: Champions) -> list[str]:
    """Return the recipes of the champions, most frequent first."""
    answering = [row.model_id for row in map(select_champion, champions.promotions.values()) if row]
    fitted = ds.field("model_id").isin(pa.array(answering, pa.string()))
    found = delta.read_table(store, tables.MODELS, ["model_id", "recipe_id"], fitted).group_by(
        ["model_id", "recipe_id"]
    )
    return [name for name, _ in Counter(found.aggregate([]).column("recipe_id").to_pylist()).most_common()]


def _register(
    store: FleetStore,
    tracking: Tracking,
    wanted: RegisteredVersion,
    folder: Path,
    recipes: list[str],
    *,
    take_over: bool,
) -> RegisteredVersion:
    identity = charter.ensure_charter(store).fleet_id
    requirements = pinned_requirements()
    asked_by = [json.dumps(model_signature(store).to_dict()), CODE.read_text(encoding="utf-8")]
    digest = sha256("\n".join([identity, wanted.manifest.digest, *requirements, *asked_by]).encode()).hexdigest()
    with DeliveryClient(tracking, DeliveryProgress()) as server:
        if not take_over:
            _refuse_other_owner(server, wanted, identity)
        found = _versions(server, wanted.model, digest)
        experiment = server.experiment(wanted.model)
        run = _unfinished_run(server, experiment, identity, digest, has_version=bool(found))
        made = set()
        if not found:
            place = folder.with_name(MODEL)
            _save(store, folder, place, requirements)
            tags = _tags(wanted, identity, digest, recipes)
            run = run or _new_run(server, experiment, tags, wanted.model)
            made = {_new_version(server, place, tags, wanted.model, run, describe_model(store.record_schema))}
            found = _versions(server, wanted.model, digest) | made
            server.ask("set_terminated", run, "FINISHED")
        version = _single_version(server, wanted.model, found)
        server.ask("set_registered_model_alias", wanted.model, wanted.alias, str(version))
    return replace(wanted, version=version, made=bool(made))


def _refuse_other_owner(server: DeliveryClient, wanted: RegisteredVersion, identity: str) -> None:
    """Raise StoreError if the alias names a version of another fleet."""
    from mlflow.exceptions import MlflowException

    try:
        present = server.ask("get_model_version_by_alias", wanted.model, wanted.alias)
    except MlflowException as error:
        if error.error_code in NOT_THERE:
            return
        raise
    owner = present.tags.get(FLEET, "no fleet")
    if owner != identity:
        raise StoreError(
            f"models:/{wanted.model}@{wanted.alias}: expected a version of this fleet, {identity}; got version "
            f"{present.version} of {owner}. Another fleet of this name answers by it: register under another "
            "fleet.name or --alias, or have this fleet answer from now on by --take-over"
        )


def _versions(server: DeliveryClient, model: str, digest: str) -> set[int]:
    found = server.ask("search_model_versions", f"name = '{model}' AND tags.`{DIGEST}` = '{digest}'")
    return {int(version.version) for version in found}


def _single_version(server: DeliveryClient, model: str, versions: set[int]) -> int:
    """Return the first of some versions with the same content.

    There may be several if a call was repeated because its answer was lost. The others are deleted unless they have an
    alias.
    """
    first, *others = sorted(versions)
    named = (
        {int(version) for version in server.ask("get_registered_model", model).aliases.values()} if others else set()
    )
    for other in others:
        if other not in named:
            server.ask("delete_model_version", model, str(other))
    return first


def _unfinished_run(
    server: DeliveryClient, experiment: str, identity: str, digest: str, *, has_version: bool
) -> str | None:
    """End the runs that earlier processes left running. Returns the run to continue, None without one.

    digest: of the manifest to register. has_version: whether a version with this digest exists, so that no run has to
    continue. A run ends once its version exists, and one process registers at a time, so a running run belongs to a
    killed process.
    """
    go_on = None
    for name, run in _unfinished_runs(server, experiment, identity).items():
        if name == digest and not has_version:
            go_on = run
        else:
            server.ask("set_terminated", run, "FINISHED" if name == digest else "KILLED")
    return go_on


def _unfinished_runs(server: DeliveryClient, experiment: str, identity: str) -> dict[str, str]:
    """Return digest of the manifest -> run_id, for each unfinished run of this fleet."""
    found = server.search(experiment, f"tags.`{MANIFEST_OF}` = '{identity}' AND attributes.status = '{RUNNING}'")
    active = (run for run in found if run.info.lifecycle_stage == "active")
    runs = runs_by_identity(server, active, lambda run: str(run.data.tags[DIGEST]))
    return {name: str(run.info.run_id) for name, run in runs.items()}


def _new_run(server: DeliveryClient, experiment: str, tags: dict[str, str], fleet: str) -> str:
    manifest_tags = {"spinney.kind": manifest.FOLDER, DIGEST: tags[DIGEST], MANIFEST_OF: tags[FLEET]}
    made = server.ask("create_run", experiment, tags=manifest_tags, run_name=f"{fleet} {manifest.FOLDER}").info.run_id
    return _unfinished_runs(server, experiment, tags[FLEET]).get(tags[DIGEST], str(made))


def _tags(wanted: RegisteredVersion, identity: str, digest: str, recipes: list[str]) -> dict[str, str]:
    held = wanted.manifest
    return {
        DIGEST: digest,
        FLEET: identity,
        "spinney.as_of": wanted.as_of.isoformat(),
        "spinney.groups": str(held.groups),
        "spinney.parents": str(held.parents),
        "spinney.models": str(held.models),
        "spinney.recipes": ", ".join(recipes[:MOST_RECIPES]),
    }


def pinned_requirements() -> list[str]:
    """Return this package and its direct dependencies, each pinned to the version installed here."""
    needed = [re.split(r"[^\w.-]", text)[0] for text in metadata.requires("spinney") or () if "extra ==" not in text]
    return [f"{name}=={metadata.version(name)}" for name in ("spinney", *needed)]


def model_signature(store: FleetStore) -> ModelSignature:
    """Return the signature: the group and the features are required; other declared columns serve models fitted on
    other features.

    The inputs have names but no types: each of MLflow's own types changes or refuses some rows that the fleet answers
    (docs/tracking.md lists them). The values of a frame are checked by column and row when it is predicted. The
    declared types are in the model's metadata and in the version's description.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import AnyType, Map

    fleet = store.fleet
    required = dict.fromkeys((*fleet.group, *fleet.features))
    possible = {fleet.event_time, *store.event_columns} - {fleet.target, *required}
    inputs = [ColSpec(AnyType(), name, required=name in required) for name in (*required, *sorted(possible))]
    answer = store.answer_type
    answers = [ColSpec(answer, "prediction", required=False)]
    if fleet.task == "classification":
        answers.append(ColSpec(Map(value_type="double"), "probabilities", required=False))
    else:
        answers += [ColSpec("double", name, required=False) for name in ("lower", "upper")]
    answers += [ColSpec("string", "model_id", required=False), ColSpec("string", "answered_by")]
    return ModelSignature(Schema(inputs), Schema(answers))


def describe_model(schema: RecordSchema) -> str:
    """Describe the input columns with their declared types, as Markdown, which MLflow shows on the version's page."""
    fleet = schema.fleet
    uses = dict.fromkeys(fleet.group, "group") | dict.fromkeys(fleet.features, "feature")
    others = sorted({fleet.event_time, *schema.event_columns} - {fleet.target, *uses})
    text = "| column | type | |\n|---|---|---|"
    for name, use in (uses | dict.fromkeys(others, "for models of other features")).items():
        shown_name = name.replace("|", "\\|")
        line = f"\n| {shown_name} | {declared_type(fleet.columns.get(name, 'timestamp'))} | {use} |"
        if len(text) + len(line) + len(AND_OTHERS) > MOST_LETTERS:
            return text + AND_OTHERS
        text += line
    return text


def _save(store: FleetStore, folder: Path, place: Path, requirements: list[str]) -> None:
    from mlflow import pyfunc

    with warnings.catch_warnings():
        # No input example: it would be stored and predicted once, and the signature needs none.
        warnings.filterwarnings("ignore", message=".*An input example was not provided.*")
        pyfunc.save_model(
            place,
            python_model=str(CODE),
            artifacts={manifest.FOLDER: str(folder)},
            signature=model_signature(store),
            metadata={"columns": {name: declared_type(kind) for name, kind in store.fleet.columns.items()}},
            pip_requirements=requirements,
        )


def _new_version(server: DeliveryClient, place: Path, tags: dict[str, str], fleet: str, run: str, text: str) -> int:
    from mlflow.exceptions import MlflowException

    server.ask("log_artifacts", run, str(place), MODEL)
    with suppress(MlflowException):  # it exists; if it could not be created, creating the version fails too
        server.ask("create_registered_model", fleet)
    source = f"runs:/{run}/{MODEL}"
    return int(server.ask("create_model_version", fleet, source, run, tags=tags, description=text).version)
