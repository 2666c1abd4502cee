from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.models.batch_scoring import FEW_NAMES, number_names


@given(st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "", "ü", "c"])), max_size=2 * FEW_NAMES))
def test_names_have_the_numbers_that_pandas_gives_them(names: list[str | None]) -> None:
    numbers, distinct = pd.factorize(np.array(names, dtype=object))
    found = number_names(names)
    assert found[0].tolist() == numbers.tolist()
    assert found[1] == distinct.tolist()
