from __future__ import annotations

import numpy as np
import pytest

from demo.scale.synthetic_fleet import ROWS_PER_GROUP
from demo.scale.traffic_plan import ALLOWED_SECONDS, EVENTS_PER_SECOND, EVIDENCE_SHARE, TrafficPlan


@pytest.fixture(scope="module")
def traffic():
    return TrafficPlan(50_000, 120, 0)


def test_one_in_a_hundred_changes_and_as_many_others_are_as_busy(traffic):
    assert (len(traffic.changed), len(traffic.unchanged)) == (500, 500)
    assert len(set(traffic.busy.tolist())) == 1000


def test_the_stream_has_its_rate_in_every_second(traffic):
    assert len(traffic.group) == traffic.events == EVENTS_PER_SECOND * 120
    assert traffic.group.min() >= 0
    assert traffic.group.max() < 50_000


def test_before_the_change_nobody_has_more_events_than_by_chance(traffic):
    before = np.bincount(traffic.group[: traffic.events_before], minlength=50_000)
    assert before[traffic.busy].mean() == pytest.approx(before.mean(), rel=0.2)


@pytest.mark.parametrize(("groups", "seconds"), [(50_000, 120), (400, 20), (100_000, 300)])
def test_after_it_each_busy_group_has_enough_events_to_be_judged_in_a_third_of_the_time(groups, seconds):
    traffic = TrafficPlan(groups, seconds, 3)
    after = traffic.group[traffic.events_before :]
    share = after[: int(len(after) * (EVIDENCE_SHARE + 0.01))]
    counts = np.bincount(share, minlength=groups)[traffic.busy]
    assert counts.min() >= ROWS_PER_GROUP - 1
    assert counts.max() - counts.min() <= 2  # the share ends within a slice


def test_too_many_groups_to_judge_so_soon_leave_half_of_the_events_to_the_others():
    traffic = TrafficPlan(100_000, 60, 0)
    assert traffic.busy_rate == EVENTS_PER_SECOND / 2


def test_the_same_seed_makes_the_same_events(traffic):
    assert np.array_equal(TrafficPlan(50_000, 120, 0).group, traffic.group)
    assert not np.array_equal(TrafficPlan(50_000, 120, 1).group, traffic.group)


@pytest.mark.parametrize(("groups", "seconds"), [(50_000, 120), (300, 12), (400, 20), (200, 10), (100_000, 300)])
def test_sizes_with_which_a_change_can_be_shown_have_no_problem(groups, seconds):
    assert TrafficPlan(groups, seconds, 0).problem is None


def test_few_groups_in_a_long_stream_are_a_problem_as_the_others_are_as_busy():
    reported = TrafficPlan(400, 120, 0).problem
    assert "--scale with 400 groups for 120 s: expected more events a second for a group that changes" in reported
    assert "found 0.952 and 5.08. Choose --seconds from 10 to " in reported


def test_many_groups_in_a_short_stream_are_a_problem_as_no_change_is_found_within_it():
    reported = TrafficPlan(100_000, 60, 0).problem
    assert "expected 30 events of each group that changes within the 53 s after the change" in reported
    assert "found that they take 60 s. Choose --seconds from 69 to 3,600, or another --groups" in reported


@pytest.mark.parametrize("groups", [200, 250, 300, 1_000, 9_999, 50_000, 100_000])
def test_every_number_of_groups_has_a_length_that_is_allowed(groups):
    allowed = [seconds for seconds in ALLOWED_SECONDS if TrafficPlan(groups, seconds, 0).unmet_condition is None]
    assert allowed == list(range(allowed[0], allowed[-1] + 1))
