from __future__ import annotations

import math
from itertools import cycle
from statistics import mean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.intervals.conformal import Calibration, calibrate, order_statistic

Groups = list[list[float]]

# The numbers of the method, written down a second time: a change of one has to be meant.
MIN_SCALE, BLENDED_QUOTIENTS = 1e-3, 100.0
PRIOR_ROWS, PRIOR_GROUPS, LEAST_ROWS, MOST_ROWS = 16.0, 20.0, 4.0, 64.0


def padded(groups: Groups, width: int = 32) -> np.ndarray:
    out = np.full((len(groups), width), np.nan)
    for row, values in zip(out, groups, strict=True):
        row[: len(values)] = values
    return out


def half_widths(groups: Groups, coverage: float = 0.9) -> list[float]:
    residuals = padded(groups)
    return calibrate(residuals, coverage).half_widths(residuals).tolist()


def test_three_groups_of_one_residual_by_hand() -> None:
    # The typical residual is (1·2·4)^(1/3) = 2, and no scale has a residual beside the one it divides: the quotients
    # are 1/2, 1 and 2. Of four of them the third lies at 75 %. Each group's own residual counts 1 against 16.
    expected = [2 * 2 * 0.5 ** (1 / 17), 2 * 2, 2 * 2 * 2 ** (1 / 17), 2 * 2]
    assert half_widths([[1.0], [2.0], [4.0]], 0.75) + half_widths([[1.0], [2.0], [4.0], []], 0.75)[3:] == pytest.approx(
        expected
    )


def test_residuals_far_below_one_have_half_widths_too() -> None:
    assert half_widths([[0.001], [0.002], [0.004]], 0.75) == pytest.approx(
        [0.004 * 0.5 ** (1 / 17), 0.004, 0.004 * 2 ** (1 / 17)]
    )


def test_groups_of_64_and_of_128_residuals_are_in_the_last_of_eight_categories() -> None:
    groups = padded([[1.0] * 64, [3.0] * 128], 128)
    calibration = calibrate(groups, 0.9)
    assert len(calibration.quantiles) == 8
    assert np.isfinite(calibration.half_widths(groups)).all()


def test_a_residual_and_its_neighbours_are_no_part_of_the_scale_that_divides_it() -> None:
    calibration = Calibration(0.9, math.log(3.0), 0.001, 4.0, (1.0,) * 8)
    first, second, third, fourth = 1.0, 2.0, 4.0, 8.0
    scales = [
        (6.0**2 * 3.0**4) ** (1 / 6),  # the mean of 4 and 8 counts 2, the typical scale 4
        (8.0 * 3.0**4) ** (1 / 5),
        (1.0 * 3.0**4) ** (1 / 5),
        (1.5**2 * 3.0**4) ** (1 / 6),
    ]
    found = calibration.normalised(padded([[first, second, third, fourth]]))[0, :4]
    np.testing.assert_allclose(found, np.array([first, second, third, fourth]) / scales)


def oracle(groups: Groups, coverage: float) -> list[float]:
    """The half-widths one residual at a time, without arrays."""
    everything = [value for group in groups for value in group]
    if not sum(everything) > 0:
        return [own_quantile(group, coverage) for group in groups]
    least = MIN_SCALE * mean(everything)

    def log_mean(values: list[float]) -> float:
        return math.log(max(mean(values), least, np.finfo(float).tiny))

    prior = oracle_prior(groups, log_mean)
    weights = [len(group) / (len(group) + prior) for group in groups if group]
    own = [log_mean(group) for group in groups if group]
    typical = sum(w * value for w, value in zip(weights, own, strict=True)) / sum(weights)

    def scale(values: list[float]) -> float:
        n = len(values)
        return math.exp(((n * log_mean(values) if n else 0.0) + prior * typical) / (n + prior))

    quotients: dict[int, list[float]] = {}
    for group in groups:
        for at, value in enumerate(group):
            beside = len(group) >= 4
            others = group[: max(at - beside, 0)] + group[at + 1 + beside :]
            quotients.setdefault(len(group).bit_length(), []).append(value / scale(others))
    pooled = sorted(value for some in quotients.values() for value in some)
    rank = math.ceil((len(pooled) + 1) * coverage - 1e-9)
    by_pool = sorted(value / math.exp(typical) for value in everything)

    def half_width(group: list[float]) -> float:
        if rank > len(pooled):
            return own_quantile(group, coverage)
        if not group:
            return scale(group) * by_pool[rank - 1]
        some = sorted(quotients[len(group).bit_length()])
        share = len(some) / (len(some) + BLENDED_QUOTIENTS)
        own = some[min(math.ceil((len(some) + 1) * coverage - 1e-9), len(some)) - 1]
        return scale(group) * (share * own + (1 - share) * pooled[rank - 1])

    return [half_width(group) for group in groups]


def own_quantile(group: list[float], coverage: float) -> float:
    rank = math.ceil((len(group) + 1) * coverage - 1e-9)
    return sorted(group)[rank - 1] if rank <= len(group) else math.nan


def oracle_prior(groups: Groups, log_mean) -> float:
    large = [group for group in groups if len(group) >= 8]
    if len(large) < 3:
        return PRIOR_ROWS
    half = [len(group) // 2 for group in large]
    older = [log_mean(group[:n]) for group, n in zip(large, half, strict=True)]
    newer = [log_mean(group[n:]) for group, n in zip(large, half, strict=True)]
    older, newer = ([value - np.average(side, weights=half) for value in side] for side in (older, newer))
    noise = np.average([(a - b) ** 2 * n / 2 for a, b, n in zip(older, newer, half, strict=True)], weights=half)
    signal = max(0.0, np.average([a * b for a, b in zip(older, newer, strict=True)], weights=half))
    signal = (len(large) * signal + PRIOR_GROUPS * noise / PRIOR_ROWS) / (len(large) + PRIOR_GROUPS)
    return float(np.clip(noise / signal, LEAST_ROWS, MOST_ROWS)) if signal > 0 else PRIOR_ROWS


RESIDUALS = st.one_of(st.just(0.0), st.floats(2**-10, 2**10, width=32))
GROUPS = st.lists(st.lists(RESIDUALS, max_size=32), min_size=1, max_size=8)
COVERAGES = st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99])


@given(GROUPS, COVERAGES)
def test_half_widths_are_those_of_an_oracle_without_arrays(groups: Groups, coverage: float) -> None:
    np.testing.assert_allclose(half_widths(groups, coverage), oracle(groups, coverage), rtol=1e-6)


@given(GROUPS)
def test_a_greater_coverage_never_gives_a_narrower_interval(groups: Groups) -> None:
    by_coverage = np.array([half_widths(groups, coverage) for coverage in (0.5, 0.7, 0.8, 0.9, 0.95)])
    bounded = np.nan_to_num(by_coverage, nan=np.inf)
    # An unbounded pool leaves each group its own quantile, which need not be the wider one.
    pool_is_bounded = [math.isfinite(calibrate(padded(groups), c).quantiles[0]) for c in (0.5, 0.7, 0.8, 0.9, 0.95)]
    bounded = bounded[pool_is_bounded]
    assert (bounded[1:] >= bounded[:-1]).all()


@given(GROUPS, st.floats(1e-2, 1e2), COVERAGES)
def test_in_another_unit_half_widths_are_in_that_unit(groups: Groups, factor: float, coverage: float) -> None:
    scaled = [[factor * value for value in group] for group in groups]
    np.testing.assert_allclose(
        half_widths(scaled, coverage), factor * np.array(half_widths(groups, coverage)), rtol=1e-6
    )


@given(GROUPS, COVERAGES, st.randoms(use_true_random=False))
def test_the_order_of_groups_does_not_matter(groups: Groups, coverage: float, random) -> None:
    order = list(range(len(groups)))
    random.shuffle(order)
    shuffled = half_widths([groups[at] for at in order], coverage)
    np.testing.assert_allclose(shuffled, np.array(half_widths(groups, coverage))[order], rtol=1e-9)


@given(GROUPS, COVERAGES)
def test_a_group_has_the_same_bits_alone_as_among_others(groups: Groups, coverage: float) -> None:
    calibration = calibrate(padded(groups), coverage)
    alone = [calibration.half_widths(padded([group], 8 * -(-max(len(group), 1) // 8)))[0] for group in groups]
    np.testing.assert_array_equal(alone, calibration.half_widths(padded(groups)))


def test_a_pool_that_is_too_small_leaves_each_group_its_own_quantile() -> None:
    few = [[1.0, 2.0, 3.0]]
    assert np.isnan(half_widths(few, 0.9)).all()
    nine = [[float(value) for value in range(1, 10)]]
    assert calibrate(padded(few), 0.9).half_widths(padded(nine)).tolist() == [9.0]  # the 9th of 10 at 90 %
    assert calibrate(padded(few), 0.9).half_widths(padded(nine, 9)).tolist() == [9.0]
    assert calibrate(padded([[0.0, 0.0]]), 0.5).half_widths(padded([[3.0]])).tolist() == [3.0]  # the 1st of 2 at 50 %


def test_residuals_that_are_all_zero_bound_nothing() -> None:
    assert np.isnan(half_widths([[0.0] * 5, []])).all()


def test_a_group_whose_few_residuals_are_zero_has_a_thousandth_of_the_pools_mean_as_its_scale() -> None:
    assert calibrate(padded([[0.0, 0.0], [1.0, 1.0]]), 0.5).least_scale == 0.0005
    calibration = Calibration(0.9, math.log(1.0), 0.01, 4.0, (3.0,) * 8)
    # Its two residuals count 2, the typical scale of 1 counts 4.
    assert calibration.half_widths(padded([[0.0, 0.0]])).tolist() == pytest.approx([3 * 0.01 ** (2 / 6)])


def test_a_category_of_200_quotients_counts_twice_as_much_as_the_pool() -> None:
    # Typical is 1, since 4 and 1/4 cancel. Of 300 quotients the 271st is 4, of the 200 of groups of two all are 1.
    groups = [[4.0]] * 50 + [[0.25]] * 50 + [[1.0, 1.0]] * 100 + [[]]
    found = half_widths(groups)
    assert found[-2:] == pytest.approx([(2 * 1 + 1 * 4) / 3, 4.0])
    assert found[0] == pytest.approx(4 * 4 ** (1 / 17))


@pytest.mark.parametrize(
    ("halves", "expected"),
    [
        ([(1, 1), (2, 2), (4, 4)], 4.0),  # what a group's older half shows comes again in its newer one: the bound
        # Logarithms 0, 0, 2, 2 and 0, 0, 1, 1: the noise is 0.5² · 4 / 2 = 0.5, the signal 1 · 0.5 = 0.5. With the 20
        # groups of the prior the signal is (4 · 0.5 + 20 · 0.5 / 16) / 24 = 0.5 · 7 / 32.
        ([(1, 1), (1, 1), (math.e**2, math.e), (math.e**2, math.e)], 32 / 7),
        # Logarithms 0, 0, 1, 1 and 1, 1, 0, 0: no signal, and the prior of 16 counts as 20 groups of 24.
        ([(1, math.e)] * 2 + [(math.e, 1)] * 2, 16 * 24 / 20),
        ([(1, math.e)] * 40 + [(math.e, 1)] * 40, 64.0),  # 16 · 100 / 20 = 80 is beyond the bound
        ([(1, 1), (2, 2)], 16.0),  # two groups say nothing
        ([(1, 1)] * 3, 16.0),  # nor do equal ones
    ],
)
def test_scales_are_shrunk_as_far_as_the_halves_of_the_groups_differ(
    halves: list[tuple[float, float]], expected: float
) -> None:
    short = [[9.0] * 3 + [1.0] * 4]  # seven residuals have no halves of four
    for n_newer in ((4, 4), (5, 5), (4, 5)):  # the middle one of nine residuals is in the newer half
        groups = [
            [float(older)] * 4 + [float(newer)] * n for (older, newer), n in zip(halves, cycle(n_newer), strict=False)
        ]
        assert calibrate(padded(groups + short), 0.5).prior_rows == pytest.approx(expected)


def drawn(kind: str, n_groups: int, n: int, random: np.random.Generator) -> np.ndarray:
    """Errors of shape (n_groups, n) with one standard scale."""
    return random.standard_t(3, (n_groups, n)) if kind == "t3" else random.normal(size=(n_groups, n))


@pytest.mark.parametrize("kind", ["normal", "t3"])
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_coverage_is_nominal_in_every_size_of_group(kind: str, spread: float) -> None:
    """Held-out losses are a fifth of 10 to 1,000 rows, 32 at most. spread: of the logarithms of the groups' scales."""
    random = np.random.default_rng(13)
    n_groups, future = 2_000, 40
    rows = np.exp(random.uniform(math.log(10), math.log(1_000), n_groups)).astype(int)
    held = np.minimum(rows // 5, 32)
    scales = np.exp(random.normal(scale=spread, size=n_groups))[:, None]
    residuals = np.abs(scales * drawn(kind, n_groups, 32, random))
    residuals[np.arange(32) >= held[:, None]] = np.nan
    widths = calibrate(residuals, 0.9).half_widths(residuals)
    is_covered = np.abs(scales * drawn(kind, n_groups, future, random)) <= widths[:, None]
    assert is_covered.mean() == pytest.approx(0.9, abs=0.015)
    decile = np.argsort(np.argsort(rows, kind="stable"), kind="stable") * 10 // n_groups
    coverage = [is_covered[decile == number].mean() for number in range(10)]
    np.testing.assert_allclose(coverage, 0.9, atol=0.03)


def test_intervals_are_sharper_than_one_width_for_all_where_scales_differ() -> None:
    random = np.random.default_rng(5)
    scales = np.exp(random.normal(size=500))[:, None]
    residuals = np.abs(scales * random.normal(size=(500, 32)))
    future = np.abs(scales * random.normal(size=(500, 40)))

    def winkler(widths: np.ndarray) -> float:
        return float((2 * widths[:, None] + 20 * np.maximum(future - widths[:, None], 0)).mean())

    one_width = np.full(500, np.quantile(residuals, 0.9))
    assert winkler(calibrate(residuals, 0.9).half_widths(residuals)) < 0.8 * winkler(one_width)


@given(st.lists(st.floats(0, 9), min_size=1, max_size=60), st.data())
def test_an_order_statistic_is_that_of_the_sorted_values(values: list[float], data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, len(values)))
    assert order_statistic(np.array(values), rank) == sorted(values)[rank - 1]


def test_an_order_statistic_of_many_values_is_that_of_their_rank() -> None:
    values = np.random.default_rng(3).permutation(np.arange(1.0, 1001.0))
    assert [order_statistic(values, rank) for rank in (1, 2, 499, 500, 999, 1000)] == [1, 2, 499, 500, 999, 1000]
