from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.vocabulary import RoundQueue
from spinney.core.planning.budget import Candidate, RoundAllowance, choose_by_queue, choose_groups


def stale(
    key: str, policy: str = "new_rows", *, urgency: float = 1.0, since: int = 9, ms: float = 100.0, gain: float = 0.0
) -> Candidate:
    return Candidate(key, policy, urgency, since, ms, gain)


def test_without_a_budget_every_stale_group_is_taken() -> None:
    assert choose_groups([stale("b"), stale("a")], RoundAllowance(None), "r") == ["a", "b"]


def test_nothing_stale_plans_nothing() -> None:
    assert choose_groups([], RoundAllowance(1.0), "r") == []


def test_first_models_come_before_gains_and_gains_before_what_gains_nothing() -> None:
    candidates = [
        stale("aged", "max_age", urgency=9.0),
        stale("small gain", "error_rise", gain=1.0),
        stale("great gain", "max_age", gain=7.0),
        stale("new", "new_group"),
    ]
    assert choose_groups(candidates, RoundAllowance(None), "r") == ["new", "great gain", "small gain", "aged"]


def test_of_equal_gains_the_most_urgent_comes_first_and_of_equals_the_first_by_name() -> None:
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


def test_the_queue_that_took_a_group_is_reported() -> None:
    candidates = [stale(f"g{i}", gain=float(-i), since=i) for i in range(100)]
    allowance = RoundAllowance(1.0, oldest_first_share=0.2, random_share=0.1)  # ten groups: one drawn, the two oldest
    taken = choose_by_queue(candidates, allowance, "r")
    by_queue = {queue: [key for key, mine in taken.items() if mine == queue] for queue in RoundQueue}
    (drawn,) = by_queue[RoundQueue.RANDOM]
    others = [each.group_key for each in candidates if each.group_key != drawn]
    assert (by_queue[RoundQueue.OLDEST], by_queue[RoundQueue.RANK]) == (others[:2], others[2:9])


def test_when_the_budget_covers_all_a_small_share_is_still_drawn_from_all_and_without_a_limit_nobody_is() -> None:
    candidates = [stale(f"g{i}") for i in range(10)]
    taken = choose_by_queue(candidates, RoundAllowance(2.0, oldest_first_share=0.5, random_share=0.1), "r")
    queues = sorted(taken.values())
    assert queues == ["oldest"] * 8 + ["random"] * 2  # 0.2 s and 1.2 s of 2 s, by 0.1 s each; two of the oldest drawn
    assert set(choose_by_queue(candidates, RoundAllowance(None, random_share=0.1), "r").values()) == {RoundQueue.RANK}


@given(st.integers(0, 2**32), st.integers(2, 30), st.integers(1, 12), st.floats(0.05, 1.0), st.floats(0, 0.3))
def test_with_a_share_for_the_oldest_no_group_waits_longer_than_its_place_in_their_queue(
    seed: int, groups: int, allowed: int, oldest_share: float, random_share: float
) -> None:
    """Every round, any groups become stale, with any gains. A group's turn comes after at most all others'."""
    random = np.random.default_rng(seed)
    allowance = RoundAllowance(None, oldest_share, random_share, groups=allowed)
    drawn = math.ceil(allowed * random_share - 1e-9) if random_share else 0
    by_age = min(allowed, math.ceil(allowed * (oldest_share + random_share) - 1e-9)) - drawn
    waiting: dict[str, int] = {}
    longest = 0
    for now in range(80):
        for n in np.flatnonzero(random.random(groups) < 0.7).tolist():
            waiting.setdefault(f"g{n}", now)
        gains = random.pareto(0.5, groups)
        candidates = [stale(key, since=since, gain=gains[int(key[1:])]) for key, since in waiting.items()]
        for key in choose_groups(candidates, allowance, f"r{now}"):
            longest = max(longest, now - waiting.pop(key))
    longest = max([longest, *(79 - since for since in waiting.values())])
    assert by_age == 0 or longest <= math.ceil(groups / by_age)


def longest_wait(hot: int, oldest_share: float) -> int:
    """The longest wait in 200 rounds of ten groups: hot groups are always stale, a hundred quiet ones every 60 rounds.

    The hot ones gain a thousand times as much as the quiet ones.
    """
    last = {f"hot{n}": -1 for n in range(hot)} | {f"quiet{n}": -60 for n in range(100)}
    stale_since: dict[str, int] = {}
    longest = 0
    for now in range(200):
        for key, fitted in last.items():
            if key not in stale_since and now - fitted >= (1 if key.startswith("hot") else 60):
                stale_since[key] = now
        candidates = [
            stale(key, since=since, gain=1000.0 if key.startswith("hot") else 1.0) for key, since in stale_since.items()
        ]
        for key in choose_groups(candidates, RoundAllowance(1.0, oldest_share), f"r{now}"):
            longest = max(longest, now - stale_since.pop(key))
            last[key] = now
    return max([longest, *(199 - since for since in stale_since.values())])


def test_a_group_of_little_gain_is_reached_by_its_age_however_many_gain_more() -> None:
    assert longest_wait(hot=8, oldest_share=0.2) <= 50  # 100 are stale at first, and two of ten a round go by age
    assert longest_wait(hot=10, oldest_share=0.2) <= 55  # of 110
    assert longest_wait(hot=10, oldest_share=0.0) == 199, "by gain alone the quiet ones are never reached"


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
    first_nine = {f"g{i}" for i in range(9)}
    assert all(first_nine <= {*found} and len(found) == 10 for found in by_name.values())
    assert len({(*found,) for found in by_name.values()}) > 1
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
        st.sampled_from([0.0, 0.5, 1e3]),
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
    candidates = [stale("a", "max_age", since=1), stale("b", "new_group", since=9), stale("c", since=5, gain=2.0)]
    assert choose_groups(candidates, RoundAllowance(10.0, *shares), "r") == ["b", "c", "a"]
