from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from spinney.serving import frequency_sketch
from spinney.serving.frequency_sketch import Frequencies


@given(st.lists(st.text(max_size=3), max_size=200))
def test_a_few_names_are_counted_exactly_up_to_the_most(names: list[str]) -> None:
    made = Frequencies()
    for name in names:
        made.count(name)
    exact = Counter(names)
    assert {name: made[name] for name in exact} == {
        name: min(frequency_sketch.MOST, count) for name, count in exact.items()
    }
    assert made["never asked for"] == 0


def test_counts_are_halved_after_a_period_and_names_that_stay_popular_stay_ahead(monkeypatch) -> None:
    monkeypatch.setattr(frequency_sketch, "PERIOD", 20)
    made = Frequencies()
    for _ in range(12):
        made.count("old")
    for _ in range(10):
        made.count("new")
    assert (made["old"], made["new"]) == (6, 6)  # 12, and 7 of the 10, halved; then 3 more
