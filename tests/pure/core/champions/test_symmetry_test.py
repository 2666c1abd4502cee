"""The test by symmetry, against every assignment of signs and against NumPy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.champions.symmetry_test import SymmetricDifference, cut_differences

FEW = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=10)


def raised_by(rows: npt.NDArray[np.float64]) -> float:
    """√((1 + r) ÷ (1 - r)), with r by NumPy's correlation of a row with the next, about the mean of all."""
    centred = rows - rows.mean()
    r = float(np.correlate(centred, centred, "full")[len(rows)] / (centred @ centred))
    r = min(max(r + (1 + 3 * r) / len(rows), 0.0), 0.9)
    return math.sqrt((1 + r) / (1 - r))


def difference_of(differences: list[float]) -> SymmetricDifference:
    means, errors = cut_differences(np.array(differences), np.array([len(differences)]))
    return SymmetricDifference(float(means[0]), float(errors[0]), len(differences))


@given(FEW)
def test_its_chance_is_at_least_the_share_of_all_signs_that_give_as_great_a_sum(differences: list[float]) -> None:
    size = np.abs(differences)
    sums = np.array(list(itertools.product((-1.0, 1.0), repeat=len(size)))) @ size
    exact = float((sums >= sum(differences) - 1e-9 * size.sum()).mean())
    assert difference_of(differences).chance_if_equal >= exact * (1 - 1e-9)


@pytest.mark.parametrize("unit", [2.0**-1060, 2.0**-540, 2.0**-1, 2.0**510, 2.0**1020])
def test_the_unit_of_the_losses_changes_no_chance(unit: float) -> None:
    """Squares of the smallest and the greatest of these units are zero and infinite."""
    differences = [3.0, -1.0, 2.0, 2.0, 0.5]
    in_ones, in_units = difference_of(differences), difference_of([unit * size for size in differences])
    assert in_units.mean == pytest.approx(unit * 1.3, rel=1e-4)
    assert in_units.chance_if_equal == pytest.approx(in_ones.chance_if_equal, rel=1e-4)


def test_seven_alike_differences_have_a_chance_above_one_percent_and_eight_below() -> None:
    # c (1 - Φ(√7)) and c (1 - Φ(√8)), with c = 3.17866 and the tails 0.0040755 and 0.0023389 of a table.
    assert difference_of([0.3] * 7).chance_if_equal == pytest.approx(3.17866 * 0.0040755, rel=1e-3)
    assert difference_of([0.3] * 8).chance_if_equal == pytest.approx(3.17866 * 0.0023389, rel=1e-3)


def test_the_chance_is_that_of_the_sum_over_the_root_of_the_squares() -> None:
    # 4 ÷ √16 = 1, whose normal tail is 0.158655; successive rows are not alike, so nothing is raised.
    assert difference_of([3.0, -1.0, 2.0, -1.0, 1.0]).chance_if_equal == pytest.approx(3.17866 * 0.158655, rel=1e-4)


def test_two_rows_have_an_error_and_one_has_none() -> None:
    # r = -0.5, raised to 0 by its correction; the standard deviation is 3 ÷ √2.
    means, errors = cut_differences(np.array([1.0, 4.0, 7.0]), np.array([2, 1]))
    assert means.tolist() == [2.5, 7.0]
    assert errors[0] == pytest.approx(1.5)
    assert math.isnan(errors[1])


@pytest.mark.parametrize(("rows", "limit"), [(19, 90.0), (39, 80.0), (40, 70.0)])
def test_one_size_in_twenty_is_cut(rows: int, limit: float) -> None:
    values = np.concatenate([[90.0, 80.0, 70.0], np.zeros(rows - 3)])
    means, _ = cut_differences(values, np.array([rows]))
    assert means[0] * rows == pytest.approx(np.minimum(values, limit).sum())


def test_the_error_is_raised_at_most_as_for_an_autocorrelation_of_nine_tenths() -> None:
    rows = np.repeat([1.0, -1.0], 100)
    _, errors = cut_differences(rows, np.array([200]))
    assert errors[0] == pytest.approx(rows.std(ddof=1) / math.sqrt(200) * math.sqrt(19))


def test_a_champion_that_is_not_worse_has_a_chance_of_one() -> None:
    assert difference_of([-1.0, -2.0, -3.0]).chance_if_equal == 1.0
    assert difference_of([0.0, 0.0]).chance_if_equal == 1.0
    assert difference_of([1.0, -1.0]).chance_if_equal == 1.0
    assert SymmetricDifference(mean=1e-200, standard_error=1.0, rows=2).chance_if_equal == 1.0


def test_one_extreme_row_does_not_decide() -> None:
    assert difference_of([1e9, *([-0.01, 0.01] * 10)]).chance_if_equal > 0.3


def test_of_twenty_rows_the_greatest_size_is_cut_to_the_next_on_either_side() -> None:
    for sign in (1.0, -1.0):
        rows = [sign * 100.0, *(float(n) for n in range(19))]
        means, errors = cut_differences(np.array(rows), np.array([20]))
        expected = np.array([sign * 18.0, *range(19)])
        assert means[0] == pytest.approx(expected.mean())
        assert errors[0] == pytest.approx(expected.std(ddof=1) / math.sqrt(20) * raised_by(expected))


def test_the_error_of_alike_successive_rows_is_raised_and_that_of_alternating_rows_is_not() -> None:
    runs, alternating = np.repeat([1.0, -1.0, 1.0, -1.0], 4), np.tile([1.0, -1.0], 8)
    for rows in (runs, alternating):
        _, errors = cut_differences(rows, np.array([16]))
        assert errors[0] == pytest.approx(rows.std(ddof=1) / 4 * raised_by(rows))
    # Of the runs 12 of 15 neighbours are alike: r = (12 - 3) ÷ 16 = 0.5625, corrected 0.7305.
    assert raised_by(runs) == pytest.approx(math.sqrt(1.73046875 / 0.26953125))
    assert raised_by(alternating) == 1.0


def test_each_group_has_its_own_mean_and_error_whatever_the_sizes_of_the_others() -> None:
    random = np.random.default_rng(3)
    groups = [random.normal(size=size) for size in (3, 0, 1, 3, 25)]
    means, errors = cut_differences(np.concatenate(groups), np.array([len(group) for group in groups]))
    alone = [cut_differences(group, np.array([len(group)])) for group in groups]
    assert means == pytest.approx([each[0][0] for each in alone], nan_ok=True)
    assert errors == pytest.approx([each[1][0] for each in alone], nan_ok=True)
    assert np.isnan(means).tolist() == [False, True, False, False, False]
    assert np.isnan(errors).tolist() == [False, True, True, False, False]
