"""Effects of days: covariances beside a loop over all pairs, simulated groups, and weights by hand."""

from __future__ import annotations

from dataclasses import astuple
from itertools import combinations

import numpy as np
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.features.encoding import Floats, Integers
from spinney.core.training.pooling.day_effects import covariances, weigh_days
from spinney.core.training.pooling.normal_equations import Chunk

Rows = list[tuple[int, int, float]]
"""Group, day and residual of each row."""


def arrays(rows: Rows) -> tuple[Floats, Integers, Integers]:
    groups, days, residuals = (np.array(column) for column in zip(*sorted(rows), strict=True))
    return residuals, np.append(np.unique(groups, return_index=True)[1], len(rows)), days


def pair_by_pair(rows: Rows) -> tuple[float, float, float] | None:
    mean = sum(r for _, _, r in rows) / len(rows)
    sizes = {group: sum(g == group for g, _, _ in rows) for group, _, _ in rows}
    products: dict[str, list[tuple[float, float]]] = {"same day": [], "other day": [], "unrelated": []}
    for (g, day, r), (h, other, q) in combinations(rows, 2):
        weighed = (1 / sizes[g], (r - mean) * (q - mean))
        if g == h:
            products["same day" if day == other else "other day"].append(weighed)
        elif day != other:
            products["unrelated"].append((1.0, weighed[1]))
    if not products["other day"]:
        return None
    found = {name: _average(of) for name, of in products.items() if of}
    same = found.get("same day", found["other day"])
    on_other_days, on_one = (sum(weight for weight, _ in products[name]) for name in ("other day", "same day"))
    lasting = found["other day"] - found.get("unrelated", 0.0)
    return lasting, same - found["other day"], on_other_days / (on_other_days + on_one)


def _average(of: list[tuple[float, float]]) -> float:
    return sum(weight * product for weight, product in of) / sum(weight for weight, _ in of)


@examples(80)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(-9, 9)), min_size=2, max_size=14))
def test_the_covariances_are_averages_over_pairs_of_rows(rows: list[tuple[int, int, int]]) -> None:
    as_floats = [(group, day, float(residual)) for group, day, residual in rows]
    found, expected = covariances(*arrays(as_floats)), pair_by_pair(as_floats)
    assert (found and astuple(found)) == (expected and pytest.approx(expected, abs=1e-9))


@pytest.mark.parametrize(("lasting", "of_day"), [(0.25, 0.0), (0.0, 0.5), (0.3, 0.6), (0.0, 0.0)])
def test_variances_of_simulated_groups_are_found_whatever_the_noise_of_each(lasting: float, of_day: float) -> None:
    random = np.random.default_rng(3)
    groups, days = np.repeat(np.arange(3_000), 12), np.tile(np.repeat(np.arange(4), 3), 3_000)
    shared = random.normal(size=3_000) * lasting**0.5
    at_day = random.normal(size=(3_000, 4)) * of_day**0.5
    noise = random.normal(size=len(groups)) * np.where(groups % 2, 0.3, 1.0)
    rows = list(
        zip(groups.tolist(), days.tolist(), (shared[groups] + at_day[groups, days] + noise).tolist(), strict=True)
    )
    found = covariances(*arrays(rows))
    assert found is not None
    assert (found.lasting, found.of_day) == pytest.approx((lasting, of_day), abs=0.04)


def test_what_a_day_does_to_all_groups_is_an_effect_of_the_day_and_no_difference_of_groups() -> None:
    random = np.random.default_rng(4)
    of_day = random.normal(size=200) * 2
    rows = [(group, day, of_day[day] + random.normal()) for group in range(30) for day in range(200) for _ in range(2)]
    found = covariances(*arrays(rows))
    assert found is not None
    assert found.lasting == pytest.approx(0.0, abs=0.05)
    assert found.of_day == pytest.approx(float(of_day.var()), rel=0.05)


def chunk(sizes: list[int], days: list[int], weights: list[float] | None) -> Chunk:
    starts, labels = np.concatenate([[0], np.cumsum(sizes)]), np.zeros(len(days))
    own = None if weights is None else np.array(weights)
    return Chunk([], {}, np.zeros((0, len(days))), labels, own, starts, np.array(days))


def test_n_rows_of_a_day_count_as_n_by_one_and_n_times_the_ratio() -> None:
    """Three rows of day 7 count as 3 ÷ (1 + 3 · 0.5) = 1.2, one of day 8 as 1 ÷ 1.5; the next group has the ratio 2."""
    found = weigh_days(chunk([4, 3], [7, 7, 7, 8, 8, 8, 9], None), np.array([0.5, 2.0])).weights
    assert found == pytest.approx([0.4, 0.4, 0.4, 1 / 1.5, 0.2, 0.2, 1 / 3])
    weighted = weigh_days(chunk([2], [7, 7], [3.0, 1.0]), np.array([0.25])).weights
    assert weighted == pytest.approx([1.5, 0.5])


def test_rows_without_days_keep_their_weights() -> None:
    part = Chunk([], {}, np.zeros((0, 2)), np.zeros(2), None, np.array([0, 2]))
    assert weigh_days(part, np.array([3.0])).weights is None
