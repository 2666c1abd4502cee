"""What a round is predicted to take, learned from rounds whose truth is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from spinney.core.config import Budget
from spinney.core.planning.budget import Candidate, choose_groups
from spinney.core.planning.round_cost import ROUNDS_PER_SIZE, PastRound, RoundCost, RoundCostEstimator

CORES = 2
Truth = Callable[[int, float], float]


def truth(fixed: float, each: float) -> Truth:
    """Seconds of a round of so many groups, whose fits take fit_ms together."""
    return lambda groups, fit_ms: fixed + each * groups + fit_ms / CORES / 1000


def done(groups: int, seconds: float, fit_ms: float = 0.0) -> PastRound:
    return PastRound(groups, fit_ms, 0.0, seconds)


def test_before_any_round_a_sane_cost_is_assumed_and_few_groups_are_taken() -> None:
    cost = RoundCostEstimator(CORES).estimate()
    assert 1.0 < cost.fixed_s < 4.0
    assert 43_087 * cost.seconds_per_group == pytest.approx(53, rel=0.1), "59 s, of which some 5 s were not the groups'"
    assert cost.allowance(Budget()).groups == 1_000


def test_fits_run_as_many_at_once_as_there_are_cores_and_take_no_less_than_the_longest() -> None:
    cost = RoundCost(fixed_s=1.0, seconds_per_group=0.01, cores=4)
    assert cost.predict([1_000.0] * 8) == pytest.approx(1 + 0.08 + 2)
    assert cost.predict([8_000.0, 100.0]) == pytest.approx(1 + 0.02 + 8)
    assert cost.predict([]) == 0.0


@pytest.mark.parametrize(("fixed", "each"), [(0.5, 0.0002), (2.0, 0.001), (4.0, 0.02), (1.0, 0.0001)])
def test_the_cost_is_learned_from_noisy_rounds_of_many_sizes(fixed: float, each: float) -> None:
    random, true = np.random.default_rng(7), truth(fixed, each)
    sizes = [1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000] * 4
    rounds = [done(n, true(n, 5.0 * n) * random.lognormal(0, 0.2), 5.0 * n) for n in sizes]
    cost = RoundCostEstimator.from_rounds(rounds, CORES).estimate()
    for n in (2, 200, 2_000, 8_000):
        assert cost.seconds(n, 5.0 * n) == pytest.approx(true(n, 5.0 * n), rel=0.3)


@pytest.mark.parametrize("odd", [done(20_000, 3_600.0), done(20_000, 0.01), done(1, 3_600.0), done(1, 0.01)])
def test_one_odd_round_huge_or_tiny_slow_or_fast_changes_next_to_nothing(odd: PastRound) -> None:
    true = truth(1.0, 0.001)
    rounds = [done(n, true(n, 0.0)) for n in [1, 4, 300, 2_000] * 3]
    before, after = (RoundCostEstimator.from_rounds(each, CORES).estimate() for each in (rounds, [*rounds, odd]))
    for n in (1, 300, 2_000, 5_000):
        assert after.seconds(n, 0.0) == pytest.approx(before.seconds(n, 0.0), rel=0.2)
    assert after.largest_groups == before.largest_groups == 2_000


def test_a_first_round_that_is_odd_is_not_believed_and_what_comes_again_is() -> None:
    alone = RoundCostEstimator.from_rounds([done(900, 90.0)], CORES).estimate()
    assert alone.seconds(900, 0.0) == pytest.approx(RoundCostEstimator(CORES).estimate().seconds(900, 0.0), rel=0.2)
    again = RoundCostEstimator.from_rounds(
        [done(900, 90.0), done(900, 90.0), done(2, 2.0), done(2, 2.0)], CORES
    ).estimate()
    assert again.seconds(900, 0.0) == pytest.approx(90.0, rel=0.2)


def test_many_small_rounds_push_no_large_one_out() -> None:
    true = truth(1.0, 0.002)
    large = [done(4_000, true(4_000, 0.0))] * 3
    experience = RoundCostEstimator.from_rounds([*large, *[done(3, true(3, 0.0))] * 1_000], CORES)
    assert experience.estimate().seconds(4_000, 0.0) == pytest.approx(9.0, rel=0.3)
    assert len(experience) == ROUNDS_PER_SIZE + 3


@pytest.mark.parametrize(("fixed", "each", "fit_ms"), [(1.0, 0.001, 0.1), (0.3, 0.0001, 5.0), (3.0, 0.005, 20.0)])
def test_rounds_keep_within_twice_their_budget_while_the_cost_is_learned(
    fixed: float, each: float, fit_ms: float
) -> None:
    """Thirty thousand groups are due at once; what a round really takes is unlike what is assumed at first."""
    random, true, experience = np.random.default_rng(3), truth(fixed, each), RoundCostEstimator(CORES)
    left = [Candidate(f"g{i}", "max_age", 1.0, i, fit_ms * random.lognormal(0, 0.5)) for i in range(30_000)]
    took, sizes = [], []
    for n in range(14):
        if not left:
            break
        allowance = experience.estimate().allowance(Budget(seconds=10.0))
        taken = set(choose_groups(left, allowance, f"r{n}"))
        fits = [each.predicted_ms for each in left if each.group_key in taken]
        seconds = true(len(taken), sum(fits)) * random.lognormal(0, 0.15)
        experience.add(PastRound(len(taken), sum(fits), max(fits), seconds))
        left = [each for each in left if each.group_key not in taken]
        took.append(seconds)
        sizes.append(len(taken))
    assert max(took) <= 20.0
    assert max(sizes) <= Budget().max_groups
    paid_for = (10.0 - fixed) / (each + fit_ms / CORES / 1000)
    assert max(sizes) >= 0.5 * min(paid_for, Budget().max_groups), "and they use it"


def test_a_budget_below_the_fixed_cost_still_takes_more_than_one_group_a_round() -> None:
    experience = RoundCostEstimator.from_rounds([done(n, 8.0 + 0.001 * n) for n in [1, 5, 50, 400] * 4], CORES)
    allowance = experience.estimate().allowance(Budget(seconds=5.0))
    assert allowance.seconds == pytest.approx(4.0, rel=0.15), "half of the fixed 8 s"
    many = [Candidate(f"g{i}", "new_rows", 1.0, 0, 0.1) for i in range(5_000)]
    assert 500 <= len(choose_groups(many, allowance, "r")) <= 2_000


def test_a_round_on_a_busy_machine_is_not_mostly_overhead() -> None:
    # Rounds of the stream with twelve other processes on two cores.
    measured = [(414, 14.7), (483, 12.5), (261, 12.9), (894, 29.7), (836, 23.3), (974, 19.0)]
    cost = RoundCostEstimator.from_rounds([done(*each) for each in measured], CORES).estimate()
    many = [Candidate(f"g{i}", "new_rows", 1.0, 0, 0.4) for i in range(1_785)]
    taken = choose_groups(many, cost.allowance(Budget(seconds=5.0)), "r")
    predicted_s = cost.predict([0.4] * len(taken))
    assert predicted_s - cost.fixed_s == pytest.approx(predicted_s / 3, rel=0.05)
    assert len(taken) > 400


@pytest.mark.parametrize(("fixed_s", "seconds"), [(1.0, 4.0), (3.0, 2.0), (4.0, 2.0), (0.0, 5.0), (20.0, 10.0)])
def test_groups_get_what_the_fixed_part_leaves_or_half_of_it(fixed_s: float, seconds: float) -> None:
    assert RoundCost(fixed_s, 0.001, CORES).seconds_for_groups(5.0) == seconds


def test_a_round_grows_no_faster_than_fourfold_beyond_what_was_seen_twice() -> None:
    quick = [done(n, 0.1) for n in [5, 900, 900]]
    assert RoundCostEstimator.from_rounds(quick, CORES).estimate().allowance(Budget()).groups == 3_600
    assert (
        RoundCostEstimator.from_rounds([*quick, done(9_000, 0.1)], CORES).estimate().allowance(Budget()).groups == 3_600
    )
    assert (
        RoundCostEstimator.from_rounds([*quick, *[done(9_000, 0.1)] * 2], CORES).estimate().allowance(Budget()).groups
        == 20_000
    )


def test_a_later_size_that_is_smaller_does_not_lower_the_largest_one_seen_twice() -> None:
    rounds = [PastRound(groups, 0.0, 0.0, 3.0) for groups in (4_000, 4_000, 100, 100)]
    assert RoundCostEstimator.from_rounds(rounds, CORES).estimate().largest_groups == 4_000
    assert RoundCostEstimator.from_rounds(rounds[1:], CORES).estimate().largest_groups == 100
    assert RoundCostEstimator.from_rounds(rounds[:1], CORES).estimate().largest_groups == 0


def test_a_round_without_groups_or_duration_and_more_than_eight_of_a_size_are_not_remembered() -> None:
    assert len(RoundCostEstimator.from_rounds([PastRound(0, 0.0, 0.0, 3.0), PastRound(5, 0.0, 0.0, 0.0)], CORES)) == 0
    assert len(RoundCostEstimator.from_rounds([PastRound(1, 0.0, 0.0, 1.0)] * 20, CORES)) == 8


def test_the_fits_of_remembered_rounds_are_milliseconds_of_all_cores() -> None:
    """Twenty seconds of fits take ten on two cores; two seconds remain for the round itself."""
    rounds = [PastRound(groups, 20_000.0, 0.0, 12.0) for groups in (2, 10, 50)] * 3
    cost = RoundCostEstimator.from_rounds(rounds, CORES).estimate()
    assert cost.fixed_s == pytest.approx(2.0, rel=0.15)  # the values that are tried lie that far apart
