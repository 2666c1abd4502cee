"""A group's model as a scikit-learn estimator, for use without a fleet."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.metaestimators import available_if

from spinney.core.features.encoding import Floats
from spinney.core.models import codec as codecs
from spinney.core.models.model import Model


class GroupModel(BaseEstimator):  # type: ignore[misc]
    """A fitted estimator with the same predictions as the fleet's, bit for bit, from a frame with the features.

    codec, payload: as stored; the caller has verified their signature. They are loaded at the first prediction. Pickles
    are refused.
    """

    def __init__(self, codec: str = "", payload: bytes = b"", group_key: str = "", model_id: str = "") -> None:
        self.codec = codec
        self.payload = payload
        self.group_key = group_key
        self.model_id = model_id

    @property
    def model(self) -> Model:
        """The loaded model: its encoder and estimator."""
        return _load(self.codec, self.payload)

    def fit(self, X: object, y: object = None) -> GroupModel:
        """Do nothing and return self, as scikit-learn's FrozenEstimator does."""
        del X, y
        return self

    def predict(self, X: pd.DataFrame) -> npt.NDArray[Any]:
        """Return numbers, or the names of classes, shape (n_rows,). Raises ContractError if X lacks a feature."""
        return self.model.predict(X)

    @available_if(lambda self: self.model.classes is not None)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: pd.DataFrame) -> Floats:
        """Return probabilities in the order of `classes_`, shape (n_rows, n_classes). Raises as `predict` does."""
        found = self.model.probabilities(X)
        assert found is not None, "asked of a classification only"
        return found[1]

    @property
    def classes_(self) -> npt.NDArray[np.object_]:
        """The classes in the order of the probabilities; none for regression."""
        return np.array(self.model.classes or (), dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return True


@lru_cache(maxsize=64)
def _load(codec: str, payload: bytes) -> Model:
    return codecs.load(codec, payload)
