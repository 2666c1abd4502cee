from __future__ import annotations

import numpy as np
import pytest

from spinney.local.demo.scale.fleet import ROWS
from spinney.local.demo.scale.traffic import JUDGED_AFTER, RATE, Traffic


@pytest.fixture(scope="module")
def traffic():
    return Traffic(50_000, 120, 0)


def test_one_in_a_hundred_changes_and_as_many_others_are_as_busy(traffic):
    assert (len(traffic.changed), len(traffic.unchanged)) == (500, 500)
    assert len(set(traffic.busy.tolist())) == 1000


def test_the_stream_has_its_rate_in_every_second(traffic):
    assert len(traffic.group) == traffic.events == RATE * 120
    assert traffic.group.min() >= 0
    assert traffic.group.max() < 50_000


def test_before_the_change_nobody_has_more_events_than_by_chance(traffic):
    before = np.bincount(traffic.group[: traffic.events_before], minlength=50_000)
    assert before[traffic.busy].mean() == pytest.approx(before.mean(), rel=0.2)


@pytest.mark.parametrize(("groups", "seconds"), [(50_000, 120), (400, 20), (100_000, 300)])
def test_after_it_each_busy_group_has_enough_events_to_be_judged_in_a_third_of_the_time(groups, seconds):
    traffic = Traffic(groups, seconds, 3)
    after = traffic.group[traffic.events_before :]
    share = after[: int(len(after) * (JUDGED_AFTER + 0.01))]
    counts = np.bincount(share, minlength=groups)[traffic.busy]
    assert counts.min() >= ROWS - 1
    assert counts.max() - counts.min() <= 2  # the share ends within a slice


def test_too_many_groups_to_judge_so_soon_leave_half_of_the_events_to_the_others():
    traffic = Traffic(100_000, 60, 0)
    assert traffic.busy_rate == RATE / 2


def test_the_same_seed_makes_the_same_events(traffic):
    assert np.array_equal(Traffic(50_000, 120, 0).group, traffic.group)
    assert not np.array_equal(Traffic(50_000, 120, 1).group, traffic.group)
