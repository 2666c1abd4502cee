"""A scikit-learn estimator that was fitted elsewhere, asked as it was fitted.

By a frame where it was fitted on one with named columns (each must be a feature that is a number, a boolean or a
string: numbers and booleans come as float64, strings as they are, None where missing), else by the matrix of the
features in their declared order, which must all be numbers or booleans then. Times have no one form to hand over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from spinney.core.features.encoding import Columns, Floats, static_names, strings


class Imported:
    """What stands in a Model's place of an estimator. Stored by skops, whose files name this class and its attributes.

    names: the columns of the frame that it takes; None: it takes the matrix.
    """

    def __init__(self, estimator: Any, names: tuple[str, ...] | None) -> None:
        self.estimator = estimator
        self.names = names

    def raw(self, columns: Columns, ask: Callable[[Any, Any, int], Floats]) -> Floats:
        """What `ask(estimator, given, rows)` answers."""
        return ask(self.estimator, self._given(columns), len(columns))

    def _given(self, columns: Columns) -> Any:
        if self.names is None:
            return columns.numbers
        numbers, words = static_names(columns.features), [each.name for each in strings(columns.features)]
        given = {}
        for name in self.names:
            if name in words:
                at = words.index(name)
                given[name] = np.array([*columns.words[at], None], dtype=object)[columns.codes[:, at]]
            else:
                given[name] = columns.numbers[:, numbers.index(name)]
        return pd.DataFrame(given)
