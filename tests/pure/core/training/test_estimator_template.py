"""Copies of a template are what scikit-learn's own clone, set_params and validation would give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import BaggingRegressor, RandomForestRegressor
from sklearn.linear_model import Lasso, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeRegressor

from spinney.core.training.estimator_template import EstimatorTemplate


class Own(Ridge):
    """A class of the user's."""


def nested() -> Any:
    columns = ColumnTransformer([("a", StandardScaler(), [0]), ("b", "passthrough", [1])], n_jobs=3)
    return make_pipeline(columns, Lasso(random_state=4), BaggingRegressor(DecisionTreeRegressor(), n_jobs=-1))


GIVEN = {
    "pipeline": lambda: make_pipeline(StandardScaler(), Ridge(alpha=2.0)),
    "nested": nested,
    "forest": lambda: RandomForestRegressor(3, n_jobs=2),
    "own class": Own,
    "lambda": lambda: make_pipeline(FunctionTransformer(lambda x: x), Ridge()),
}


@pytest.mark.parametrize("name", GIVEN)
def test_a_copy_has_the_parameters_of_a_clone_with_its_free_seeds_and_one_job(name: str) -> None:
    given = GIVEN[name]()
    parameters = given.get_params(deep=True)
    seeds = {key: 7 for key in parameters if key.endswith("random_state") and parameters[key] is None}
    jobs = {key: 1 for key in parameters if key.endswith("n_jobs")}
    expected = clone(given).set_params(**seeds, **jobs)
    template = EstimatorTemplate.of(given)
    copies = [template.copy(7), template.copy(7)]
    for copy in copies:
        assert type(copy) is type(given)
        assert repr(copy) == repr(expected)
        plain = {key: value for key, value in copy.get_params(deep=True).items() if type(value) in (int, float, str)}
        wanted = expected.get_params(deep=True)
        assert plain == {key: value for key, value in wanted.items() if type(value) in (int, float, str)}
    parts = [{id(value) for value in copy.get_params().values() if hasattr(value, "fit")} for copy in copies]
    assert not parts[0] & parts[1]
    assert given.get_params(deep=True).keys() == parameters.keys()


@pytest.mark.parametrize(
    ("given", "skips"),
    [
        (make_pipeline(StandardScaler(), Ridge()), True),
        (make_pipeline(StandardScaler(), Ridge(alpha=-1.0)), False),  # each group's fit raises it
        (BaggingRegressor(Ridge()), False),  # it sets parameters of what it fits
        (Own(), False),
    ],
)
def test_validation_is_left_out_only_where_it_was_done(given: Any, skips: bool) -> None:
    with EstimatorTemplate.of(given).without_validation():
        assert sklearn.get_config()["skip_parameter_validation"] is skips
    assert sklearn.get_config()["skip_parameter_validation"] is False
    if skips:
        x = np.arange(6.0)[:, None]
        np.testing.assert_array_equal(
            EstimatorTemplate.of(given).copy(1).fit(x, x).predict(x), clone(given).fit(x, x).predict(x)
        )
