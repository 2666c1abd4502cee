from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.ensemble import BaggingRegressor, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Lasso, LinearRegression
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from spinney.core.errors import ContractError
from spinney.core.features.encoding import to_columns
from spinney.core.recipes.recipe import Feature
from spinney.core.training.estimators import kernel_for
from spinney.core.training.fit_kernels import (
    KernelInput,
    KernelResult,
    PerGroupKernel,
    accepts_missing_values,
    seed_for,
    weight_arguments,
)

FEATURES = (Feature("x", "double"),)
FRAME = pd.DataFrame({"x": [1.0, 2.0, np.nan, 4.0, 5.0, 6.0]})
LABEL = np.array([1.0, 2.0, 3.0, 5.0, 5.0, 7.0])


def stack(weights: np.ndarray | None = None) -> KernelInput:
    return KernelInput(('["a"]', '["b"]'), to_columns(FRAME, FEATURES), np.array([0, 3, 6]), LABEL.copy(), weights)


def ticking() -> Any:
    ticks: Iterator[float] = iter(np.arange(0.0, 1.0, 0.002).tolist())
    return lambda: next(ticks)


class Choosy(BaseEstimator):  # type: ignore[misc]
    """Raises for rows whose first label is 1; spoils what it is given."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> Choosy:
        if y[0] == 1:
            raise ValueError("not these")
        x[:], y[:] = 0, 0
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.zeros(len(x))


def test_one_group_that_raises_leaves_the_others_alone_and_nothing_is_spoilt() -> None:
    of = stack()
    failed, good = PerGroupKernel(Choosy(), "regression").fit(of, ticking())
    assert failed.model is None
    assert str(failed.error) == "not these"
    assert good.model is not None
    np.testing.assert_array_equal(of.labels, LABEL)
    np.testing.assert_array_equal(of.columns.numbers, FRAME.to_numpy())


def test_each_fit_says_how_long_it_took() -> None:
    fits = PerGroupKernel(LinearRegression(), "regression").fit(stack(), ticking())
    assert [round(fit.ms, 9) for fit in fits] == [2.0, 2.0]


def test_missing_values_become_the_groups_own_mean() -> None:
    first, _ = PerGroupKernel(KNeighborsRegressor(1), "regression").fit(stack(), ticking())
    assert first.model is not None
    # The missing x of the group's third row counts as (1 + 2) / 2.
    assert first.model.predict(pd.DataFrame({"x": [1.45, 0.9, np.nan]})).tolist() == [3.0, 1.0, 3.0]


def test_a_column_of_which_a_group_knows_nothing_is_fitted_by_boosted_trees_as_well() -> None:
    """scikit-learn's find no bins in it: "window shape cannot be larger than input array shape"."""
    frame = pd.DataFrame({"x": [0.0, 1.0] * 30, "off": [np.nan] * 60})
    features = (Feature("x", "double"), Feature("off", "double"))
    of = KernelInput(("a",), to_columns(frame, features), np.array([0, 60]), frame["x"].to_numpy() * 10, None)
    (fit,) = PerGroupKernel(HistGradientBoostingRegressor(min_samples_leaf=2), "regression").fit(of, ticking())
    assert fit.model is not None
    answers = fit.model.predict(pd.DataFrame({"x": [0.0, 1.0], "off": [7.0, np.nan]}))
    np.testing.assert_allclose(answers, [0, 10], atol=0.1)


def test_an_estimator_that_cannot_be_cloned_fails_its_groups_and_not_the_call() -> None:
    class Deeper(Lasso):
        def __init__(self, depth: int = 1) -> None:
            self.depth = depth + 1

    fits = PerGroupKernel(Deeper(), "regression").fit(stack(), ticking())
    assert [type(fit.error) for fit in fits] == [RuntimeError, RuntimeError]


@pytest.mark.parametrize(
    ("estimator", "handles"),
    [
        (LinearRegression(), False),
        (HistGradientBoostingRegressor(), True),
        (make_pipeline(StandardScaler(), Lasso()), False),
        (make_pipeline(StandardScaler(), HistGradientBoostingRegressor()), True),
        (make_pipeline(StandardScaler(), SimpleImputer(strategy="median"), Lasso()), True),
        (make_pipeline(make_pipeline(SimpleImputer()), Lasso()), False),
    ],
)
def test_an_imputer_is_added_only_where_it_is_needed(estimator: Any, handles: bool) -> None:
    assert accepts_missing_values(estimator) is handles


def test_weights_go_to_the_last_step_if_it_weighs_rows() -> None:
    weights = np.ones(2)
    assert set(weight_arguments(LinearRegression(), weights)) == {"sample_weight"}
    nested = make_pipeline(StandardScaler(), make_pipeline(StandardScaler(), Lasso()))
    assert set(weight_arguments(nested, weights)) == {"pipeline__lasso__sample_weight"}
    assert weight_arguments(KNeighborsRegressor(), weights) == {}


def test_weights_are_heeded() -> None:
    # All weight on the first and last row of each group: the line through these two.
    weights = np.array([1.0, 0.0, 0.0] * 2)
    weights[[0, 1, 3, 5]] = 1.0
    first, second = PerGroupKernel(LinearRegression(), "regression").fit(stack(weights), ticking())
    assert first.model is not None
    assert second.model is not None
    np.testing.assert_allclose(first.model.predict(pd.DataFrame({"x": [3.0]})), [3.0])
    np.testing.assert_allclose(second.model.predict(pd.DataFrame({"x": [5.0]})), [6.0])


def test_a_seed_is_the_first_four_bytes_of_the_keys_digest() -> None:
    assert seed_for('["a"]') == int(hashlib.sha256(b'["a"]').hexdigest()[:8], 16)


def test_seeds_left_open_are_the_groups_own_and_work_is_not_spread() -> None:
    (first, second) = PerGroupKernel(BaggingRegressor(n_jobs=-1), "regression").fit(stack(), ticking())
    assert first.model is not None
    assert second.model is not None
    assert first.model.estimator.random_state == seed_for('["a"]')
    assert second.model.estimator.random_state == seed_for('["b"]')
    assert first.model.estimator.n_jobs == 1
    (kept, _) = PerGroupKernel(BaggingRegressor(random_state=5), "regression").fit(stack(), ticking())
    assert kept.model is not None
    assert kept.model.estimator.random_state == 5


@pytest.mark.parametrize("wrong", [object(), LinearRegression, 7])
def test_what_is_no_estimator_is_refused(wrong: object) -> None:
    with pytest.raises(ContractError, match="unfitted scikit-learn estimator"):
        PerGroupKernel(wrong, "regression")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "kernel_shop.py").write_text(
        "from sklearn.linear_model import Lasso\n"
        "SHARED = Lasso(alpha=0.01)\n"
        "def lasso(alpha=1.0): return Lasso(alpha=alpha)\n"
        "def shared(): return SHARED\n"
        "def broken(): raise OSError('no price list')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return "kernel_shop"


def test_a_users_function_gives_the_estimator(shop: str) -> None:
    kernel = kernel_for(f"{shop}:lasso", "regression", {"alpha": 0.25})
    assert isinstance(kernel, PerGroupKernel)
    assert kernel.template.alpha == 0.25


def test_a_function_that_gives_one_object_every_time_still_gives_each_group_its_own(shop: str) -> None:
    fits: list[KernelResult] = kernel_for(f"{shop}:shared", "regression", {}).fit(stack(), ticking())
    one, other = (fit.model.estimator.estimator for fit in fits if fit.model is not None)
    assert one is not other
    assert one.coef_ != other.coef_


def test_a_users_function_that_raises_is_named(shop: str) -> None:
    with pytest.raises(ContractError, match=r"kernel_shop:broken with \{\}: .* OSError: no price list"):
        kernel_for(f"{shop}:broken", "regression", {})
    with pytest.raises(ContractError, match="unexpected keyword argument 'beta'"):
        kernel_for(f"{shop}:lasso", "regression", {"beta": 1})
