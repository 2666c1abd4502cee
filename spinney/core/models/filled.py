"""A scikit-learn estimator behind means that take the place of missing values.

What `SimpleImputer(strategy="mean", keep_empty_features=True)` does in front of an estimator, to the bit, without its
milliseconds: it validates its input at each fit and each prediction.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spinney.core.features.encoding import Floats


class Filled:
    """What stands in a Model's place of an estimator that does not take NaN. fill: shape (width,)."""

    def __init__(self, estimator: Any, fill: Floats) -> None:
        self.estimator = estimator
        self.fill = fill

    def filled(self, matrix: Floats) -> Floats:
        """The matrix with its missing values replaced; itself where there are none."""
        missing = np.isnan(matrix)
        return np.where(missing, self.fill, matrix) if missing.any() else matrix


def means(matrix: Floats) -> Floats:
    """Each column's mean over the rows that have a value; 0 where none has."""
    missing = np.isnan(matrix)
    if not missing.any():
        return np.asarray(matrix.mean(axis=0))
    there = len(matrix) - missing.sum(axis=0)
    sums: Floats = np.where(missing, 0.0, matrix).sum(axis=0)
    return np.where(there > 0, sums / np.maximum(there, 1), 0.0)
