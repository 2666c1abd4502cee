"""Load fitted scikit-learn estimators from skops, pickle and joblib files and from MLflow."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spinney.core.config.secrets import mask_passwords
from spinney.core.errors import ContractError, Corrupt
from spinney.core.models import skops_codec

PICKLES = (".pkl", ".pickle", ".joblib")
SKOPS = ".skops"
MLFLOW = ("models:/", "runs:/")
UNPICKLED = "reading a pickle runs whatever code it holds: allow it by --allow-pickle, for files that you trust"


@dataclass(frozen=True)
class ModelSource:
    """Where imported models come from. folder: base of relative paths. tracking_uri: MLflow's."""

    folder: Path
    tracking_uri: str
    allow_pickle: bool = False


@dataclass
class LoadedModel:
    """A loaded estimator. notes: scikit-learn's warnings, such as that another version wrote the file."""

    estimator: Any
    notes: list[str] = field(default_factory=list)


def load_model(named: str, source: ModelSource) -> LoadedModel:
    """Load an estimator from a path or an MLflow URI, such as ``models:/shop@champion`` or ``runs:/0a1b/model``.

    Raises ContractError: it cannot be read, or reading it would run code although that is not allowed.
    """
    found = LoadedModel(None)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            if named.startswith(MLFLOW):
                found.estimator = _load_from_mlflow(named, source)
            else:
                found.estimator = _load_file(source.folder / named, allow_pickle=source.allow_pickle)
    except (ContractError, Corrupt):
        raise
    except Exception as error:  # an unknown file may fail anywhere
        said_of_it = mask_passwords(str(error))  # MLflow's message contains its address, which may contain a password
        raise ContractError(f"expected a model that can be read; got {type(error).__name__}: {said_of_it}") from error
    # Other warnings are the libraries' own affairs.
    found.notes = list(
        dict.fromkeys(str(warning.message) for warning in warned if "version" in type(warning.message).__name__.lower())
    )
    return found


def _load_file(file: Path, *, allow_pickle: bool, pickled: bool | None = None) -> Any:
    """Load a file. pickled: whether it is a pickle; None: decided by the file's name."""
    if not file.is_file():
        raise ContractError(f"expected a file; got nothing at {file}")
    if pickled is None and file.suffix not in (SKOPS, *PICKLES):
        raise ContractError(f"expected a file that ends in {SKOPS}, {', '.join(PICKLES)}; got {file.name}")
    if not (file.suffix in PICKLES if pickled is None else pickled):
        return skops_codec.read(file.read_bytes())
    if not allow_pickle:
        raise ContractError(UNPICKLED)
    import joblib  # type: ignore[import-untyped]  # it reads plain pickles too

    return joblib.load(file)


def _load_from_mlflow(uri: str, source: ModelSource) -> Any:
    """Load a model's files like other files, since MLflow's own loader trusts the list of types inside a file."""
    import mlflow
    from mlflow.models import Model

    before = mlflow.get_tracking_uri()
    # `download_artifacts` does not pass its parameter on to everything that it calls.
    mlflow.set_tracking_uri(source.tracking_uri)
    try:
        with tempfile.TemporaryDirectory(prefix="spinney-") as scratch:
            place = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=scratch))
            flavors = Model.load(str(place)).flavors
            flavor = flavors.get("sklearn")
            if flavor is None:
                raise ContractError(f"expected MLflow's flavor sklearn; got {', '.join(sorted(flavors))}")
            is_skops = flavor.get("serialization_format") == "skops"
            return _load_file(place / flavor["pickled_model"], allow_pickle=source.allow_pickle, pickled=not is_skops)
    finally:
        mlflow.set_tracking_uri(before)
