"""A scikit-learn estimator that was fitted elsewhere, called with input of the form that it was fitted on.

An estimator fitted on a frame with named columns gets a frame. Each column must be a feature that is a number, a
boolean or a string: numbers and booleans are passed as float64, strings unchanged, None if missing. Any other estimator
gets the matrix of all features in their declared order, which must be numbers or booleans. Times are not supported, as
there is no single form to pass them in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from spinney.core.features.encoding import Columns, Floats, static_column_names, string_features


class Imported:
    """The estimator of a Model that was imported. skops stores the names of this class and its attributes: keep them.

    names: the columns of the frame that it takes; None: it takes the matrix.
    """

    def __init__(self, estimator: Any, names: tuple[str, ...] | None) -> None:
        self.estimator = estimator
        self.names = names

    def raw(self, columns: Columns, predict: Callable[[Any, Any, int], Floats]) -> Floats:
        """Return the result of `predict(estimator, input, number of rows)`."""
        return predict(self.estimator, self._given(columns), len(columns))

    def _given(self, columns: Columns) -> Any:
        if self.names is None:
            return columns.numbers
        numbers, words = (
            static_column_names(columns.features),
            [feature.name for feature in string_features(columns.features)],
        )
        given = {}
        for name in self.names:
            if name in words:
                at = words.index(name)
                given[name] = np.array([*columns.words[at], None], dtype=object)[columns.codes[:, at]]
            else:
                given[name] = columns.numbers[:, numbers.index(name)]
        return pd.DataFrame(given)
