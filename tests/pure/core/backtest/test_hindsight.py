from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.backtest.hindsight import choose_refits

TIMES, GROUPS = 3, 2
SCHEDULES = list(product([False, True], repeat=TIMES * GROUPS))


def cost_of(costs: np.ndarray, chosen: np.ndarray) -> float:
    """The cost of a schedule, interval by interval."""
    total = 0.0
    for group in range(costs.shape[1]):
        model = 0
        for time in range(costs.shape[2]):
            model = time + 1 if chosen[time, group] else model
            total += costs[model, group, time]
    return total


def least_cost(costs: np.ndarray, refits: int) -> float:
    """Of all schedules with exactly so many refits, by trying them."""
    all_schedules = (np.array(bits).reshape(TIMES, GROUPS) for bits in SCHEDULES if sum(bits) == refits)
    return min(cost_of(costs, schedule) for schedule in all_schedules)


@given(
    st.lists(st.integers(0, 50), min_size=(TIMES + 1) * GROUPS * TIMES, max_size=(TIMES + 1) * GROUPS * TIMES),
    st.integers(0, TIMES * GROUPS),
)
def test_no_schedule_with_as_many_refits_costs_less(values: list[int], refits: int) -> None:
    costs = np.array(values, dtype=float).reshape(TIMES + 1, GROUPS, TIMES)
    chosen = choose_refits(costs, refits)
    assert chosen.sum() <= refits
    assert cost_of(costs, chosen) == least_cost(costs, int(chosen.sum()))
    assert cost_of(costs, chosen) <= least_cost(costs, 0)


def test_a_refit_is_made_where_it_saves_most_and_not_where_there_is_no_model() -> None:
    costs = np.array([
        [[9.0, 9.0], [5.0, 5.0]],  # the first models
        [[1.0, 1.0], [np.inf, np.inf]],  # fitted at time 0: none of the second group
        [[np.inf, 0.5], [np.inf, 4.0]],  # fitted at time 1
    ])  # fmt: skip
    assert choose_refits(costs, 1).tolist() == [[True, False], [False, False]]
    assert choose_refits(costs, 9).tolist() == [[True, False], [True, True]]
    assert choose_refits(costs, 0).sum() == 0
