"""Means in the place of missing values are those of scikit-learn's imputer, to the bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.impute import SimpleImputer

from spinney.core.models.filled import Filled, column_means

CELLS = st.one_of(st.just(np.nan), st.floats(-1e9, 1e9))
MATRICES = hnp.arrays(np.float64, st.tuples(st.integers(1, 40), st.integers(1, 5)), elements=CELLS)


@given(MATRICES, MATRICES)
def test_what_is_filled_in_is_what_the_imputer_fills_in(fitted: np.ndarray, asked: np.ndarray) -> None:
    width = min(fitted.shape[1], asked.shape[1])
    fitted, asked = fitted[:, :width].copy(), asked[:, :width].copy()
    imputer = SimpleImputer(strategy="mean", keep_empty_features=True).fit(fitted)
    ours = Filled(None, column_means(fitted))
    assert ours.fill.tobytes() == imputer.statistics_.tobytes()
    before = asked.copy()
    assert ours.filled(asked).tobytes() == imputer.transform(asked).tobytes()
    assert asked.tobytes() == before.tobytes()
