from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.staleness.evidence.loss_samples import BY_RANK_ALONE, KNOTS, MAX_WEIGHT, LossSamples

ONE = np.array([0])


def sample_of(*losses: float) -> LossSamples:
    samples = LossSamples.empty(1)
    for loss in losses:
        samples.add(ONE, np.array([loss]))
    return samples


def share_above(samples: LossSamples, loss: float, random: float) -> float:
    (share,) = samples.shares_above(np.array([loss]), np.array([random]))
    return float(share)


@pytest.mark.parametrize(
    ("loss", "share"),
    [
        (2.0, 0.5),  # 1 above, 1 equal: (1 + 0.5 · 2) / 4
        (9.0, 0.125),  # (0 + 0.5 · 1) / 4
        (0.5, 0.875),  # (3 + 0.5 · 1) / 4
        (2.5, 0.375),  # (1 + 0.5 · 1) / 4
    ],
)
def test_a_share_is_that_of_larger_losses_with_ties_broken_by_the_random_number(loss: float, share: float) -> None:
    assert share_above(sample_of(3.0, 1.0, 2.0), loss, 0.5) == share


@pytest.mark.parametrize(
    ("loss", "random", "tail_index", "share"),
    [
        (4.0, 0.5, 1.0, 0.75 / 4),  # a third larger than the largest, 3
        (4.0, 0.9, 1.0, 0.9 / 4),
        (12.0, 0.1, 1.0, 0.25 / 4),
        (12.0, 0.1, 0.5, 0.5 / 4),
        (3e9, 0.1, 1.0, 0.1 / 4),
        (3.1, 0.1, BY_RANK_ALONE, 0.1 / 4),
        (3.0, 0.1, 1.0, 0.2 / 4),  # equal to the largest
    ],
)
def test_a_loss_above_all_others_is_as_rare_as_its_size_says_and_never_rarer_than_its_rank(
    loss: float, random: float, tail_index: float, share: float
) -> None:
    (found,) = sample_of(3.0, 1.0, 2.0).shares_above(np.array([loss]), np.array([random]), tail_index)
    assert found == pytest.approx(share)


def test_a_loss_above_nothing_but_zeros_is_as_rare_as_its_rank() -> None:
    assert share_above(sample_of(0.0, 0.0, 0.0), 1.0, 0.5) == 0.5 / 4


def test_without_losses_the_share_is_the_random_number() -> None:
    assert share_above(LossSamples.empty(1), 7.0, 0.3) == 0.3


def test_equal_losses_stay_one_knot_of_their_exact_value() -> None:
    samples = sample_of(*[0.0] * 60, *[1.0] * 20)
    assert share_above(samples, 1.0, 0.5) == pytest.approx((0 + 0.5 * 21) / 81)
    assert share_above(samples, 0.0, 0.5) == pytest.approx((20 + 0.5 * 61) / 81)


@pytest.mark.parametrize("loss", [0.1, -np.log(0.8), 1 / 3, 1e-9])
def test_a_loss_that_a_float32_cannot_hold_stays_equal_to_itself_however_often_it_came(loss: float) -> None:
    samples = sample_of(*[loss] * 400)
    assert share_above(samples, loss, 0.25) == pytest.approx(0.25)


@pytest.mark.parametrize("rounded", [np.nextafter(np.float32(0.7), np.float32(n)) for n in (0, 1)])
def test_losses_that_differ_by_rounding_are_ties_and_are_stored_as_one_knot(rounded: np.float32) -> None:
    samples = sample_of(0.1, *[0.7] * 3, 0.9)
    assert share_above(samples, float(rounded), 0.5) == pytest.approx((1 + 0.5 * 4) / 6)
    samples.add(ONE, np.array([float(rounded)]))
    assert np.unique(samples.values[0, :6]).tolist() == pytest.approx([0.1, 0.7, 0.9])


def test_losses_that_differ_by_more_than_rounding_are_no_ties() -> None:
    samples = sample_of(*[0.7] * 3)
    assert share_above(samples, 0.70001, 0.5) == pytest.approx(1 / 4, rel=1e-4)  # just above all, by its size
    assert share_above(samples, 0.69999, 0.5) == pytest.approx(3.5 / 4)


def test_of_two_knots_that_are_ties_a_loss_takes_the_nearest() -> None:
    low = np.float32(0.5)
    high = low * np.float32(1 + 8e-7)
    samples = LossSamples.empty(3)
    samples.start(np.arange(3), np.array([[low, high]] * 3))
    between = low * np.array([1 + 1e-7, 1 + 7e-7, 1 + 3e-6])
    assert samples.nearest_ties(between).tolist() == [low, high, np.float32(between[2])]


@given(st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=3 * KNOTS))
def test_a_sample_keeps_the_number_and_the_mean_of_its_losses_in_ascending_knots(losses: list[float]) -> None:
    samples = sample_of(*losses)
    assert samples.counts.tolist() == [len(losses)]
    assert samples.means[0] == pytest.approx(np.mean(losses), rel=1e-4, abs=1e-6)
    used = samples.values[0][samples.weights[0] > 0]
    assert (np.diff(used) >= 0).all()
    assert len(used) == min(len(losses), KNOTS) or samples.weights.max() > 1


@pytest.mark.parametrize("tail", ["normal", "lognormal"])
def test_shares_of_large_losses_stay_precise_however_many_losses_came(tail: str) -> None:
    random = np.random.default_rng(3)
    losses = np.abs(random.standard_normal(3_000)) if tail == "normal" else random.lognormal(0, 1.5, 3_000)
    samples = sample_of(*losses)
    for share in (0.5, 0.2, 0.05, 0.01, 0.002):
        at = np.quantile(losses, 1 - share)
        exact = (np.sum(losses > at) + 0.5) / (len(losses) + 1)
        assert share_above(samples, at, 0.5) == pytest.approx(exact, rel=0.2)


def test_samples_that_start_from_references_are_those_that_had_their_losses_one_by_one() -> None:
    references = np.array([[3.0, 1.0, np.inf], [5.0, 4.0, 6.0]])
    samples = LossSamples.empty(3)
    samples.start(np.array([2, 0]), references)
    assert samples.values[2].tolist() == sample_of(1.0, 3.0).values[0].tolist()
    assert samples.weights[0].tolist() == sample_of(4.0, 5.0, 6.0).weights[0].tolist()
    assert samples.counts.tolist() == [3, 0, 2]
    longer = LossSamples.empty(1)
    longer.start(ONE, np.arange(32.0)[None])
    assert (longer.counts[0], longer.means[0]) == (32, 15.5)


def test_starting_again_forgets_the_losses_before() -> None:
    samples = sample_of(*range(30))
    samples.start(ONE, np.array([[7.0]]))
    assert (samples.counts[0], samples.means[0]) == (1, 7)
    samples.start(ONE, np.empty((1, 0)))
    assert samples.counts[0] == 0


def test_a_knot_stands_for_no_more_losses_than_its_bytes_can_count() -> None:
    samples = LossSamples(np.full((1, KNOTS), 1, dtype=np.float32), np.full((1, KNOTS), MAX_WEIGHT, dtype=np.float32))
    samples.add(ONE, np.array([1.0]))
    assert samples.weights.max() == MAX_WEIGHT


def test_losses_that_count_less_keep_their_shares() -> None:
    samples = sample_of(*range(20))
    before = share_above(samples, 14.5, 0.5)
    samples.limit(ONE, 10.0)
    assert samples.counts[0] == pytest.approx(10)
    assert before == pytest.approx((5 + 0.5) / 21)
    assert share_above(samples, 14.5, 0.5) == pytest.approx((2.5 + 0.5) / 11)
    samples.limit(ONE, 50.0)
    assert samples.counts[0] == pytest.approx(10), "never more than they are"


def test_a_group_whose_champion_was_replaced_hundreds_of_times_has_no_knot_without_losses() -> None:
    samples, random = LossSamples.empty(2), np.random.default_rng(5)
    for _ in range(300):
        samples.limit(np.array([1]), 1.0)
        samples.add(np.array([1]), random.gamma(2.0, size=1))
        is_used = samples.weights > 0
        assert np.isfinite(samples.values[is_used]).all()
        assert np.isposinf(samples.values[~is_used]).all()
        assert (np.diff(is_used[1].astype(int)) <= 0).all(), "used knots come first"
        assert (np.diff(samples.values[1][is_used[1]]) >= 0).all()
    assert samples.counts.tolist() == pytest.approx([0, 2], abs=0.01)


def test_a_value_that_an_earlier_version_lost_is_forgotten() -> None:
    samples = sample_of(1.0, 2.0, 3.0)
    samples.values[0, 1] = np.nan
    samples.limit(ONE, 200.0)
    assert (samples.counts[0], samples.means[0]) == (2, 2)


def test_other_groups_keep_their_samples() -> None:
    samples = LossSamples.empty(2)
    samples.add(np.array([1]), np.array([4.0]))
    assert samples.counts.tolist() == [0, 1]
    assert samples.take(np.array([1])).means.tolist() == [4.0]
    assert np.isnan(samples.means[0])


def of_knots(knots: list[tuple[float, float]]) -> LossSamples:
    """A sample of one group with these knots: (loss, number of losses)."""
    samples = LossSamples.empty(1)
    for at, (value, weight) in enumerate(knots):
        samples.values[0, at], samples.weights[0, at] = value, weight
    return samples


@pytest.mark.parametrize(
    ("loss", "expected"),
    [  # 3 losses about 1 and 5 about 3. Of a knot one loss lies on it, and half of the others on each side.
        (0.5, (8 - 0.5 * 1 + 0.5) / 9),  # of the one loss below 1 half is above 0.5
        (1.0, (5 + 0.5 * 4) / 9),
        (1.5, (5 + 0.75 * 1 - 0.25 * 2 + 0.5) / 9),  # three quarters of the loss above 1, a quarter of the two below 3
        (2.0, (5 + 0.5 * 1 - 0.5 * 2 + 0.5) / 9),
        (3.0, 0.5 * 6 / 9),
        (4.0, 0.75 / 9),  # 3 / 4 is more than the random 0.5
    ],
)
def test_the_losses_of_merged_knots_lie_evenly_on_both_sides(loss: float, expected: float) -> None:
    samples = of_knots([(1.0, 3.0), (3.0, 5.0)])
    assert samples.shares_above(np.array([loss]), np.array([0.5])).tolist() == pytest.approx([expected], rel=1e-6)


@pytest.mark.parametrize(("loss", "expected"), [(23.5, (3 - 0.5 + 0.5) / 27), (30.0, 0.8 / 27)])
def test_the_last_of_24_knots_has_losses_below_it_too(loss: float, expected: float) -> None:
    samples = of_knots([*((float(n), 1.0) for n in range(1, 24)), (24.0, 3.0)])
    assert samples.shares_above(np.array([loss]), np.array([0.5])).tolist() == pytest.approx([expected], rel=1e-6)
