"""Clipped residuals by hand, and least absolute deviations beside scikit-learn's linear program."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.linear_model import QuantileRegressor

from spinney.core.training.pooling.absolute_errors import clipped, least_absolute, shrunk_medians, weighted_medians
from spinney.core.training.pooling.group_variances import estimate_variances


def test_values_are_clipped_at_three_median_absolute_deviations_of_their_own_group() -> None:
    """Medians 3 and 50, median distances 1 and 2: bounds 0 to 6, and 44 to 56."""
    values = np.array([1.0, 2, 3, 4, 900, 48, 50, 80])
    assert clipped(values, None, np.array([0, 5, 8])).tolist() == [1.0, 2, 3, 4, 6, 48, 50, 56]


def test_values_of_which_most_are_equal_are_clipped_at_three_mean_deviations() -> None:
    """Of nine values eight are 50: the mean distance from 50 is 90 ÷ 9, and the bound 30."""
    values = np.array([50.0] * 8 + [140.0])
    assert clipped(values, None, np.array([0, 9])).tolist() == [50.0] * 8 + [80.0]


def test_weights_move_the_median_and_the_bounds() -> None:
    """Of a weight of 7, 2 are below 2 and 3 above, so the median is 2. Distances are 1, 0 and 10 with weights 2, 2 and
    3: more than half of the weight is within 1. Bounds -1 and 5.
    """
    assert clipped(np.array([1.0, 2, 12]), np.array([2.0, 2, 3]), np.array([0, 3])).tolist() == [1.0, 2, 5]


def test_weights_count_in_the_mean_deviation_too() -> None:
    """4 has more than half of the weight: the median is 4. The mean distance is (1 · 30 + 1 · 2 + 6 · 0) ÷ 8 = 4."""
    assert clipped(np.array([-26.0, 2, 4]), np.array([1.0, 1, 6]), np.array([0, 3])).tolist() == [-8.0, 2, 4]


@examples(60)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 10_000))
def test_a_weighted_median_is_that_of_as_many_copies_of_each_value(sizes: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(0, 4, sum(sizes)).astype(float)  # with ties
    weights = random.integers(1, 4, sum(sizes)).astype(float)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    copies = [np.repeat(values[a:b], weights[a:b].astype(int)) for a, b in pairwise(starts)]
    assert weighted_medians(values, weights, starts).tolist() == [float(np.median(each)) for each in copies]
    plain = [float(np.median(values[a:b])) for a, b in pairwise(starts)]
    assert weighted_medians(values, None, starts).tolist() == plain


@examples(60)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 10_000), st.booleans())
def test_a_shrunk_median_has_the_least_penalised_loss(sizes: list[int], seed: int, weighted: bool) -> None:
    """Beside a search by golden section, as the penalised loss is convex."""
    random = np.random.default_rng(seed)
    values, weights = random.normal(size=sum(sizes)) * 5, random.uniform(0.2, 2.0, sum(sizes))
    starts, shifts = np.concatenate([[0], np.cumsum(sizes)]), random.uniform(0.01, 3.0, len(sizes))
    found = shrunk_medians(values, weights if weighted else None, starts, shifts)
    for (begin, stop), shift, c in zip(pairwise(starts), shifts, found, strict=True):
        own, weight = values[begin:stop], weights[begin:stop] if weighted else np.ones(stop - begin)

        def loss(at: float, own=own, weight=weight, shift=shift) -> float:  # type: ignore[no-untyped-def]
            return float((weight * np.abs(own - at)).sum() + at**2 / (2 * shift))

        least = minimize_scalar(loss, bounds=(-30, 30), method="bounded", options={"xatol": 1e-10})
        assert loss(c) <= least.fun + 1e-9


def test_a_shrunk_median_moves_by_its_shift_for_each_row_until_it_is_the_median() -> None:
    """One row of 900 moves it by 2, two by 4. Of 7, 8 and 9 the last two move it by 4 · 2 beyond what the first takes
    back, which is more than the median.
    """
    values, starts, shifts = np.array([900.0, 900, 900, 7, 8, 9]), np.array([0, 1, 3, 6]), np.array([2.0, 2.0, 10.0])
    assert shrunk_medians(values, None, starts, shifts).tolist() == [2.0, 4.0, 8.0]
    assert shrunk_medians(values, None, starts, np.zeros(3)).tolist() == [0.0, 0.0, 0.0]


@examples(25)
@given(st.integers(0, 1_000), st.booleans())
def test_least_absolute_deviations_are_those_of_a_linear_program(seed: int, weighted: bool) -> None:
    random = np.random.default_rng(seed)
    x = random.normal(size=(2, 120)) * [[1.0], [300.0]] + [[5.0], [1000.0]]
    y = 4 * x[0] - 0.01 * x[1] + random.exponential(size=120) * np.abs(x[0])
    weights = random.integers(1, 4, 120).astype(float) if weighted else None
    found = least_absolute(x, y, weights, 0.0, y - y.mean())
    assert found is not None
    intercept, coefficients = found
    repeats = np.ones(120, int) if weights is None else weights.astype(int)
    rows, labels = np.repeat(x.T, repeats, axis=0), np.repeat(y, repeats)
    oracle = QuantileRegressor(quantile=0.5, alpha=0.0).fit(rows, labels)
    own = np.abs(labels - intercept - rows @ coefficients).mean()
    assert own == pytest.approx(np.abs(labels - oracle.predict(rows)).mean(), rel=2e-3)


def test_a_penalty_takes_the_slope_back_and_a_column_that_is_constant_has_none() -> None:
    x = np.stack([np.arange(50.0), np.full(50, 7.0)])
    y = 2 * x[0] + np.where(np.arange(50) % 2, 1.0, -1.0)
    free, held = (least_absolute(x, y, None, alpha, y - y.mean()) for alpha in (1.0, 1e9))
    assert free is not None
    assert held is not None
    assert free[1][0] == pytest.approx(2.0, abs=0.1)
    assert held[1] == pytest.approx([0.0, 0.0], abs=1e-5)
    assert free[1][1] == held[1][1] == 0.0


def test_numbers_that_overflow_have_no_such_fit() -> None:
    with np.errstate(all="ignore"):
        assert least_absolute(np.array([[1.0, 2, 3]]), np.full(3, 1.7e308), None, 1.0, np.ones(3)) is None


def test_outliers_that_are_clipped_are_no_difference_between_groups() -> None:
    """One row in a hundred is a thousand off. The groups have the same slope."""
    random = np.random.default_rng(3)
    groups = np.repeat(np.arange(400), 20)
    x, noise = random.normal(size=(1, 8_000)), random.normal(size=8_000)
    deviations = random.normal(size=400) * 0.5
    residuals = deviations[groups] + noise + np.where(random.uniform(size=8_000) < 0.01, 1_000.0, 0.0)
    (found,) = estimate_variances(x, residuals, groups[:, None], has_outliers=True)
    (missed,) = estimate_variances(x, residuals, groups[:, None])
    assert found[0] == pytest.approx(0.25, rel=0.3)
    assert missed[0] < 0.05, "outliers are taken for noise that hides the differences"
    assert found[1] < 0.02
