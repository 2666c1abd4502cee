from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.champions.paired_test import PairedDifference, winsorized_differences


@pytest.mark.parametrize(
    ("rows", "quantile", "probability"),
    [  # tables of Student's distribution, with one degree less than rows that are not winsorised
        (2, 1.0, 0.75),
        (2, 6.314, 0.95),
        (3, 2.920, 0.95),
        (4, 5.841, 0.995),
        (5, 2.132, 0.95),
        (10, 2.262, 0.975),
        (33, 1.310, 0.9),
        (34, 2.040, 0.975),
        (133, 2.358, 0.99),
        (5555, 1.960, 0.975),
    ],
)
def test_confidences_are_those_of_the_tables_of_students_distribution(
    rows: int, quantile: float, probability: float
) -> None:
    difference = PairedDifference(0.0, 1.0, rows)
    assert difference.confidence_at_most(quantile) == pytest.approx(probability, abs=1e-4)
    assert difference.confidence_at_most(-quantile) == pytest.approx(1 - probability, abs=1e-4)


def test_a_confidence_counts_from_the_mean_difference() -> None:
    difference = PairedDifference(0.5, 0.25, 10)  # 2.262 standard errors of 0.25 above and below 0.5
    assert difference.confidence_at_most(0.5) == pytest.approx(0.5)
    assert difference.confidence_at_most(1.0655) == pytest.approx(0.975, abs=1e-4)
    assert difference.confidence_at_most(-0.0655) == pytest.approx(0.025, abs=1e-4)


def test_few_rows_have_the_plain_mean_and_the_standard_error_of_a_mean() -> None:
    means, errors = winsorized_differences(np.array([1.0, 2.0, 6.0, 4.0, 1.0, 4.0]), np.array([3, 0, 1, 2]))
    assert (means[0], errors[0]) == (3.0, pytest.approx(math.sqrt(7 / 3)))
    assert math.isnan(means[1])
    assert math.isnan(errors[1])
    assert means[2] == 4.0
    assert math.isnan(errors[2])
    assert (means[3], errors[3]) == (2.5, pytest.approx(1.5))


def test_of_twenty_rows_the_largest_and_the_smallest_count_as_the_next_ones() -> None:
    values = np.arange(20.0)
    values[19], values[0] = 1e9, -1e9
    means, errors = winsorized_differences(values[::-1].copy(), np.array([20]))
    inner = np.array([1.0, *range(1, 19), 18.0])
    assert means[0] == pytest.approx(9.5)
    assert errors[0] == pytest.approx(inner.std(ddof=1) / math.sqrt(20) * 19 / 17)


@given(st.lists(st.lists(st.floats(-1e6, 1e6), max_size=45), min_size=1, max_size=5))
def test_groups_together_give_the_bits_of_each_alone(groups: list[list[float]]) -> None:
    counts = np.array([len(values) for values in groups])
    together = winsorized_differences(np.concatenate([np.array(values) for values in groups]), counts)
    for index, values in enumerate(groups):
        alone = winsorized_differences(np.array(values), np.array([len(values)]))
        assert [column[index].tobytes() for column in together] == [column[0].tobytes() for column in alone]


@pytest.mark.parametrize("rows", [10, 40])
def test_the_confidence_of_heavy_tailed_differences_without_a_difference_is_calibrated(rows: int) -> None:
    """The confidence that the mean is at most zero exceeds c in about 1 − c of the groups: a p-value is uniform."""
    groups = 4000
    differences = np.random.default_rng(7).standard_t(3, size=groups * rows)
    means, errors = winsorized_differences(differences, np.full(groups, rows))
    confidences = [PairedDifference(m, e, rows).confidence_at_most(0) for m, e in zip(means, errors, strict=True)]
    for level in (0.6, 0.9, 0.99):
        share = np.mean(np.array(confidences) > level)
        assert share == pytest.approx(1 - level, abs=4 * math.sqrt(level * (1 - level) / groups) + 0.005)


def test_differences_that_are_all_the_same_are_certain() -> None:
    assert PairedDifference(1.0, 0.0, 5).confidence_at_most(0.9) == 0.0
    assert PairedDifference(1.0, 0.0, 5).confidence_at_most(1.0) == 1.0


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.integers(2, 300), st.floats(-1e3, 1e3), st.floats(0, 1e3))
def test_confidence_grows_with_the_limit(mean: float, error: float, rows: int, limit: float, step: float) -> None:
    difference = PairedDifference(mean, error, rows)
    low, high = difference.confidence_at_most(limit), difference.confidence_at_most(limit + step)
    assert 0 <= low <= high + 1e-12
    assert high <= 1 + 1e-12
