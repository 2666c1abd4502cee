from __future__ import annotations

import json
import math

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from schemas.vocabulary import RoundQueue
from spinney.core.planning.budget import (
    Candidate,
    QueueLengths,
    RoundAllowance,
    choose_by_queue,
    choose_groups,
    lottery_number,
    queue_member,
    take_requested,
)


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


def test_what_groups_cost_beside_their_fits_and_how_many_fits_run_at_once_count() -> None:
    """50 ms a group, and fits of 100 ms on two cores: 150 ms for one group, 200 for two, 300 for three."""
    candidates = [stale(f"g{i}") for i in range(9)]
    allowance = RoundAllowance(0.3, overhead_ms=50.0, cores=2)
    assert choose_groups(candidates, allowance, "r") == ["g0", "g1", "g2"]


def test_a_long_fit_lasts_as_long_as_it_takes_however_many_cores_there_are() -> None:
    candidates = [stale("a", ms=300.0), stale("b", ms=100.0)]
    assert choose_groups(candidates, RoundAllowance(0.3, cores=2), "r") == ["a"]
    assert choose_groups(candidates, RoundAllowance(0.4, cores=2), "r") == ["a", "b"]


def test_shares_of_a_number_of_groups_are_rounded_up_and_no_group_more_is_taken() -> None:
    candidates = [stale(f"g{i:02}", gain=float(-i), since=100 - i) for i in range(20)]
    taken = choose_by_queue(candidates, RoundAllowance(None, oldest_first_share=0.2, random_share=0.1, groups=9), "r")
    queues = list(taken.values())
    # One of 9 is drawn; three by both shares, so two by age; the rest by rank.
    assert [queues.count(each) for each in (RoundQueue.RANDOM, RoundQueue.OLDEST, RoundQueue.RANK)] == [1, 2, 6]


def test_the_most_groups_that_a_budget_could_pay_for_follow_from_what_each_costs_beside_its_fit() -> None:
    def most(seconds: float | None, groups: int | None = None, overhead_ms: float = 100.0) -> int | None:
        return RoundAllowance(seconds, groups=groups, overhead_ms=overhead_ms).max_groups_affordable()

    assert most(1.0) == 11  # ten groups, and the one that exceeds the budget
    assert (most(1.0, groups=5), most(1.0, groups=50), most(0.0), most(1.0, groups=0)) == (5, 11, 1, 1)
    assert (most(None), most(None, groups=7)) == (None, 7)
    assert (most(1.0, overhead_ms=0.0), most(1.0, groups=7, overhead_ms=0.0)) == (None, 7)
    assert most(1.0, overhead_ms=0.5) == 2001
    assert RoundAllowance(1.0).max_groups_affordable() is None


def test_the_front_of_each_queue_is_long_enough_for_its_share() -> None:
    def lengths(oldest: float, random: float, groups: int | None = 11) -> QueueLengths | None:
        return QueueLengths.for_allowance(RoundAllowance(None, oldest, random, groups=groups))

    # Of 11 groups: 1.1 drawn, so 2 and the one that exceeds the share; 3.3 by both shares, so 4 and 2 more.
    assert lengths(0.2, 0.1) == QueueLengths(by_rank=11, oldest=6, random=3)
    assert QueueLengths(11, 6, 3).total == 20
    assert lengths(0.0, 0.1) == QueueLengths(11, 0, 3)
    assert lengths(0.2, 0.0) == QueueLengths(11, 5, 0)
    assert lengths(0.2, 0.1, groups=10) == QueueLengths(10, 5, 2)  # 10 * 0.3 is 3, whatever its rounding error
    assert lengths(0.2, 0.1, groups=None) is None


def test_requested_groups_are_taken_in_their_order_until_the_budget_is_spent() -> None:
    """Fits of 100 ms on one core: 0.15 s pay for the second too, since the last one may exceed it."""
    requested = [stale(key) for key in ("c", "a", "b")]
    taken, left = take_requested(requested, RoundAllowance(0.15, 0.2, 0.1, groups=5))
    assert [group.group_key for group in taken] == ["c", "a"]
    assert left == RoundAllowance(0.0, 0.2, 0.1, groups=3)
    assert left.is_spent
    taken, left = take_requested(requested, RoundAllowance(1.0, overhead_ms=50.0, cores=2))
    assert len(taken) == 3
    assert left.seconds == pytest.approx(0.7)  # 3 * 50 ms, and 300 ms of fits on two cores
    assert not left.is_spent


def test_one_requested_group_is_taken_however_little_the_round_may_cost() -> None:
    taken, left = take_requested([stale("a"), stale("b")], RoundAllowance(None, groups=0))
    assert ([group.group_key for group in taken], left.groups) == (["a"], 0)
    taken, left = take_requested([stale("a"), stale("b")], RoundAllowance(0.0))
    assert ([group.group_key for group in taken], left.seconds) == (["a"], 0.0)
    allowance = RoundAllowance(1.0, groups=3)
    assert take_requested([], allowance) == ([], allowance)


@pytest.mark.parametrize(
    ("seconds", "groups", "is_spent"), [(0.0, None, True), (None, 0, True), (0.5, 1, False), (None, None, False)]
)
def test_a_round_is_spent_when_no_second_or_no_group_is_left(
    seconds: float | None, groups: int | None, is_spent: bool
) -> None:
    assert RoundAllowance(seconds, groups=groups).is_spent == is_spent


def test_the_lot_of_a_group_is_the_signed_hash_of_the_seed_and_its_key() -> None:
    keys = [f"g{i}" for i in range(20)]
    hashes = [xxhash.xxh64(f"r{key}".encode(), seed=42).digest() for key in keys]  # 42: the seed of Spark
    expected = [int.from_bytes(each, "big", signed=True) for each in hashes]
    assert [lottery_number("r", key) for key in keys] == expected
    assert min(expected) < 0 < max(expected)


def test_the_queue_of_a_stored_verdict_is_found_by_its_member_in_the_numbers() -> None:
    assert queue_member("oldest") in json.dumps({"limit": 8, "queue": "oldest"}, separators=(",", ":"))
