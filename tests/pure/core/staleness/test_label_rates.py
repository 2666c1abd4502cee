from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.staleness.group_state import NEVER, GroupStates
from spinney.core.staleness.label_rates import DAY, LabelRates, count_recent, usual_intervals

HALF_LIFE = 16 * DAY
STEP = DAY // 4  # times are rounded to 1/64 of the half-life
A, B = '["a"]', '["b"]'
ROWS = st.lists(st.tuples(st.sampled_from([A, B]), st.integers(0, 90 * DAY), st.integers(1, 3)), max_size=12)


def counted(*batches: list[tuple[str, int, int]], half_life: int = HALF_LIFE) -> GroupStates:
    """Groups with a champion whose labels came in these batches of (key, time, labels)."""
    groups = GroupStates.empty()
    groups.positions_of(sorted({key for rows in batches for key, _, _ in rows}))
    groups.update(champion_id=np.full(len(groups), "m", dtype=object))
    for rows in batches:
        at = groups.positions_of(key for key, _, _ in rows)
        times, labelled = (np.array([row[n] for row in rows], dtype=np.int64) for n in (1, 2))
        count_recent(groups, at, times, labelled, half_life)
    return groups


def steady(key: str, per_day: int, begin: int, end: int) -> list[tuple[str, int, int]]:
    """So many labels on each day from begin until end."""
    return [(key, day * DAY, per_day) for day in range(begin, end)]


def rates(groups: GroupStates, half_life: int = HALF_LIFE) -> dict[str, float]:
    found = LabelRates.of(groups, half_life)
    return dict(zip((groups.keys[at] for at in found.positions), found.per_day.tolist(), strict=True))


def test_a_label_weighs_half_after_a_half_life() -> None:
    groups = counted([(A, 0, 8)], [(A, 16 * DAY, 2)], [(A, 32 * DAY + 5, 1)])
    assert groups["recent_labels"].tolist() == [8 / 4 + 2 / 2 + 1]
    assert (groups["recent_from"].tolist(), groups["recent_at"].tolist()) == ([0], [32 * DAY])


def test_equal_intervals_are_found_exactly_whenever_the_count_began() -> None:
    for begin in (0, 1_000):
        found = usual_intervals(counted(steady(A, 1, begin, begin + 8)), HALF_LIFE)
        assert found.tolist() == pytest.approx([DAY], rel=1e-9)


@given(ROWS, ROWS, st.randoms(use_true_random=False))
def test_neither_order_nor_batches_matter(first: list[Any], second: list[Any], random: Any) -> None:
    shuffled = first + second
    random.shuffle(shuffled)
    apart, together = counted(first, second), counted(shuffled)
    assert apart.keys == together.keys
    for name in ("recent_labels", "recent_at", "recent_from"):
        np.testing.assert_allclose(apart[name], together[name], rtol=1e-12)


@pytest.mark.parametrize("days", [8, 50, 2_000])
def test_a_constant_rate_is_found_however_long_the_count_has_run(days: int) -> None:
    assert rates(counted(steady(A, 40, 0, days)))[A] == pytest.approx(40, rel=0.2 if days == 8 else 0.05)


@pytest.mark.parametrize(("before", "after"), [(4, 40), (40, 4)])
def test_three_quarters_of_a_change_are_known_after_two_half_lives_and_nearly_all_after_six(
    before: int, after: int
) -> None:
    history = steady(A, before, 0, 1_000)
    assert rates(counted(history + steady(A, after, 1_000, 1_032)))[A] == pytest.approx(
        after + (before - after) / 4, rel=0.05
    )
    assert rates(counted(history + steady(A, after, 1_000, 1_096)))[A] == pytest.approx(
        after + (before - after) / 64, rel=0.05
    )


def test_a_group_is_silent_two_half_lives_after_its_last_label_by_the_labels_of_others() -> None:
    def of(days: int) -> dict[str, float]:
        return rates(counted(steady(A, 4, 0, 100), steady(B, 4, 0, 100 + days)))

    # Its rate falls in the meantime: by a quarter of 4 × 20 ÷ 23 labels' weight after two half-lives.
    assert of(32)[A] == pytest.approx(1, rel=0.1)
    assert list(of(33)) == [B]


def test_a_first_label_counts_as_if_it_had_taken_a_sixteenth_of_a_half_life() -> None:
    # 1.25 labels in the first day of a half-life of 16, which covers (1 - 2^(-1/16)) ÷ ln 2 × 16 = 0.9786 days.
    assert rates(counted([(A, 5 * DAY, 1)])) == {A: pytest.approx(1.25 / 0.9786, rel=1e-4)}


def test_parents_and_groups_without_a_champion_or_labels_have_no_rate() -> None:
    groups = counted([(A, 0, 1), (B, 0, 1), ("{}", 0, 1)])
    groups.positions_of(['["new"]'])
    groups["champion_id"][:] = ["" if key == B else "m" for key in groups.keys]
    assert list(rates(groups)) == [A]
    assert groups["recent_at"][groups.positions_of(['["new"]'])].tolist() == [NEVER]
    assert rates(GroupStates.empty()) == {}


@given(ROWS.filter(bool), st.sampled_from([1 / 64, 1 / 8, 4, 32]))
def test_rates_do_not_depend_on_the_unit_of_time(rows: list[tuple[str, int, int]], factor: float) -> None:
    scaled = [(key, int(time // STEP * STEP * factor), labelled) for key, time, labelled in rows]
    expected = {key: rate / factor for key, rate in rates(counted(rows)).items()}
    half_life = int(HALF_LIFE * factor)
    assert rates(counted(scaled, half_life=half_life), half_life) == pytest.approx(expected)


@given(st.integers(1, 160), st.integers(2, 9))
def test_equal_intervals_are_found_whatever_their_length_and_number(quarters: int, labels: int) -> None:
    every = quarters * STEP
    groups = counted([(A, n * every, 1) for n in range(labels)])
    assert usual_intervals(groups, HALF_LIFE)[0] == pytest.approx(every, rel=1e-6)


def test_the_interval_of_a_group_that_has_become_sparse_is_soon_the_recent_one() -> None:
    groups = counted(steady(A, 4, 0, 300), [(A, day * DAY, 1) for day in range(308, 381, 8)])
    # Ten labels every 8 days weigh 3.307, the earlier ones 94.37 × 2^(-81/16) = 2.825: 16 × log2(6.132 ÷ 5.132) days.
    # By the lifetime rate it would be 0.31 days.
    assert usual_intervals(groups, HALF_LIFE)[0] / DAY == pytest.approx(4.11, rel=0.005)


def test_the_interval_of_a_single_label_or_of_none_is_unknown() -> None:
    groups = counted([(A, 5 * DAY, 1)])
    groups.positions_of([B])
    assert np.isnan(usual_intervals(groups, HALF_LIFE)).tolist() == [True, True]
