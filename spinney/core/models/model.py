"""One group's fitted model, from features to predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinney.core.features.encoding import Columns, Encoder, Floats, to_columns
from spinney.core.models.filled import Filled
from spinney.core.models.imported import Imported
from spinney.core.models.linear import Linear, predict_linear


@dataclass(frozen=True, eq=False)
class Model:
    """An encoder and an estimator that takes its matrix.

    estimator: `Linear`, `Seasonal`, a fitted scikit-learn estimator, a `Filled` one, or an `Imported` one, which takes
    the columns instead of the matrix. classes: for classification the labels, as text, in the order of the
    probabilities; None for regression.
    """

    encoder: Encoder
    estimator: Any
    classes: tuple[str, ...] | None = None

    def predict(self, frame: pd.DataFrame) -> npt.NDArray[Any]:
        """Return the predictions, shape (n_rows,): for regression float64, NaN where there is none; for classification
        texts.

        Raises ContractError if the frame lacks a feature or has one of another type.
        """
        raw = self.raw_predictions(to_columns(frame, self.encoder.features))
        return raw[:, 0] if self.classes is None else labels_of(raw, self.classes)

    def probabilities(self, frame: pd.DataFrame) -> tuple[tuple[str, ...], Floats] | None:
        """Return the classes and their probabilities, shape (n_rows, n_classes). Raises the errors of `predict`.

        None for regression.
        """
        if self.classes is None:
            return None
        return self.classes, self.raw_predictions(to_columns(frame, self.encoder.features))

    def raw_predictions(self, columns: Columns) -> Floats:
        """Return predictions of shape (n_rows, 1), or for classification probabilities of shape (n_rows, n_classes)."""
        if isinstance(self.estimator, Linear):
            return predict_linear([self.encoder], [self.estimator], np.zeros(len(columns), dtype=np.int64), columns)
        if not len(columns):
            return np.empty((0, len(self.classes or ("",))))
        if isinstance(self.estimator, Imported):
            return self.estimator.raw(columns, self._predict)
        if isinstance(self.estimator, Filled):
            matrix = self.estimator.filled(self.encoder.matrix(columns))
            return self._predict(self.estimator.estimator, matrix, len(columns))
        return self._predict(self.estimator, self.encoder.matrix(columns), len(columns))

    def _predict(self, estimator: Any, given: Any, rows: int) -> Floats:
        if self.classes is None:
            return _reshape(estimator.predict(given), rows, 1)
        if hasattr(estimator, "predict_proba"):
            return _reshape(estimator.predict_proba(given), rows, len(self.classes))
        labels = np.asarray(estimator.predict(given), dtype=object)
        certain: Floats = (labels[:, None] == np.array(self.classes, dtype=object)).astype(np.float64)
        return certain


def labels_of(probabilities: Floats, classes: tuple[str, ...]) -> npt.NDArray[np.object_]:
    """Return the most probable class of each row, the first of several equal ones; None if a
    probability is not finite.
    """
    labels: npt.NDArray[np.object_] = np.array(classes, dtype=object)[np.argmax(probabilities, axis=1)]
    labels[~np.isfinite(probabilities).all(axis=1)] = None
    return labels


def _reshape(values: Any, rows: int, width: int) -> Floats:
    out = np.asarray(values, dtype=np.float64)
    if out.size != rows * width or len(out) != rows:
        raise ValueError(f"answers of shape {out.shape}, expected {rows} rows and {width} columns")
    return out.reshape(rows, width)
