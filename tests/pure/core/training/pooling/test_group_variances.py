"""Variances between groups: by hand, on simulated groups of known variances, and where groups do not differ."""

from __future__ import annotations

import numpy as np
import pytest

from spinney.core.features.encoding import Floats, Integers
from spinney.core.training.pooling import group_variances
from spinney.core.training.pooling.group_variances import estimate_variances


def estimated(matrix: Floats, residuals: Floats, *rungs: Integers, days: Integers | None = None) -> Floats:
    return estimate_variances(matrix, residuals, np.column_stack(rungs), days)


def test_the_variance_of_intercepts_is_that_of_the_textbook() -> None:
    """Groups (1, 3) and (5, 7, 9): within 2 + 8 on 3 degrees of freedom, between 2 · 3² + 3 · 2² about 5."""
    found = estimated(np.zeros((1, 5)), np.array([1.0, 3, 5, 7, 9]), np.array([0, 0, 1, 1, 1]))
    within, between = 10 / 3, 2 * 3**2 + 3 * 2**2
    variance = (between - within) / (5 - (4 + 9) / 5)
    distances = (1 + 1 + 2 + 0 + 2) / 3  # from the medians 2 and 7, on the same degrees of freedom
    assert found.tolist() == [[pytest.approx(variance / within), 0.0, 0.0, pytest.approx(variance / distances)]]


def test_the_variance_of_slopes_is_what_the_moments_exceed_the_noise_by() -> None:
    """Residuals ±1 and slopes ±a in equal shares, in groups of x = -1, -1, 1, 1: everything is known exactly."""
    x, noise = np.array([-1.0, -1, 1, 1]), np.array([1.0, -1, 1, -1])
    slopes = np.array([2.0, -2.0])
    residuals = (slopes[:, None] * x + noise).ravel()
    found = estimated(np.tile(x, 2)[None], residuals, np.repeat([0, 1], 4))
    within = (4 * 4 + 4) * 2 / 6  # slopes count as noise here
    # z = 4 · ±2, A = 4: the sum of z² is 128, of A σ² 8 within, of A² 32; the spread of x is 1.
    assert found[0, 1] == pytest.approx((128 - 8 * within) / 32 / within)


@pytest.mark.parametrize(("intercept", "slope"), [(0.25, 0.04), (4.0, 0.0), (0.0, 0.25)])
def test_variances_of_simulated_groups_are_found(intercept: float, slope: float) -> None:
    random = np.random.default_rng(5)
    sizes = random.integers(1, 40, 1_500)
    of_row = np.repeat(np.arange(1_500), sizes)
    matrix = np.stack([random.normal(size=len(of_row)) * 3 + of_row % 7, random.normal(size=len(of_row))])
    deviations = random.normal(size=(1_500, 2)) * np.sqrt([intercept, slope])
    centred = matrix[0] - (of_row % 7)
    residuals = deviations[of_row, 0] + deviations[of_row, 1] * centred + random.normal(size=len(of_row))
    (found,) = estimated(matrix, residuals, of_row)
    # The slopes add to the noise within groups, to which all variances are relative.
    noise = 1 + slope * 9
    assert found[0] * noise == pytest.approx(intercept, rel=0.12, abs=0.02)
    assert found[1] * noise == pytest.approx(slope, rel=0.12, abs=0.003)
    assert found[2] * noise == pytest.approx(0.0, abs=0.02)


def test_each_rung_has_its_own_and_the_nearest_to_the_parent_is_first() -> None:
    random = np.random.default_rng(6)
    groups = np.repeat(np.arange(2_000), 6)
    parents = groups // 10
    of_parent, of_group = random.normal(size=200) * 2.0, random.normal(size=2_000) * 0.5
    residuals = of_parent[parents] + of_group[groups] + random.normal(size=len(groups))
    found = estimated(np.zeros((1, len(groups))), residuals, groups, parents)
    assert found[:, 0] == pytest.approx([4 / 1.25, 0.25], rel=0.2)  # to the upper rung groups are noise too


def test_groups_that_cannot_be_compared_have_no_variance() -> None:
    x, y = np.arange(4.0)[None], np.array([1.0, 2, 3, 5])
    for rung in (np.zeros(4, np.int64), np.arange(4)):  # one group; groups of one row
        assert estimated(x, y, rung).tolist() == [[0.0] * 4]
    assert estimated(x, np.ones(4), np.array([0, 0, 1, 1])).tolist() == [[0.0] * 4]


@pytest.mark.parametrize("unit", [2.0**-700, 2.0**530])
def test_the_unit_of_the_residuals_changes_no_variance(unit: float) -> None:
    """Squares of residuals in the first and the last unit are zero and infinite. A shift has the unit."""
    x, y, groups = np.arange(6.0)[None], np.array([1.0, 2, 5, 5, 9, 7]), np.array([0, 0, 1, 1, 2, 2])
    found, expected = estimated(x, unit * y, groups), estimated(x, y, groups)
    assert found[:, :-1].tolist() == expected[:, :-1].tolist()
    assert (found[:, -1] / unit).tolist() == expected[:, -1].tolist()


def test_effects_of_days_are_neither_noise_nor_differences_of_groups() -> None:
    """Deviations of groups with the variance 0.5, effects of days with 0.75, noise with 1: DAY is relative to it."""
    random = np.random.default_rng(8)
    groups, days = np.repeat(np.arange(3_000), 12), np.tile(np.repeat(np.arange(4), 3), 3_000)
    of_day = random.normal(size=(3_000, 4))[groups, days] * 0.75**0.5
    residuals = random.normal(size=3_000)[groups] * 0.5**0.5 + of_day + random.normal(size=len(groups))
    matrix = np.zeros((1, len(groups)))
    (found,) = estimated(matrix, residuals, groups, days=days)
    assert found[[0, 2]] == pytest.approx([0.5, 0.75], rel=0.1)
    (without,) = estimated(matrix, residuals, groups)
    assert without[0] * (1 + 0.75 * 9 / 11) > 0.6, "the analysis of variance takes effects of days for differences"


def test_groups_without_noise_that_differ_are_shown_to_differ() -> None:
    for columns in np.zeros((1, 4)), np.zeros((0, 4)):
        found = estimated(columns, np.array([-3.0, -3, 3, 3]), np.array([0, 0, 1, 1]))
        assert found[0, 0] > 1e12, "a group's own mean counts, its parent's does not"


def test_it_does_not_matter_how_many_groups_are_summed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(7)
    groups = np.sort(random.integers(0, 60, 400))
    matrix, residuals = random.normal(size=(2, 400)), random.normal(size=400) + groups % 3
    at_once = estimated(matrix, residuals, groups, groups // 6)
    monkeypatch.setattr(group_variances, "CHUNK_ROWS", 1)
    np.testing.assert_allclose(estimated(matrix, residuals, groups, groups // 6), at_once, rtol=1e-9)
