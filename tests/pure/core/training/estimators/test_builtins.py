from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_classifier
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from spinney.core.errors import ConfigError, ContractError
from spinney.core.features.encoding import to_columns
from spinney.core.models.codec import dump, load
from spinney.core.models.linear import Linear
from spinney.core.models.model import Model
from spinney.core.recipes.recipe import Feature
from spinney.core.training import estimators
from spinney.core.training.estimators import builtins, kernel_for
from spinney.core.training.fit_kernels import KernelInput, seed_for

FEATURES = (Feature("x", "double"), Feature("z", "double"), Feature("s", "string"), Feature("at", "timestamp"))
RANDOM = np.random.default_rng(8)
FRAME = pd.DataFrame(RANDOM.normal(size=(60, 2)), columns=["x", "z"])
FRAME.loc[::7, "z"] = np.nan
FRAME["s"] = RANDOM.choice(["u", "v", None], 60)
FRAME["at"] = pd.date_range("2024-01-01", periods=60, freq="7h", tz="UTC")
NUMBER = FRAME["x"].to_numpy() * 3 + 1
TWO = np.where(NUMBER > 1, "yes", "no").astype(object)
THREE = np.where(NUMBER > 3, "high", TWO).astype(object)
SMALL: dict[str, dict[str, Any]] = {
    "hist_gradient_boosting": {"max_iter": 5},
    "random_forest": {"n_estimators": 5},
    "best_of": {"candidates": [{"estimator": "constant"}, {"estimator": "seasonal"}]},
}


def stack(labels: np.ndarray, weights: np.ndarray | None = None, key: str = '["AA"]') -> KernelInput:
    loss = "absolute" if labels.dtype == float else "log"
    return KernelInput(
        (key,), to_columns(FRAME[: len(labels)], FEATURES), np.array([0, len(labels)]), labels, weights, loss
    )


def fit(name: str, task: str, of: KernelInput, params: dict[str, Any] | None = None) -> Model:
    (result,) = kernel_for(name, task, SMALL.get(name, {}) if params is None else params).fit(of, lambda: 0.0)
    if result.error:
        raise result.error
    assert result.model is not None
    return result.model


EVERY = [(name, task) for name, builtin in sorted(builtins().items()) for task in builtin.tasks]


def test_each_module_beside_the_package_is_an_estimator_by_name() -> None:
    assert sorted(builtins()) == [
        "best_of",
        "constant",
        "hist_gradient_boosting",
        "linear",
        "logistic_regression",
        "random_forest",
        "ridge",
        "seasonal",
    ]
    files = {file.stem for file in Path(estimators.__file__).parent.glob("*.py")} - {"__init__"}
    assert files == set(builtins())


@pytest.mark.parametrize(("name", "task"), EVERY)
def test_a_fitted_model_survives_its_codec_and_answers_the_same(name: str, task: str) -> None:
    model = fit(name, task, stack(NUMBER if task == "regression" else THREE))
    back = load(*dump(model))
    np.testing.assert_array_equal(back.predict(FRAME), model.predict(FRAME))
    assert back.classes == (None if task == "regression" else ("high", "no", "yes"))
    given = back.probabilities(FRAME)
    if given is not None:
        np.testing.assert_allclose(given[1].sum(axis=1), 1)


@pytest.mark.parametrize(("name", "task"), EVERY)
def test_the_same_rows_give_the_same_bytes(name: str, task: str) -> None:
    labels = NUMBER if task == "regression" else THREE
    assert dump(fit(name, task, stack(labels))) == dump(fit(name, task, stack(labels)))


@pytest.mark.parametrize("name", sorted(name for name, task in EVERY if task == "classification"))
def test_a_group_with_one_class_is_answered_by_that_class(name: str) -> None:
    model = fit(name, "classification", stack(np.array(["only"] * 9, dtype=object)))
    assert model.classes == ("only",)
    assert set(model.predict(FRAME)) == {"only"}


@pytest.mark.parametrize("labels", [TWO, THREE])
@pytest.mark.parametrize("weighted", [False, True])
def test_logistic_regression_is_scikit_learns_folded_into_arrays(labels: np.ndarray, weighted: bool) -> None:
    weights = np.linspace(0.1, 1, 60) if weighted else None
    model = fit("logistic_regression", "classification", stack(labels, weights))
    assert isinstance(model.estimator, Linear)
    matrix = model.encoder.matrix(to_columns(FRAME, FEATURES))
    oracle = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(max_iter=1000))
    arguments = {"logisticregression__sample_weight": weights} if weighted else {}
    oracle.fit(matrix, labels, **arguments)
    given = model.probabilities(FRAME)
    assert given is not None
    assert given[0] == tuple(oracle.classes_)
    np.testing.assert_allclose(given[1], oracle.predict_proba(matrix), atol=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("random_forest", RandomForestRegressor(n_estimators=5, random_state=seed_for('["AA"]'))),
        ("random_forest", RandomForestClassifier(n_estimators=5, random_state=seed_for('["AA"]'))),
        ("hist_gradient_boosting", HistGradientBoostingRegressor(max_iter=5)),
        ("hist_gradient_boosting", HistGradientBoostingClassifier(max_iter=5)),
    ],
)
def test_trees_are_scikit_learns_on_the_encoded_features(name: str, oracle: Any, weighted: bool) -> None:
    task = "classification" if is_classifier(oracle) else "regression"
    labels, weights = (THREE if task == "classification" else NUMBER), (np.linspace(0.1, 1, 60) if weighted else None)
    model = fit(name, task, stack(labels, weights))
    matrix = model.encoder.matrix(to_columns(FRAME, FEATURES))
    plain = clone(oracle).fit(matrix, labels, sample_weight=weights)
    if task == "regression":
        np.testing.assert_allclose(model.predict(FRAME), plain.predict(matrix), rtol=1e-12)
    else:
        given = model.probabilities(FRAME)
        assert given is not None
        assert given[0] == tuple(plain.classes_)
        np.testing.assert_allclose(given[1], plain.predict_proba(matrix), rtol=1e-12)


@pytest.mark.parametrize(
    ("params", "weights", "expected"),
    [
        ({}, None, 4.0),
        ({}, [1.0, 1.0, 2.0], 5.5),
        ({"statistic": "median"}, None, 2.0),
        ({"statistic": "median"}, [1.0, 1.0, 2.0], 6.0),  # half the weight lies on either side of 2 and 10
        ({"statistic": "median"}, [1.0, 1.0, 3.0], 10.0),
    ],
)
def test_a_constant_is_the_mean_or_the_median(
    params: dict[str, Any], weights: list[float] | None, expected: float
) -> None:
    of = stack(np.array([10.0, 0.0, 2.0])[[1, 2, 0]], None if weights is None else np.array(weights))
    assert fit("constant", "regression", of, params).predict(FRAME[:2]).tolist() == [expected] * 2


def test_a_constant_of_classes_is_how_often_each_came() -> None:
    model = fit("constant", "classification", stack(np.array(["b", "a", "b", "b"], dtype=object)))
    given = model.probabilities(FRAME[:1])
    assert given is not None
    assert (given[0], given[1].tolist()) == (("a", "b"), [[0.25, 0.75]])
    assert model.predict(FRAME[:1]).tolist() == ["b"]


def test_a_forest_is_seeded_from_the_groups_key() -> None:
    one, same, other = (
        dump(fit("random_forest", "regression", stack(NUMBER, key=key))) for key in ('["AA"]', '["AA"]', '["BB"]')
    )
    assert one == same != other


def test_missing_values_are_a_branch_of_their_own_for_boosted_trees() -> None:
    labels = np.where(FRAME["z"].isna(), 100.0, 0.0)
    model = fit("hist_gradient_boosting", "regression", stack(labels), {"max_iter": 50, "min_samples_leaf": 2})
    answers = model.predict(FRAME)
    assert answers[labels == 100].min() > 90
    assert answers[labels == 0].max() < 10


def test_an_estimator_for_another_task_is_refused_with_those_that_fit() -> None:
    with pytest.raises(
        ContractError,
        match="hoose one of best_of, constant, hist_gradient_boosting, linear, random_forest, ridge, seasonal",
    ):
        kernel_for("logistic_regression", "regression", {})


def test_an_unknown_name_or_parameter_is_refused() -> None:
    with pytest.raises(ConfigError, match="ridge"):
        kernel_for("rigde", "regression", {})
    with pytest.raises(ContractError, match="tress"):
        kernel_for("random_forest", "regression", {"tress": 3})
    with pytest.raises(ContractError, match="of constant"):
        kernel_for("constant", "classification", {"statistic": "median"})
