"""Import fitted estimators from elsewhere as models of a fleet, after checks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from spinney.core.errors import ContractError
from spinney.core.features.encoding import Encoder, Floats, static_column_names, string_features, to_columns
from spinney.core.models.imported import Imported
from spinney.core.models.model import Model
from spinney.core.recipes.recipe import Feature, Recipe
from spinney.core.training.training_set import label_text

Rows = tuple[pd.DataFrame, Floats]


def import_estimator(estimator: Any, recipe: Recipe) -> Model:
    """Return the estimator as a model of a fleet with this recipe's features, target and task. Sets its `n_jobs` to 1.

    Raises ContractError if it is not a fitted estimator, or its features, task or classes do not match the fleet's.
    """
    kind = type(estimator).__name__
    if not isinstance(estimator, BaseEstimator) or not hasattr(estimator, "predict"):
        raise ContractError(f"expected a fitted scikit-learn estimator or pipeline; got {kind}")
    try:
        check_is_fitted(estimator)
    except NotFittedError as error:
        raise ContractError(f"expected a fitted estimator; got a {kind} that is not fitted") from error
    if not (is_regressor(estimator) if recipe.task == "regression" else is_classifier(estimator)):
        raise ContractError(f"expected an estimator for {recipe.task}, which is fleet.task; got {kind}, for another")
    names = _input_columns(estimator, recipe.features)
    parameters = estimator.get_params(deep=True)
    jobs = [name for name in parameters if name == "n_jobs" or name.endswith("__n_jobs")]
    if jobs:
        estimator.set_params(**dict.fromkeys(jobs, 1))
    classes = _classes(estimator, recipe.target) if recipe.task == "classification" else None
    # Without vocabularies: an imported estimator gets strings as they are.
    encoder = Encoder(recipe.features, ((),) * len(string_features(recipe.features)))
    return Model(encoder, Imported(estimator, names), classes)


def try_model(model: Model, rows: pd.DataFrame) -> Rows:
    """Predict some rows, and return them with the predictions.

    These are the rows without missing values or, if there are none, two made-up rows. rows: the features. Raises
    ContractError if the model raises or a prediction is not finite.
    """
    features = model.encoder.features
    names = model.estimator.names or tuple(feature.name for feature in features)
    complete_rows = rows[rows[list(names)].notna().all(axis=1)]
    tried_rows = (
        complete_rows
        if len(complete_rows)
        else pd.DataFrame({feature.name: _toy_values(feature) for feature in features})
    )
    where = (
        f"on {len(complete_rows)} stored rows of its group"
        if len(complete_rows)
        else "on toy rows, as no event of its group is stored"
    )
    try:
        answers = model.raw_predictions(to_columns(tried_rows, features))
    except Exception as error:  # whatever an estimator raises
        raise ContractError(f"tried {where}: expected answers; got {type(error).__name__}: {error}") from error
    if not np.isfinite(answers).all():
        raise ContractError(f"tried {where}: expected finite answers; got NaN or infinity")
    return tried_rows, answers


def _toy_values(feature: Feature) -> list[Any]:
    if feature.type == "string":
        return ["", ""]
    if feature.type == "date":
        return [date(1970, 1, 1)] * 2
    return [pd.Timestamp(0, tz="UTC")] * 2 if feature.type == "timestamp" else [0.0, 1.0]


def _input_columns(estimator: Any, features: Sequence[Feature]) -> tuple[str, ...] | None:
    """The columns of the frame that the estimator takes; None if it takes a matrix."""
    plain = {feature.name: static_column_names((feature,)) == (feature.name,) for feature in features}
    if hasattr(estimator, "feature_names_in_"):
        names = tuple(map(str, estimator.feature_names_in_))
        string_names = {feature.name for feature in string_features(tuple(features))}
        if unknown := [name for name in names if name not in plain]:
            raise ContractError(f"it was fitted on {', '.join(names)}: expected features of the fleet; got {unknown}")
        if times := [name for name in names if not plain[name] and name not in string_names]:
            raise ContractError(f"it was fitted on {times}: expected numbers, booleans or strings; got times")
        return names
    if unsupported := [name for name, is_plain in plain.items() if not is_plain]:
        raise ContractError(
            f"it was fitted without names of columns: expected features that are all numbers or booleans; got "
            f"{unsupported} in fleet.features. Fit it on a frame that has them by name"
        )
    width = getattr(estimator, "n_features_in_", len(plain))
    if width != len(plain):
        raise ContractError(f"expected an estimator of the fleet's {len(plain)} features; got one of {width}")
    return None


def _classes(estimator: Any, target: Feature) -> tuple[str, ...]:
    """The estimator's classes as texts of the fleet, in the estimator's order."""
    values = getattr(estimator, "classes_", None)
    if not isinstance(values, np.ndarray) or values.ndim != 1:
        raise ContractError(f"expected an estimator with one list of classes; got {values!r:.80}")
    try:
        classes = tuple(_class_text(value, target) for value in values.tolist())
    except ValueError as error:
        raise ContractError(f"its classes are {values.tolist()}: expected classes of type {target.type}") from error
    if len(set(classes)) < len(classes):
        raise ContractError(f"its classes are {values.tolist()}: expected all different as {target.type}")
    if not hasattr(estimator, "predict_proba") and classes != tuple(values.tolist()):
        raise ContractError("it has no probabilities: expected classes that are texts; got others")
    return classes


def _class_text(value: Any, target: Feature) -> str:
    if target.type == "boolean" and value not in (True, False):  # 0 and 1 too
        raise ValueError("a class that is no boolean")
    if target.type != "string" and isinstance(value, float) and not value.is_integer():
        raise ValueError("a class that is no integer")
    return label_text(value, target)
