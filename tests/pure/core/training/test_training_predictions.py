from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.even_spacing import is_evenly_spaced
from spinney.core.training.training_predictions import MAX_TRAINING_PREDICTIONS, spread_predictions

GROUPS = st.lists(st.lists(st.floats(allow_infinity=False), max_size=80), max_size=6)


@given(GROUPS)
def test_each_group_keeps_evenly_spaced_ranks_of_its_own_predictions_whatever_the_sizes_of_the_others(
    groups: list[list[float]],
) -> None:
    values = np.array([value for group in groups for value in group])
    found = spread_predictions(values, np.array([len(group) for group in groups], dtype=np.int64))
    assert len(found) == len(groups)
    for group, kept in zip(groups, found, strict=True):
        ordered = sorted(group, key=lambda value: (math.isnan(value), 0.0 if math.isnan(value) else value))
        wanted = is_evenly_spaced(np.arange(len(group)), len(group), MAX_TRAINING_PREDICTIONS)
        np.testing.assert_array_equal(kept, [value for value, is_kept in zip(ordered, wanted, strict=True) if is_kept])
