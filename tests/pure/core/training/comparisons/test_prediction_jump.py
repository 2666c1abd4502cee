from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.training.comparisons.prediction_jump import prediction_jumps

NOISE = np.random.default_rng(5).normal(size=24)


def jump_of(residuals: np.ndarray, steps: np.ndarray, label_spread: float = 1e9) -> float:
    counts = np.array([0, len(steps)])
    nothing, jump = prediction_jumps(residuals, steps, counts, np.array([np.nan, label_spread]))
    assert np.isnan(nothing)
    return float(jump)


def test_a_jump_is_the_median_step_in_spreads_of_the_residuals() -> None:
    residuals = np.arange(21.0)  # median 10; absolute deviations 0, 1, 1, 2, 2 … 10, 10: median 5
    assert jump_of(residuals, np.full(21, -9.0)) == pytest.approx(9 / (1.4826 * 5))


def test_of_few_rows_the_spread_of_the_older_labels_is_used() -> None:
    assert jump_of(np.zeros(19), np.full(19, 5.0), label_spread=2.0) == 2.5


def test_the_spread_of_the_older_labels_is_an_upper_limit() -> None:
    """Labels in another unit, 100 times as large: the residuals spread like the new labels."""
    assert jump_of(NOISE * 100, np.full(24, 500.0), label_spread=2.0) == 250


def test_older_labels_that_are_mostly_the_same_limit_nothing() -> None:
    assert jump_of(NOISE, np.full(24, 3.0), label_spread=0.0) == jump_of(NOISE, np.full(24, 3.0))


def test_a_spread_of_zero_measures_no_jump() -> None:
    assert np.isnan(jump_of(np.zeros(24), np.full(24, 5.0)))


@given(st.floats(-1e3, 1e3))
def test_a_shift_of_every_label_leaves_the_spread_as_it_was(shift: float) -> None:
    assert jump_of(NOISE + shift, np.full(24, 3.0)) == pytest.approx(jump_of(NOISE, np.full(24, 3.0)), rel=1e-6)


@given(st.integers(0, 23), st.floats(-1e6, 1e6))
def test_one_wrong_label_of_twenty_four_changes_little(row: int, label: float) -> None:
    residuals = NOISE.copy()
    residuals[row] = label
    assert 0.5 < jump_of(residuals, np.full(24, 3.0)) / jump_of(NOISE, np.full(24, 3.0)) < 2
