"""Estimators from elsewhere answer as scikit-learn itself does, or are refused with a reason."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from spinney.core.errors import ContractError
from spinney.core.models import codec
from spinney.core.models.batch_scoring import predict_by_id
from spinney.core.recipes.recipe import Feature, Recipe
from spinney.core.training.imported_model_checks import import_estimator, try_model

PRICE, STOCK, BRAND, AT = (
    Feature("price", "double"),
    Feature("stock", "int"),
    Feature("brand", "string"),
    Feature("at", "timestamp"),
)
ROWS = pd.DataFrame(
    {
        "price": [1.0, 2.5, 3.0, 4.5, 6.0],
        "stock": [3, 1, 4, 1, 5],
        "brand": ["x", "y", "x", "y", "x"],
        "at": pd.to_datetime(["2024-05-01"] * 5, utc=True),
    }
)
SOLD = np.array([2.0, 5.5, 5.0, 9.5, 11.0])
NONE = ROWS.head(0)


SOLD_FEATURE = Feature("sold", "double")


def recipe(*features: Feature, target: Feature = SOLD_FEATURE, task: str = "regression") -> Recipe:
    return Recipe("ridge", (), features, target, task, "absolute", 8, 30, timedelta(days=10))


def stored(model):
    """As it comes back from its bytes."""
    return codec.load(*codec.dump(model))


def test_a_matrix_is_given_in_the_order_of_the_features_and_the_answers_are_its_own() -> None:
    estimator = LinearRegression().fit(ROWS[["price", "stock"]].to_numpy(), SOLD)
    model = stored(import_estimator(estimator, recipe(PRICE, STOCK)))
    assert model.predict(ROWS).tolist() == estimator.predict(ROWS[["price", "stock"]].to_numpy()).tolist()


def test_a_frame_is_given_the_columns_that_it_was_fitted_on_in_its_own_order(recwarn) -> None:
    names = ["stock", "price"]
    pipeline = make_pipeline(StandardScaler(), RandomForestRegressor(5, random_state=0)).fit(ROWS[names], SOLD)
    model = stored(import_estimator(pipeline, recipe(PRICE, BRAND, STOCK, AT)))
    assert model.predict(ROWS).tolist() == pipeline.predict(ROWS[names]).tolist()
    assert [str(each.message) for each in recwarn if "feature names" in str(each.message)] == []


def test_strings_are_given_as_they_are_to_a_pipeline_that_knows_them() -> None:
    encode = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["brand"]), remainder="passthrough")
    known = ROWS.assign(brand=["x", "y", None, "y", "x"])  # nothing is a brand of its own
    pipeline = make_pipeline(encode, LinearRegression()).fit(known[["price", "brand"]], SOLD)
    model = stored(import_estimator(pipeline, recipe(PRICE, BRAND)))
    asked = pd.concat([ROWS, ROWS.assign(brand=["y", "x", "new", None, "x"])], ignore_index=True)
    assert model.predict(asked).tolist() == pipeline.predict(asked[["price", "brand"]]).tolist()


def test_classes_are_named_as_the_fleet_names_them_and_stand_in_the_estimators_order() -> None:
    labels = np.array([7, 10, 7, 10, 7])
    estimator = LogisticRegression().fit(ROWS[["price", "stock"]], labels)
    model = stored(
        import_estimator(estimator, recipe(PRICE, STOCK, target=Feature("kind", "int"), task="classification"))
    )
    assert model.classes == ("7", "10")
    assert model.predict(ROWS).tolist() == [str(each) for each in estimator.predict(ROWS[["price", "stock"]])]
    assert model.probabilities(ROWS)[1].tolist() == estimator.predict_proba(ROWS[["price", "stock"]]).tolist()


def test_a_row_that_the_estimator_cannot_bear_costs_only_its_own_answer() -> None:
    estimator = LinearRegression().fit(ROWS[["price", "stock"]], SOLD)
    model = import_estimator(estimator, recipe(PRICE, STOCK))
    gaps = ROWS.assign(price=[1.0, np.nan, 3.0, 4.5, 6.0])
    expected = estimator.predict(ROWS[["price", "stock"]])
    answers = predict_by_id(gaps, ["m"] * len(gaps), {"m": model}).prediction
    assert np.isnan(answers).tolist() == [False, True, False, False, False]
    # One row asked alone may be another last bit than among others.
    assert answers[[0, 2, 3, 4]] == pytest.approx(expected[[0, 2, 3, 4]], rel=1e-14)
    with pytest.raises(ValueError, match="NaN"):
        model.predict(gaps[1:2])
    with pytest.raises(ValueError, match="NaN"):
        model.predict(gaps.iloc[[1, 1]])


def test_it_is_asked_on_one_thread() -> None:
    estimator = make_pipeline(RandomForestRegressor(2, n_jobs=-1)).fit(ROWS[["price", "stock"]], SOLD)
    assert import_estimator(estimator, recipe(PRICE, STOCK)).estimator.estimator[0].n_jobs == 1


FITTED = LinearRegression().fit(ROWS[["price", "stock"]], SOLD)
UNNAMED = LinearRegression().fit(ROWS[["price", "stock"]].to_numpy(), SOLD)
CLASSIFIER = LogisticRegression().fit(ROWS[["price"]], [True, False, True, False, True])
CLASSES = {"target": Feature("kind", "boolean"), "task": "classification"}


@pytest.mark.parametrize(
    ("estimator", "of", "why"),
    [
        ({"coef": 1}, recipe(PRICE), "expected a fitted scikit-learn estimator or pipeline; got dict"),
        (LinearRegression(), recipe(PRICE), "expected a fitted estimator; got a LinearRegression that is not fitted"),
        (FITTED, recipe(PRICE, STOCK, **CLASSES), "expected an estimator for classification, which is fleet.task"),
        (CLASSIFIER, recipe(PRICE), "expected an estimator for regression, which is fleet.task; got LogisticReg"),
        (FITTED, recipe(PRICE), r"fitted on price, stock: expected features of the fleet; got \['stock'\]"),
        (UNNAMED, recipe(PRICE), "expected an estimator of the fleet's 1 features; got one of 2"),
        (UNNAMED, recipe(PRICE, BRAND), r"without names .* all numbers or booleans; got \['brand'\] in fleet.features"),
        (UNNAMED, recipe(PRICE, AT), r"all numbers or booleans; got \['at'\]"),
    ],
)
def test_what_cannot_answer_for_the_fleet_is_refused(estimator: object, of: Recipe, why: str) -> None:
    with pytest.raises(ContractError, match=why):
        import_estimator(estimator, of)


def test_a_time_has_no_one_form_to_hand_over() -> None:
    encode = make_column_transformer((FunctionTransformer(lambda at: at.dt.hour.to_frame()), "at"))
    hours = make_pipeline(encode, RandomForestRegressor(2)).fit(ROWS[["price", "at"]], SOLD)
    with pytest.raises(ContractError, match=r"fitted on \['at'\]: expected numbers, booleans or strings; got times"):
        import_estimator(hours, recipe(PRICE, AT))


@pytest.mark.parametrize(
    ("estimator", "labels", "target", "why"),
    [
        (
            LogisticRegression(),
            ["a", "b", "a", "b", "a"],
            "int",
            r"its classes are \['a', 'b'\]: expected classes of type",
        ),
        (
            LogisticRegression(),
            ["false", "true", "true", "true", "true"],
            "boolean",
            "expected classes of type boolean",
        ),
        (LogisticRegression(), ["1", "01", "1", "01", "1"], "int", "expected all different as int"),
        (RidgeClassifier(), [1, 2, 1, 2, 1], "int", "it has no probabilities: expected classes that are texts"),
        (
            RandomForestClassifier(2),
            np.array([["a", "b"]] * 4 + [["b", "a"]]),
            "string",
            "expected an estimator with one list of classes",
        ),
    ],
)
def test_classes_that_are_not_the_targets_are_refused(estimator, labels, target: str, why: str) -> None:
    fitted = estimator.fit(ROWS[["price", "stock"]], labels)
    with pytest.raises(ContractError, match=why):
        import_estimator(fitted, recipe(PRICE, STOCK, target=Feature("kind", target), task="classification"))


def test_it_is_tried_on_the_rows_that_have_all_that_it_takes_else_on_a_toy() -> None:
    model = import_estimator(LinearRegression().fit(ROWS[["price", "stock"]], SOLD), recipe(PRICE, STOCK, BRAND, AT))
    rows = ROWS.assign(price=[1.0, np.nan, 3.0, np.nan, 6.0], brand=None, stock=[1, 2, None, 4, 5])
    asked, answers = try_model(model, rows)
    assert asked["price"].tolist() == [1.0, 6.0]
    assert answers[:, 0].tolist() == model.predict(asked).tolist()
    toys, _ = try_model(model, NONE)
    assert toys["price"].tolist() == [0.0, 1.0]


class Silent(LinearRegression):
    def predict(self, X):
        return super().predict(X) / 0.0


@pytest.mark.parametrize(
    ("rows", "how"),
    [(ROWS, "on 5 stored rows of its group"), (NONE, "on toy rows, as no event of its group is stored")],
)
def test_one_that_raises_or_answers_nothing_when_it_is_tried_is_refused(rows: pd.DataFrame, how: str) -> None:
    encode = make_column_transformer((OneHotEncoder(), ["brand"]))
    strict = make_pipeline(encode, LinearRegression()).fit(ROWS[["brand"]].replace({"x": "z", "y": "v"}), SOLD)
    with pytest.raises(
        ContractError, match=rf"tried {how}: expected answers; got ValueError: Found unknown categories"
    ):
        try_model(import_estimator(strict, recipe(BRAND)), rows)
    silent = import_estimator(Silent().fit(ROWS[["price"]], SOLD), recipe(PRICE))
    with np.errstate(all="ignore"), pytest.raises(ContractError, match=f"tried {how}: expected finite answers"):
        try_model(silent, rows)
