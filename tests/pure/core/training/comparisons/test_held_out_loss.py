from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.training.comparisons.held_out_loss import any_per_group, mean_per_group, split_by_count


@pytest.mark.parametrize("size", [None, 1, 10, 50])
def test_means_of_many_groups_are_the_means_of_each_to_the_bit(size: int | None) -> None:
    random = np.random.default_rng(2)
    counts = random.integers(0, 300, size=60) if size is None else np.full(2000, size)
    values = random.normal(size=counts.sum()) * 10.0 ** random.integers(-6, 6, size=counts.sum())
    values[:: len(values) // 7] = np.nan
    parts = np.split(values, np.cumsum(counts)[:-1])
    expected = [float(np.mean(part)) if len(part) and np.isfinite(part).all() else None for part in parts]
    assert mean_per_group(values, counts) == expected


def test_a_mark_is_its_groups() -> None:
    which = np.array([0, 0, 2, 2, 2])
    assert any_per_group(np.array([False, True, False, False, False]), which, 4).tolist() == [True, False, False, False]


@given(st.lists(st.lists(st.integers(), max_size=4), max_size=5))
def test_values_are_split_by_their_counts_also_where_a_group_has_none(groups: list[list[int]]) -> None:
    values = np.array([value for group in groups for value in group], dtype=object)
    found = split_by_count(values, np.array([len(group) for group in groups], dtype=np.int64))
    assert [part.tolist() for part in found] == groups
