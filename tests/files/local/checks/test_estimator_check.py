from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from spinney.core.config import Config, parse
from spinney.core.training.estimators import builtins
from spinney.core.training.fit_kernels import Timer
from spinney.local.checks.estimator_check import POINTS, REQUIRED_POINTS, EstimatorCase, check_point, failed_points

FLEET = """
[fleet]
group = ["shop"]
event_id = "id"
event_time = "at"
target = "y"
task = "{task}"
features = ["x", "n", "s", "b", "d", "at"]
[fleet.columns]
shop = "string"
x = "double"
n = "int"
s = "string"
b = "boolean"
d = "date"
y = "{kind}"
[recipe]
estimator = "{estimator}"
min_rows = 10
[kafka]
events = "events"
[storage]
root = "nowhere"
"""
OWN = """
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsRegressor

class Own(RegressorMixin, BaseEstimator):
    def fit(self, X, y):
        self.model_ = LinearRegression().fit(X, y)
        return self
    def predict(self, X):
        return self.model_.predict(X)

class Uncloned(Own):
    def __init__(self, depth=3):
        self.depth = depth + 1

class Sulky(Own):
    def fit(self, X, y):
        raise RuntimeError("not today")

class Talkative(Own):
    def predict(self, X):
        return np.zeros((len(X), 2))

class Infinite(LinearRegression):
    def predict(self, X):
        return np.where(super().predict(X) > 3, np.inf, 0.0)

class Relative(LinearRegression):
    def predict(self, X):
        return super().predict(X) - X.mean()

class Dice(LinearRegression):
    def fit(self, X, y, sample_weight=None):
        return super().fit(X, y + np.random.default_rng().normal(size=len(y)))

class FewAreTooFew(LinearRegression):
    def fit(self, X, y, sample_weight=None):
        if len(y) < 10:
            raise ValueError("ten rows at least")
        return super().fit(X, y)

class Stubborn(LinearRegression):
    def predict(self, X):
        return super().predict(X) + 1.0

class Squeamish(LinearRegression):
    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

class TwoOnly(LogisticRegression):
    def fit(self, X, y, sample_weight=None):
        if len(set(y)) > 2:
            raise ValueError("only two classes")
        return super().fit(X, y)

class Odds(LogisticRegression):
    def predict_proba(self, X):
        return 2 * super().predict_proba(X)

class Numbered(LogisticRegression):
    def fit(self, X, y, sample_weight=None):
        super().fit(X, y)
        self.classes_ = np.arange(len(self.classes_))
        return self

class OneAtATimeNever(LinearRegression):
    def predict(self, X):
        return super().predict(X[1:])[[0, *range(len(X) - 1)]]

def neighbours():
    return KNeighborsRegressor(5)

def seeded_by_nobody():
    return RandomForestRegressor(n_estimators=3, n_jobs=4)
"""


@pytest.fixture(scope="module", autouse=True)
def own_estimators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_estimators.py").write_text(OWN)
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(folder))
        yield
    sys.modules.pop("own_estimators", None)


def configured(estimator: str, task: str = "regression", kind: str | None = None, more: str = "") -> Config:
    kind = kind or {"regression": "double", "classification": "string"}[task]
    text = FLEET.format(estimator=estimator, task=task, kind=kind)
    return parse(text.replace("[kafka]", f"{more}\n[kafka]"), "fleet.toml", {})


def ticking(step: float) -> Timer:
    at = [0.0]

    def now() -> float:
        at[0] += step
        return at[0]

    return now


def points(config: Config, timer: Timer | None = None) -> dict[str, str]:
    return {each.point: str(each) for each in failed_points(EstimatorCase.of(config, timer or ticking(0.001)))}


EVERY = [
    (name, task, kind)
    for name, builtin in sorted(builtins().items())
    for task in builtin.tasks
    for kind in (("double", "int") if task == "regression" else ("string", "int", "boolean"))
]


@pytest.mark.parametrize(("name", "task", "kind"), EVERY)
def test_every_estimator_of_ours_does_all_a_fleet_asks(name: str, task: str, kind: str) -> None:
    candidates = (
        'candidates = [{ estimator = "constant" }, { estimator = "random_forest", params = { n_estimators = 3 } }]'
    )
    small = {
        "random_forest": "n_estimators = 5",
        "hist_gradient_boosting": "max_iter = 5",
        "best_of": candidates,
    }.get(name, "")
    assert points(configured(name, task, kind, f"params = {{ {small} }}")) == {}


@pytest.mark.parametrize("name", ["seeded_by_nobody", "neighbours"])
def test_estimators_of_scikit_learn_by_a_users_function_do_too(name: str) -> None:
    assert points(configured(f"own_estimators:{name}")) == {}


@pytest.mark.parametrize(
    ("name", "task", "point", "message"),
    [
        ("Uncloned", "regression", "clone", "Let __init__ keep each argument under its own name"),
        ("Sulky", "regression", "fit", "RuntimeError: not today"),
        ("Dice", "regression", "same bytes", "random_state that is a parameter"),
        ("Relative", "regression", "row order", "predict must look at each row by itself"),
        ("OneAtATimeNever", "regression", "row order", "raised ValueError: Found array with 0 sample(s)"),
        ("Squeamish", "regression", "missing values", "fitting rows with gaps raised ValueError: Input X contains NaN"),
        (
            "FewAreTooFew",
            "regression",
            "fewest rows",
            "a group of 8 rows, the fewest that recipe.min_rows lets through",
        ),
        ("Stubborn", "regression", "one label", "Correct predict"),
        ("TwoOnly", "classification", "classes", "a group with a class that came once raised ValueError: only two"),
        ("Odds", "classification", "answers", "predict_proba gives numbers that are no probabilities"),
        ("Numbered", "classification", "answers", "classes_ has ['0', '1'], which no label is"),
    ],
)
def test_what_an_estimator_gets_wrong_is_named_with_what_to_do(name: str, task: str, point: str, message: str) -> None:
    reported = points(configured(f"own_estimators:{name}", task))
    assert message in reported[point]
    # None of them can be stored, and what cannot be cloned, fitted or asked is tried no further.
    assert ("payload" in reported) is (point not in REQUIRED_POINTS)


@pytest.mark.parametrize(
    ("name", "found"), [("Dice", ["payload", "same bytes", "row order", "one label"]), ("Own", ["payload"])]
)
def test_what_it_gets_right_is_not_named(name: str, found: list[str]) -> None:
    assert list(points(configured(f"own_estimators:{name}"))) == found


def test_an_answer_that_is_not_finite_is_reported_with_how_many_there_are() -> None:
    reported = points(configured("own_estimators:Infinite"))["answers"]
    assert "of 60 answers for the rows it was fitted on are NaN or infinite" in reported


def test_what_cannot_be_read_back_without_running_a_users_code_is_no_payload() -> None:
    reported = points(configured("own_estimators:Own"))["payload"]
    assert "cannot be stored" in reported
    assert "Build it from scikit-learn's own estimators" in reported


def test_an_answer_of_another_shape_is_reported() -> None:
    assert (
        "predict for the rows it was fitted on raised ValueError"
        in points(configured("own_estimators:Talkative"))["answers"]
    )


def test_weights_by_age_that_are_ignored_are_reported_only_where_they_are_configured() -> None:
    asked = configured("own_estimators:neighbours", more='weight_half_life = "10d"')
    assert list(points(asked)) == ["weights"]
    assert points(configured("ridge", more='weight_half_life = "10d"')) == {}


def test_a_fit_that_takes_longer_than_a_round_may_is_reported() -> None:
    # Each look at the clock is 6 s after the one before; budget.seconds is 5.
    reported = points(configured("own_estimators:neighbours"), ticking(6.0))
    assert list(reported) == ["time"]
    assert "one fit of 60 rows takes 6.0 s" in reported["time"]


def test_a_point_can_be_asked_alone() -> None:
    case = EstimatorCase.of(configured("own_estimators:Sulky"))
    assert {name for name in POINTS if check_point(case, name) is None} == {"clone", "classes", "weights", "time"}


def test_a_target_of_true_and_false_has_two_classes_in_the_toy_group() -> None:
    case = EstimatorCase.of(configured("logistic_regression", "classification", "boolean"))
    assert case.model(case.rows).classes == ("false", "true")
