"""Parts of a plan: each cut by what the ones before it took."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.planning.batch_parts import FIRST_PART_GROUPS, MAX_GROWTH, Part, PartPacing, Progress, next_part


def cuts(total: int, parents: int, pace: PartPacing | None) -> list[tuple[int, int, int]]:
    found, part = [], None
    while part := next_part(part, total, parents, pace):
        found.append((part.number, part.begin, part.end))
    return found


def test_without_a_pace_one_part_takes_all() -> None:
    assert cuts(10, 3, None) == [(0, 0, 10)]
    assert cuts(0, 0, None) == [(0, 0, 0)]


def test_parents_are_a_part_of_their_own_unless_one_part_takes_all() -> None:
    assert cuts(10, 3, PartPacing(6.0, 1.0, is_measured=True)) == [(0, 0, 3), (1, 3, 9), (2, 9, 10)]
    two = [(2, 3, 5), (3, 5, 7), (4, 7, 9), (5, 9, 10)]
    assert cuts(10, 3, PartPacing(2.0, 1.0, is_measured=True)) == [(0, 0, 2), (1, 2, 3), *two]
    assert cuts(10, 3, PartPacing(10.0, 1.0, is_measured=True)) == [(0, 0, 10)]


@pytest.mark.parametrize("pace", [None, PartPacing(10.0, 1.0, is_measured=True)])
def test_groups_that_are_pooled_with_their_parents_come_in_a_later_part(pace: PartPacing | None) -> None:
    first = next_part(None, 10, 3, pace, apart=[3])
    assert first == Part(0, 0, 3)
    assert next_part(first, 10, 3, pace, apart=[3]) == Part(1, 3, 10)
    assert next_part(None, 3, 3, pace, apart=[3]) == Part(0, 0, 3)
    last = next_part(None, 10, 3, pace, apart=[1, 3])
    assert last == Part(0, 0, 1)
    assert next_part(last, 10, 3, pace, apart=[1, 3]) == Part(1, 1, 3)


def test_a_cost_that_nobody_measured_takes_a_small_first_part_and_none_takes_a_huge_one() -> None:
    guessed = PartPacing(60.0, 0.0025, is_measured=False)
    assert (guessed.next_size(50_000), guessed.next_size(300)) == (FIRST_PART_GROUPS, 300)
    # A thousand groups took 20 s: a minute is 3,000 of them.
    assert guessed.after(1_000, 20.0).next_size(50_000) == 3_000
    assert PartPacing(60.0, 1e-4, is_measured=True).next_size(50_000) == MAX_GROWTH * FIRST_PART_GROUPS
    assert guessed.after(1_000, 1.0).next_size(50_000) == MAX_GROWTH * 1_000


def test_what_a_part_costs_before_it_begins_makes_parts_no_smaller() -> None:
    """90 s a part and 10 ms a group: a part has 60 s of groups in it, however long it takes."""
    pace, sizes = PartPacing(60.0, 0.0025, is_measured=False), []
    for _ in range(6):
        size = pace.next_size(50_000)
        sizes.append(size)
        pace = pace.after(size, 90.0 + 0.01 * size)
    assert sizes == [1_000, 600, 2_400, 6_000, 6_000, 6_000]
    assert pace.fixed_s == pytest.approx(90.0)
    assert pace.seconds_for(12_000) == pytest.approx(300.0)
    assert pace.seconds_for(0) == 0.0
    assert PartPacing(60.0, 0.0025, is_measured=False).seconds_for(5) is None


def test_a_cost_beyond_the_part_still_takes_one_group() -> None:
    assert PartPacing(1.0, 1_000.0, is_measured=True).next_size(7) == 1


@given(st.integers(1, 500), st.data(), st.floats(1e-4, 100.0), st.booleans())
def test_parts_cover_the_plan_once_in_order_wherever_a_run_went_on(
    total: int, data: st.DataObject, each: float, known: bool
) -> None:
    parents = data.draw(st.integers(0, total))
    found = cuts(total, parents, PartPacing(1.0, each, is_measured=known))
    assert [number for number, _, _ in found] == list(range(len(found)))
    assert [begin for _, begin, _ in found] == [0, *(end for _, _, end in found[:-1])]
    assert found[-1][2] == total
    assert len(found) == 1 or all(end <= parents or begin >= parents for _, begin, end in found)
    number, begin, end = data.draw(st.sampled_from(found))
    after = next_part(Part(number, begin, end), total, parents, None)
    rest = parents if end < parents else total
    assert after == (None if end == total else Part(number + 1, end, rest))


def test_progress_is_reported_in_words() -> None:
    assert str(Progress(12_000, 31, 50_000, 130.0)) == "12,000 of 50,000 groups done, 31 failed, about 2 min 10 s left"
    assert str(Progress(50_000, 0, 50_000, 0.0)) == "50,000 of 50,000 groups done, 0 failed"
    assert str(Progress(9, 0, 50_000, None)) == "9 of 50,000 groups done, 0 failed"


def test_two_parts_of_which_one_is_a_quarter_smaller_show_the_fixed_overhead() -> None:
    """10 s and 0.1 s a group: 75 groups took 17.5 s, 100 take 20 s. Of 76 and 100 groups nothing is concluded."""
    found = PartPacing(60.0, 0.1, is_measured=True, groups=75, elapsed_s=17.5).after(100, 20.0)
    assert (found.fixed_s, found.seconds_per_group) == pytest.approx((10.0, 0.1))
    found = PartPacing(60.0, 0.1, is_measured=True, groups=76, elapsed_s=17.6).after(100, 20.0)
    assert (found.fixed_s, found.seconds_per_group) == pytest.approx((0.0, 0.2))


def test_the_overhead_is_nine_tenths_of_a_part_at_most() -> None:
    slower_before = PartPacing(60.0, 0.1, is_measured=True, groups=50, elapsed_s=30.0).after(100, 20.0)
    assert (slower_before.fixed_s, slower_before.seconds_per_group) == pytest.approx((18.0, 0.02))
    same_size = PartPacing(60.0, 0.1, is_measured=True, fixed_s=30.0, groups=100, elapsed_s=40.0).after(100, 20.0)
    assert (same_size.fixed_s, same_size.seconds_per_group) == pytest.approx((18.0, 0.02))


def test_the_last_part_has_the_whole_overhead_too() -> None:
    """13 groups of 1 s in parts of 6: three parts, each with 2 s more."""
    assert PartPacing(6.0, 1.0, is_measured=True, fixed_s=2.0).seconds_for(13) == 19.0
