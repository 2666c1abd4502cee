from __future__ import annotations

import numpy as np
import pytest

from spinney.core.training.held_out_loss import any_per_group, mean_per_group


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
