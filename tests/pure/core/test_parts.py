"""Parts of a plan: each cut by what the ones before it took."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spinney.core.parts import FIRST, Pace, Part, Progress, next_part


def cuts(total: int, parents: int, pace: Pace | None) -> list[tuple[int, int, int]]:
    found, part = [], None
    while part := next_part(part, total, parents, pace):
        found.append((part.number, part.begin, part.end))
    return found


def test_without_a_pace_one_part_takes_all() -> None:
    assert cuts(10, 3, None) == [(0, 0, 10)]
    assert cuts(0, 0, None) == [(0, 0, 0)]


def test_parents_are_a_part_of_their_own_unless_one_part_takes_all() -> None:
    assert cuts(10, 3, Pace(2.0, 3.0, known=True)) == [(0, 0, 3), (1, 3, 9), (2, 9, 10)]
    assert cuts(10, 3, Pace(2.0, 1.0, known=True)) == [
        (0, 0, 2),
        (1, 2, 3),
        *((n, 2 * n - 1, 2 * n + 1) for n in (2, 3, 4)),
        (5, 9, 10),
    ]
    assert cuts(10, 3, Pace(2.0, 5.0, known=True)) == [(0, 0, 10)]


def test_a_pace_that_nobody_measured_takes_a_small_first_part() -> None:
    guessed = Pace(60.0, 400.0, known=False)
    assert (guessed.size(50_000), guessed.size(300)) == (FIRST, 300)
    # A thousand groups took 20 s: 50 a second, a minute is 3,000 of them.
    assert guessed.after(1_000, 20.0).size(50_000) == 3_000
    assert guessed.after(1_000, 20.0).after(3_000, 600.0).size(50_000) == 300


def test_a_cost_beyond_the_part_still_takes_one_group() -> None:
    assert Pace(1.0, 0.001, known=True).size(7) == 1


@given(st.integers(1, 500), st.data(), st.floats(0.01, 1e4), st.booleans())
def test_parts_cover_the_plan_once_in_order_wherever_a_run_went_on(
    total: int, data: st.DataObject, rate: float, known: bool
) -> None:
    parents = data.draw(st.integers(0, total))
    found = cuts(total, parents, Pace(1.0, rate, known=known))
    assert [number for number, _, _ in found] == list(range(len(found)))
    assert [begin for _, begin, _ in found] == [0, *(end for _, _, end in found[:-1])]
    assert found[-1][2] == total
    assert len(found) == 1 or all(end <= parents or begin >= parents for _, begin, end in found)
    number, begin, end = data.draw(st.sampled_from(found))
    after = next_part(Part(number, begin, end), total, parents, None)
    rest = parents if end < parents else total
    assert after == (None if end == total else Part(number + 1, end, rest))


def test_progress_is_said_in_words() -> None:
    assert str(Progress(12_000, 31, 50_000, 130.0)) == "12,000 of 50,000 groups done, 31 failed, about 2 min 10 s left"
    assert str(Progress(50_000, 0, 50_000, 0.0)) == "50,000 of 50,000 groups done, 0 failed"
    assert str(Progress(9, 0, 50_000, None)) == "9 of 50,000 groups done, 0 failed"
