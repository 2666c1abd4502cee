"""Models are read from files and from MLflow, by the list of types that is ours."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import joblib
import mlflow
import pandas as pd
import pytest
import sklearn
from sklearn.linear_model import LinearRegression
from skops import io as skops_io

from spinney.core.errors import ContractError, Corrupt
from spinney.operations.model_file_reading import UNPICKLED, ModelSource, load_model

ROWS = pd.DataFrame({"price": [1.0, 2.0, 4.0]})
MODEL = LinearRegression().fit(ROWS, [2.0, 3.0, 7.0])


class Own(LinearRegression):
    """Somebody's own."""


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelSource, dict[str, str]]:
    """A model in MLflow as skops and as a pickle, and one that is not scikit-learn's."""
    folder = tmp_path_factory.mktemp("mlflow")
    uri, before = f"sqlite:///{folder}/mlflow.db", mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    mlflow.create_experiment("old", artifact_location=str(folder / "artifacts"))
    mlflow.set_experiment("old")
    pinned = {"pip_requirements": ["scikit-learn"]}
    with mlflow.start_run() as run:
        mlflow.sklearn.log_model(
            MODEL, name="model", serialization_format="skops", registered_model_name="shop", **pinned
        )
        own = {"serialization_format": "skops", "skops_trusted_types": [f"{Own.__module__}.Own"], **pinned}
        foreign = mlflow.sklearn.log_model(Own().fit(ROWS, [1.0, 2.0, 3.0]), name="own", **own)
        pickled = mlflow.sklearn.log_model(MODEL, name="pickled", serialization_format="cloudpickle", **pinned)
        plain = mlflow.pyfunc.log_model(name="plain", python_model=lambda model_input: model_input, **pinned)
    mlflow.set_tracking_uri(before)
    names = {"run": f"runs:/{run.info.run_id}/model", "own": foreign.model_uri}
    return ModelSource(folder, uri), {**names, "pickled": pickled.model_uri, "plain": plain.model_uri}


@pytest.mark.parametrize("named", ["run", "models:/shop/1"])
def test_what_mlflow_logged_is_read_from_the_fleets_own_tracking_server(logged, named: str) -> None:
    source, uris = logged
    before = mlflow.get_tracking_uri()
    assert load_model(uris.get(named, named), source).estimator.coef_.tolist() == MODEL.coef_.tolist()
    assert mlflow.get_tracking_uri() == before


def test_a_pickle_in_mlflow_is_a_pickle(logged) -> None:
    source, uris = logged
    with pytest.raises(ContractError, match="by --allow-pickle"):
        load_model(uris["pickled"], source)
    allowed = ModelSource(source.folder, source.tracking_uri, allow_pickle=True)
    assert load_model(uris["pickled"], allowed).estimator.coef_.tolist() == MODEL.coef_.tolist()


def test_the_types_that_a_file_in_mlflow_brings_as_trusted_are_not_believed(logged) -> None:
    source, uris = logged
    with pytest.raises(Corrupt, match=r"codec skops: expected allowed types; got .*Own"):
        load_model(uris["own"], source)


def test_what_mlflow_has_not_or_has_of_another_kind_is_reported(logged) -> None:
    source, uris = logged
    with pytest.raises(ContractError, match=r"expected a model that can be read; got MlflowException: .*version=7"):
        load_model("models:/shop/7", source)
    with pytest.raises(ContractError, match="expected MLflow's flavor sklearn; got python_function"):
        load_model(uris["plain"], source)


def test_a_password_in_the_address_of_mlflow_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ContractError, match=r"http://me:\*+@127\.0\.0\.1:9") as refused:
        load_model("models:/shop/1", ModelSource(tmp_path, "http://me:hush@127.0.0.1:9"))
    assert "hush" not in str(refused.value)


def test_a_file_is_found_from_the_folder_and_read_by_its_ending(tmp_path: Path) -> None:
    (tmp_path / "a.skops").write_bytes(skops_io.dumps(MODEL))
    (tmp_path / "b.pkl").write_bytes(pickle.dumps(MODEL))
    joblib.dump(MODEL, tmp_path / "c.joblib")
    allowed = ModelSource(tmp_path, "", allow_pickle=True)
    for name in ("a.skops", "b.pkl", "c.joblib", str(tmp_path / "a.skops")):
        assert load_model(name, allowed).estimator.coef_.tolist() == MODEL.coef_.tolist()
    for name in ("b.pkl", "c.joblib"):
        with pytest.raises(ContractError) as refused:
            load_model(name, ModelSource(tmp_path, ""))
        assert str(refused.value) == UNPICKLED
    (tmp_path / "d.bin").touch()
    with pytest.raises(ContractError, match=r"expected a file that ends in .skops, .pkl, .pickle, .joblib; got d.bin"):
        load_model("d.bin", allowed)
    with pytest.raises(ContractError, match="expected a file; got nothing at"):
        load_model("models/e.skops", allowed)


def test_a_file_of_another_version_is_read_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sklearn.base, "__version__", "1.2.3")
        (tmp_path / "old.pkl").write_bytes(pickle.dumps(MODEL))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load_model("old.pkl", ModelSource(tmp_path, "", allow_pickle=True))
    (note,) = found.notes
    assert "from version 1.2.3 when using version" in note
