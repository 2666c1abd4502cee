from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.planning.budget import POLICY_RANKS, Candidate, RoundAllowance, choose_groups
from spinney.core.staleness.policies import ErrorRise, MaxAge, NewGroup, NewRows


def stale(key: str, policy: str = "new_rows", *, urgency: float = 1.0, since: int = 9, ms: float = 100.0) -> Candidate:
    return Candidate(key, policy, urgency, since, ms)


def test_without_a_budget_every_stale_group_is_taken() -> None:
    assert choose_groups([stale("b"), stale("a")], RoundAllowance(None), "r") == ["a", "b"]


def test_nothing_stale_plans_nothing() -> None:
    assert choose_groups([], RoundAllowance(1.0), "r") == []


def test_first_models_come_before_errors_before_rows_before_age() -> None:
    policies = ["max_age", "new_rows", "error_rise", "new_group"]
    found = choose_groups([stale(policy, policy) for policy in policies], RoundAllowance(None), "r")
    assert found == ["new_group", "error_rise", "new_rows", "max_age"]


def test_every_policy_has_a_rank() -> None:
    policies = (NewGroup(1), ErrorRise(2.0, 30), NewRows(200), MaxAge(timedelta(days=7)))
    assert [policy.name for policy in policies] == sorted(POLICY_RANKS, key=POLICY_RANKS.__getitem__)


def test_of_one_policy_the_most_urgent_comes_first_and_of_equals_the_first_by_name() -> None:
    candidates = [stale("c"), stale("b", urgency=1.0), stale("a", urgency=2.0)]
    assert choose_groups(candidates, RoundAllowance(None), "r") == ["a", "b", "c"]


def test_a_round_takes_what_its_budget_pays_for() -> None:
    candidates = [stale(name, urgency=urgency) for name, urgency in [("a", 5.0), ("b", 4.0), ("c", 3.0), ("d", 2.0)]]
    assert choose_groups(candidates, RoundAllowance(0.2), "r") == ["a", "b"]


def test_a_round_takes_at_least_one_even_without_a_budget_to_speak_of() -> None:
    assert choose_groups([stale("a", ms=1e9), stale("b", ms=1.0)], RoundAllowance(0.0), "r") == ["a"]


def test_a_group_that_costs_more_than_a_round_is_not_passed_over_for_ever() -> None:
    candidates = [stale("giant", urgency=9.0, ms=60_000.0), *(stale(f"small{i}") for i in range(9))]
    assert choose_groups(candidates, RoundAllowance(0.5), "r") == ["giant"]


def test_a_share_goes_to_those_stale_longest() -> None:
    candidates = [stale("urgent1", urgency=9.0), stale("urgent2", urgency=8.0), stale("urgent3", urgency=7.0)]
    candidates.append(stale("old", urgency=1.0, since=1))
    assert choose_groups(candidates, RoundAllowance(0.2), "r") == ["urgent1", "urgent2"]
    assert choose_groups(candidates, RoundAllowance(0.2, oldest_first_share=0.5), "r") == ["urgent1", "old"]


def test_a_group_deferred_for_an_hour_comes_before_one_stale_for_a_second_whose_last_fit_is_older() -> None:
    """A new group has never been fitted at all: how long it has been stale is known all the same."""
    hour, second = 3_600_000_000, 1_000_000
    candidates = [stale(f"new{i}", "new_group", since=hour - second + i) for i in range(9)]
    candidates += [stale("deferred", "new_rows", since=0), stale("aged", "max_age", urgency=9.0, since=hour - second)]
    assert choose_groups(candidates, RoundAllowance(0.2, oldest_first_share=0.5), "r") == ["new0", "deferred"]
    waiting = [stale("first", "new_group", since=0), *(stale(f"n{i}", "new_group", urgency=9.0) for i in range(9))]
    assert choose_groups(waiting, RoundAllowance(0.2, oldest_first_share=0.5), "r") == ["n0", "first"]


def test_a_share_goes_by_lot_and_the_rounds_name_draws_it() -> None:
    candidates = [stale(f"g{i}", urgency=float(-i)) for i in range(100)]
    allowance = RoundAllowance(1.0, random_share=0.1)
    by_name = {name: choose_groups(candidates, allowance, name) for name in ("stream-1", "stream-2", "stream-3")}
    first_nine = [f"g{i}" for i in range(9)]
    assert all(found[:9] == first_nine and len(found) == 10 for found in by_name.values())
    assert len({found[9] for found in by_name.values()}) > 1
    assert choose_groups(list(reversed(candidates)), allowance, "stream-1") == by_name["stream-1"]


def test_every_stale_group_is_reached_by_lot_in_some_round() -> None:
    candidates = [stale(f"g{i}", urgency=float(-i)) for i in range(20)]
    reached = {
        key for n in range(300) for key in choose_groups(candidates, RoundAllowance(0.1, random_share=1.0), f"r{n}")
    }
    assert len(reached) == 20


CANDIDATES = st.lists(
    st.builds(
        Candidate,
        st.text(max_size=3),
        st.sampled_from(["new_group", "error_rise", "new_rows", "max_age"]),
        st.floats(0, 1e6),
        st.integers(0, 2**50),
        st.floats(0.001, 1e5),
    ),
    unique_by=lambda each: each.group_key,
    min_size=1,
    max_size=30,
)
SHARES = st.floats(0, 0.5)


@given(CANDIDATES, st.floats(0, 100), SHARES, SHARES, st.data())
def test_a_round_spends_no_more_than_its_budget_and_one_group(
    candidates: list[Candidate], seconds: float, oldest: float, random: float, data: st.DataObject
) -> None:
    allowance = RoundAllowance(seconds, oldest, random)
    chosen = choose_groups(candidates, allowance, "r")
    costs = [each.predicted_ms for each in candidates if each.group_key in chosen]
    assert len(chosen) == len(set(chosen)) == len(costs) >= 1
    assert sum(costs) - max(costs) <= seconds * 1000 * (1 + 1e-9)
    assert choose_groups(data.draw(st.permutations(candidates)), allowance, "r") == chosen
    left = len(candidates) - len(chosen)
    assert left == 0 or sum(costs) >= seconds * 1000 * (1 - 1e-9), "a group was deferred with budget left"


@pytest.mark.parametrize("shares", [(0.0, 0.0), (0.2, 0.05), (1.0, 1.0)])
def test_the_order_of_a_plan_is_that_of_its_ranks_whatever_the_shares(shares: tuple[float, float]) -> None:
    candidates = [stale("a", "max_age", since=1), stale("b", "new_group", since=9), stale("c", "error_rise", since=5)]
    assert choose_groups(candidates, RoundAllowance(10.0, *shares), "r") == ["b", "c", "a"]
