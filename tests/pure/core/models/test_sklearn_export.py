"""A group's model for those who know nothing of fleets answers as the fleet does."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.utils.validation import check_is_fitted

from spinney.core.errors import ContractError
from spinney.core.features.encoding import Encoder
from spinney.core.models import codec
from spinney.core.models.linear import Linear, Link
from spinney.core.models.model import Model
from spinney.core.models.sklearn_export import GroupModel
from spinney.core.recipes.recipe import Feature

FEATURES = (Feature("price", "double"), Feature("at", "timestamp"), Feature("brand", "string"))
ENCODER = Encoder(FEATURES, (("acme",),))
FRAME = pd.DataFrame(
    {"price": [2.0, np.nan], "at": [datetime(2024, 5, 6, tzinfo=UTC)] * 2, "brand": ["acme", None], "more": [1, 2]}
)


def portable(model: Model) -> GroupModel:
    name, payload = codec.dump(model)
    return GroupModel(name, payload, '["a"]', "m")


def test_numbers_from_a_frame_with_whatever_else_in_it() -> None:
    """3 price + 10 for acme + 1; a missing price is 5."""
    coefficients = np.zeros((1, ENCODER.width))
    coefficients[0, 0], coefficients[0, -1] = 3.0, 10.0
    fill = np.zeros(ENCODER.width)
    fill[0] = 5.0
    model = portable(Model(ENCODER, Linear(Link.IDENTITY, np.array([1.0]), coefficients, fill)))
    assert model.predict(FRAME).tolist() == [17.0, 16.0]
    assert not hasattr(model, "predict_proba")
    assert model.classes_.tolist() == []
    with pytest.raises(ContractError, match="features: expected"):
        model.predict(FRAME.drop(columns="price"))


def test_classes_and_their_probabilities() -> None:
    random = np.random.default_rng(3)
    matrix = random.normal(size=(40, ENCODER.width))
    forest = RandomForestClassifier(3, random_state=1).fit(matrix, np.where(matrix[:, 0] > 0, "late", "early"))
    whole = Model(ENCODER, forest, ("early", "late"))
    model = portable(whole)
    frame = FRAME.fillna({"price": -2.0})
    classes, probabilities = whole.probabilities(frame)
    assert model.classes_.tolist() == list(classes)
    assert model.predict_proba(frame).tolist() == probabilities.tolist()
    assert model.predict(frame).tolist() == whole.predict(frame).tolist()


def test_it_is_an_estimator_that_is_fitted_and_can_be_copied() -> None:
    one = Linear(Link.IDENTITY, np.ones(1), np.zeros((1, ENCODER.width)), np.zeros(ENCODER.width))
    model = portable(Model(ENCODER, one))
    check_is_fitted(model)
    assert model.fit(FRAME, [7, 7]) is model
    assert clone(model).predict(FRAME).tolist() == [1.0, 1.0]
