"""Which rows are held out, and the sample of losses and predictions that a model is stored with."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.features.encoding import NULL_TIME
from spinney.core.training.comparisons.held_out_rows import (
    extend_sample,
    held_out_counts,
    recent_counts,
    sample_evenly,
    unseen_counts,
)
from spinney.core.training.fit_request import FitRequest


def test_a_fifth_is_held_out_without_a_champion_and_half_of_the_new_rows_at_most_with_one() -> None:
    rows = np.array([0, 1, 4, 10, 100, 100, 100, 100, 100])
    unseen = np.array([0, 0, 0, 0, 0, 1, 7, 39, 80])
    assert held_out_counts(rows, unseen, rows).tolist() == [0, 1, 1, 2, 20, 1, 4, 20, 20]


def test_rows_that_are_too_old_for_what_the_recipe_is_made_for_are_not_held_out() -> None:
    day = 86_400_000_000
    group, times = np.repeat([0, 1, 2], [30, 5, 0]), np.concatenate([np.arange(30), np.arange(5)]) * day
    assert recent_counts(group, times, 3, timedelta(days=3)).tolist() == [3, 3, 0]
    assert recent_counts(group, times, 3, None).tolist() == [30, 5, 0]
    rows, unseen = np.array([30, 30, 30, 5, 0]), np.array([0, 1, 8, 0, 0])
    assert held_out_counts(rows, unseen, np.array([3, 3, 3, 3, 0])).tolist() == [3, 1, 3, 1, 0]


@given(st.integers(1, 5000).flatmap(lambda rows: st.tuples(st.just(rows), st.integers(1, rows))))
def test_the_measured_challenger_is_fitted_on_every_row_that_its_champion_was_fitted_on(sizes: tuple[int, int]) -> None:
    rows, unseen = sizes
    held = int(held_out_counts(np.array([rows]), np.array([unseen]), np.array([rows]))[0])
    assert 1 <= held <= max(1, rows // 5)
    assert held <= unseen
    assert unseen - held >= held - 1  # and on as many of the new rows as it is measured on


def test_losses_of_earlier_champions_fill_up_the_sample_to_a_fifth_of_the_rows() -> None:
    own, earlier = np.array([8.0, 9.0]), np.arange(7.0)
    assert sample_evenly(own, earlier, 25).tolist() == [4, 5, 6, 8, 9]
    assert sample_evenly(own, earlier, 100).tolist() == [*range(7), 8, 9]
    assert sample_evenly(own, earlier, 10).tolist() == [8, 9]
    assert sample_evenly(own, np.empty(0), 100).tolist() == [8, 9]


def test_the_newest_loss_and_an_even_spread_of_the_others_stay_of_a_long_sample() -> None:
    found = sample_evenly(np.arange(40.0, 60.0), np.arange(40.0), 300)
    assert len(found) == 32
    assert (found[0], found[-1]) == (0, 59)
    assert set(np.diff(found)) == {1.0, 2.0}


def request(champion_id: str | None, trained_through: int) -> FitRequest:
    return FitRequest('["a"]', champion_id, None, None, None, trained_through)


def test_rows_newer_than_what_the_champion_has_seen_are_unseen_and_none_if_that_is_not_known() -> None:
    requests = [request("m", 10), request(None, 10), request("m", NULL_TIME), request("m", 10)]
    group, times = np.array([0, 0, 0, 1, 2, 0]), np.array([9, 10, 11, 99, 99, 12])
    assert unseen_counts(group, times, requests).tolist() == [2, 0, 0, 0]


def test_the_newest_row_is_held_out_if_no_other_is_recent() -> None:
    none = np.array([0])
    assert held_out_counts(np.array([100]), none, none).tolist() == [1]


def test_a_sample_of_32_stays_whole_and_of_33_one_is_left_out() -> None:
    assert sample_evenly(np.arange(32.0), np.empty(0), 32).tolist() == list(range(32))
    found = sample_evenly(np.arange(33.0), np.empty(0), 33).tolist()
    assert len(found) == 32
    assert found[-1] == 32


def test_prequential_losses_of_half_of_the_rows_fill_the_sample_however_often_a_group_is_refitted() -> None:
    stored, unseen = np.arange(100.0, 132.0), np.arange(10.0)
    # Of 10 new rows of 160, 32 * 10 / 80 = 4 count: the first, the last, and two evenly between; 4 old ones leave.
    assert extend_sample(stored, unseen, 160).tolist() == [*range(104, 132), 0, 3, 6, 9]
    assert extend_sample(stored, unseen[:2], 160).tolist() == [*range(102, 132), 0, 1]
    assert extend_sample(stored, unseen, 20).tolist() == [*range(110, 132), *range(10)]
    assert extend_sample(stored, np.empty(0), 160).tolist() == stored.tolist()
    assert len(extend_sample(stored, np.arange(500.0), 500)) == 32
    assert extend_sample(stored, np.arange(500.0), 500)[0] == 0
