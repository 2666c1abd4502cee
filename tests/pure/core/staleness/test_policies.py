from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from spinney.core.config import Staleness
from spinney.core.staleness.group_state import NEVER, GroupStates
from spinney.core.staleness.label_rates import count_recent
from spinney.core.staleness.policies import (
    Drift,
    ErrorRise,
    MaxAge,
    NewGroup,
    NewRows,
    NoLabels,
    Policy,
    RowDays,
    Schedule,
    configured_policies,
)

DAY = 86_400_000_000
YEARLY = ErrorRise(timedelta(days=365))


def group(key: str = '["a"]', **known: object) -> GroupStates:
    groups = GroupStates.empty()
    groups.positions_of([key])
    for name, value in known.items():
        groups[name][0] = value
    return groups


def measured(policy: Policy, groups: GroupStates, clock: int = 0) -> float:
    found = policy.measure(groups, clock)
    assert found.shape == (len(groups),)
    assert found.dtype == np.float64
    return float(found[0])


def test_a_group_without_a_model_is_measured_by_its_labelled_rows() -> None:
    assert measured(NewGroup(20), group(labelled=19)) == 19
    assert NewGroup(20).limit == 20


def test_a_group_with_a_model_is_not_new() -> None:
    assert np.isnan(measured(NewGroup(20), group(labelled=99, champion_id="m")))


def test_a_parent_is_not_a_new_group() -> None:
    assert np.isnan(measured(NewGroup(20), group("{}", labelled=99)))


def test_new_rows_are_those_since_the_last_attempt() -> None:
    assert measured(NewRows(200), group(rows_since=7, labelled=99, champion_id="m")) == 7


@pytest.mark.parametrize(("fitted", "limit"), [(20, 10), (21, 11), (1, 1), (999, 500), (0, np.inf)])
def test_new_rows_by_growth_are_half_of_the_rows_fitted_and_never_enough_if_these_are_not_known(
    fitted: int, limit: float
) -> None:
    groups = group(champion_id="m", labelled=7, fitted_rows=fitted)
    assert NewRows(growth=0.5).limits(groups).tolist() == [limit]
    assert NewRows(7).limits(groups).tolist() == [7]


def test_a_group_that_grows_row_by_row_is_refitted_when_its_rows_have_grown_by_half() -> None:
    policy, attempts, attempted = NewRows(growth=0.5), [], 20
    for rows in range(21, 1_100):
        groups = group(champion_id="m", fitted_rows=attempted, rows_since=rows - attempted)
        if policy.measure(groups, 0) >= policy.limits(groups):
            attempts, attempted = [*attempts, rows], rows
    assert attempts == [30, 45, 68, 102, 153, 230, 345, 518, 777]


def test_new_rows_say_nothing_of_a_group_without_a_model() -> None:
    assert np.isnan(measured(NewRows(200), group(rows_since=7)))


HALF_LIFE = timedelta(days=14)


def fleet_of(rates: dict[str, float], silent: int = 0) -> GroupStates:
    """Groups whose labels have come at these rates a day for years, of which the first ones fell silent 29 days ago."""
    groups = GroupStates.empty()
    groups.positions_of(rates)
    covered = 14 / np.log(2)  # days that a decayed count stands for
    groups.update(
        champion_id=np.full(len(rates), "m", dtype=object),
        recent_labels=np.array([rate * covered - 0.25 for rate in rates.values()]),
        recent_from=np.full(len(rates), -2_000 * DAY),
        recent_at=np.where(np.arange(len(rates)) < silent, -29 * DAY, 0),
        attempted_at=np.zeros(len(rates), dtype=np.int64),
    )
    return groups


def test_row_days_are_new_rows_times_days_since_the_last_attempt() -> None:
    policy = RowDays(timedelta(days=10), HALF_LIFE)
    assert measured(policy, group(rows_since=6, attempted_at=2 * DAY, champion_id="m"), clock=9 * DAY) == 42
    assert np.isnan(measured(policy, group(rows_since=6, attempted_at=2 * DAY), clock=9 * DAY))
    assert np.isnan(measured(policy, group(rows_since=6, champion_id="m"), clock=9 * DAY))
    assert np.isnan(measured(policy, group("{}", rows_since=6, attempted_at=0, champion_id="m"), clock=9 * DAY))
    assert policy.describe(42.25, 40.0) == (
        "new rows × days since the last attempt are 42.2 (limit 40, as for all groups)"
    )


def test_the_limit_of_row_days_follows_from_the_mean_root_of_the_rates() -> None:
    # Rates of 1, 4 and 9 labels a day: their roots are 2 on average, and (10 × 2)² = 400.
    rates = {'["a"]': 1.0, '["b"]': 4.0, '["c"]': 9.0}
    assert RowDays(timedelta(days=10), HALF_LIFE).limits(fleet_of(rates)) == pytest.approx([400] * 3)


def refitted_on(per_day: list[int], silent: int = 0) -> list[int]:
    """The days on which a group with so many labels on each day is refitted.

    silent: number of other groups of its shard, with labels on the first day only.
    """
    groups, policy = GroupStates.empty(), RowDays(timedelta(days=10), HALF_LIFE)
    groups.positions_of([f'["{n}"]' for n in range(1 + silent)])
    groups.update(champion_id=np.full(1 + silent, "m", dtype=object), attempted_at=np.zeros(1 + silent, dtype=np.int64))
    half_life, days = HALF_LIFE // timedelta(microseconds=1), []
    for day, rows in enumerate(per_day):
        at = np.arange(1 + silent) if day == 0 else np.zeros(1, dtype=np.int64)
        count_recent(groups, at, np.full(len(at), day * DAY), np.full(len(at), rows), half_life)
        groups["rows_since"][0] += rows
        if (policy.measure(groups, day * DAY) >= policy.limits(groups))[0]:
            groups["rows_since"][0], groups["attempted_at"][0] = 0, day * DAY
            days.append(day)
    return days


@pytest.mark.parametrize(("before", "after"), [(5, 50), (50, 5), (20, 20)])
def test_months_after_a_change_of_traffic_a_group_is_refitted_as_often_as_before(before: int, after: int) -> None:
    days = refitted_on([before] * 200 + [after] * 200)
    assert np.diff([day for day in days if day <= 200])[3:] == pytest.approx(10, abs=1)
    assert np.diff([day for day in days if day > 280]) == pytest.approx(10, abs=1)


def test_groups_that_have_been_silent_for_a_year_do_not_change_the_interval_of_the_others() -> None:
    alone, beside_others = (np.diff(refitted_on([5] * 365, silent=n))[-10:].tolist() for n in (0, 9))
    assert alone == beside_others


def test_silent_groups_do_not_make_the_others_refit_more_often() -> None:
    groups = fleet_of({f'["{n}"]': 4.0 for n in range(10)}, silent=9)
    assert RowDays(timedelta(days=10), HALF_LIFE).limits(groups) == pytest.approx([400] * 10)


def test_labels_that_were_counted_before_their_times_were_known_say_nothing_of_a_rate() -> None:
    groups = fleet_of({'["a"]': 4.0})
    groups.update(labelled=np.array([10_000]), labelled_from=np.array([0]), labelled_at=np.array([DAY]))
    assert RowDays(timedelta(days=10), HALF_LIFE).limits(groups) == pytest.approx([400])


@pytest.mark.parametrize("rates", [[1.0], [0.25, 1.0, 4.0, 16.0], [2.0] * 7, [0.1, 50.0]])
def test_by_row_days_busy_groups_are_refitted_more_often_and_as_many_groups_a_day_as_the_interval_says(
    rates: list[float],
) -> None:
    groups, policy = fleet_of({f'["{n}"]': rate for n, rate in enumerate(rates)}), RowDays(timedelta(10), HALF_LIFE)
    limit = policy.limits(groups)
    intervals = []
    for n, rate in enumerate(rates):
        clock = np.arange(1, 4_000) * (DAY // 10)
        is_stale = np.floor(rate * clock / DAY) * clock / DAY >= limit[n]
        intervals.append(clock[is_stale][0] / DAY)
    assert np.array(intervals) == pytest.approx(10 * np.sqrt(rates).mean() / np.sqrt(rates), rel=0.15, abs=1)
    assert sum(1 / np.array(intervals)) == pytest.approx(len(rates) / 10, rel=0.1)


def test_groups_of_equal_rates_become_stale_by_row_days_at_different_times() -> None:
    groups = fleet_of({f'["{n}"]': 2.0 for n in range(200)})
    intervals = np.sqrt(RowDays(timedelta(days=10), HALF_LIFE, 0.2).limits(groups) / 2)
    assert intervals.min() == pytest.approx(9, abs=0.1)
    assert intervals.max() == pytest.approx(11, abs=0.1)
    assert intervals.mean() == pytest.approx(10, abs=0.1)


def test_row_days_have_no_limit_before_any_label_of_a_champion() -> None:
    policy = RowDays(timedelta(days=10), HALF_LIFE)
    assert policy.limits(group(champion_id="m", attempted_at=0)).tolist() == [np.inf]
    assert policy.limits(group(labelled=5, recent_labels=5.0, recent_from=0, recent_at=DAY)).tolist() == [np.inf]
    assert policy.limits(GroupStates.empty()).shape == (0,)


def test_age_is_the_fleets_clock_since_the_last_attempt() -> None:
    assert measured(MaxAge(timedelta(days=7)), group(attempted_at=2 * DAY, champion_id="m"), clock=9 * DAY) == 7 * DAY
    assert MaxAge(timedelta(days=7)).limit == 7 * DAY


@pytest.mark.parametrize("clock", [NEVER, 0, DAY])
def test_a_group_never_attempted_has_no_age(clock: int) -> None:
    assert np.isnan(measured(MaxAge(timedelta(days=7)), group(champion_id="m"), clock))


def test_a_group_without_a_model_has_no_age() -> None:
    assert np.isnan(measured(MaxAge(timedelta(days=7)), group(attempted_at=0), clock=9 * DAY))


def test_a_risen_error_is_measured_by_its_evidence() -> None:
    assert measured(YEARLY, group(champion_id="m", evidence=0.25)) == 0.25
    assert YEARLY.limit == 1


def test_evidence_says_nothing_of_a_group_without_a_champion() -> None:
    assert np.isnan(measured(YEARLY, group(evidence=2.0)))


def test_drift_is_measured_by_its_evidence_and_unknown_without_a_champion_or_its_training_predictions() -> None:
    policy = Drift(timedelta(days=365))
    assert measured(policy, group(champion_id="m", drift=0.25)) == 0.25
    assert np.isnan(measured(policy, group(champion_id="m")))
    assert np.isnan(measured(policy, group(drift=2.0)))


def test_no_groups_measure_as_nothing() -> None:
    for policy in (NewGroup(1), NewRows(1), RowDays(timedelta(days=1), HALF_LIFE), MaxAge(timedelta(days=1)), YEARLY):
        assert policy.measure(GroupStates.empty(), 0).shape == (0,)


@pytest.mark.parametrize(
    ("policy", "value", "words"),
    [
        (NewGroup(20), 23.0, "no model yet and 23 labelled rows (20 needed)"),
        (NewRows(200), 250.0, "250 new rows since the last attempt (limit 200)"),
        (MaxAge(timedelta(days=7)), 7.25 * DAY, "7 days 6 hours since the last attempt (limit 7 days)"),
        # xxh64 of the key by seed 7 is 0.66319 of its range: 7 days less 0.66319 × 0.2 × 7.
        (
            MaxAge(timedelta(days=7), 0.2),
            6.5 * DAY,
            "6 days 12 hours since the last attempt (its deadline is 6 days 1 hour, at most 7 days)",
        ),
        (YEARLY, 2.345, "evidence of a risen error is 2.35 (limit 1: a false alarm per 365 days at most)"),
    ],
)
def test_a_policy_says_its_measure_and_limit_in_words(policy: Policy, value: float, words: str) -> None:
    (limit,) = policy.limits(group())
    assert policy.describe(value, limit) == words


def test_the_policies_of_a_fleet_come_from_its_configuration_the_most_urgent_first() -> None:
    staleness = SimpleNamespace(
        max_age=timedelta(days=7),
        age_spread=0.15,
        new_rows=None,
        error_rise=SimpleNamespace(patience=timedelta(days=365)),
        drift=SimpleNamespace(patience=timedelta(days=30), triggers=False),
        schedule=None,
        no_labels=timedelta(days=7),
        policies=(),
    )
    delay = timedelta(hours=6)
    assert configured_policies(cast("Staleness", staleness), 20, delay) == (
        NewGroup(20),
        NoLabels(timedelta(days=7), delay, timedelta(days=7)),
        YEARLY,
        NewRows(growth=0.5),
        RowDays(timedelta(days=4.9), timedelta(days=7), 0.15),
        MaxAge(timedelta(days=7), 0.15),
    )
    staleness.new_rows = 8
    names = [policy.name for policy in configured_policies(cast("Staleness", staleness), 20, delay)]
    assert names == ["new_group", "no_labels", "error_rise", "new_rows", "max_age"]
    assert NewRows(8) in configured_policies(cast("Staleness", staleness), 20, delay)
    staleness.schedule, staleness.drift.triggers = timedelta(days=1), True
    *_, drift, schedule = configured_policies(cast("Staleness", staleness), min_rows=20)
    assert (drift, schedule) == (Drift(timedelta(days=30)), Schedule(timedelta(days=1)))


def test_a_weekly_schedule_ends_on_mondays_at_midnight_whenever_a_group_was_attempted() -> None:
    monday, hour = 1_714_953_600_000_000, 3_600_000_000  # 2024-05-06T00:00Z
    weekly = Schedule(timedelta(days=7))
    for attempted, clock, passed in (
        (monday - 1, monday - 1, 0.0),
        (monday - 1, monday, 1.0),
        (monday - 160 * hour, monday - hour, 0.0),
        (monday, monday + 167 * hour, 0.0),
        (monday, monday + 2 * 168 * hour, 2.0),
    ):
        assert measured(weekly, group(champion_id="m", attempted_at=attempted), clock) == passed
    assert np.isnan(measured(weekly, group(attempted_at=monday), monday))
    assert weekly.describe(1.0, 1.0) == "a period has ended since the last attempt (every 7 days)"
    assert weekly.describe(3.0, 1.0) == "3 periods have ended since the last attempt (every 7 days)"


def test_a_group_is_reported_when_its_events_go_on_without_labels_for_longer_than_usual() -> None:
    day = 86_400_000_000
    policy = NoLabels(timedelta(days=7), timedelta(days=1))
    seen = {"champion_id": "m", "event_at": 109 * day, "labelled_at": 101 * day, "labelled_from": 1 * day}
    often, seldom = group(**seen, labelled=201), group(**seen, labelled=51)
    assert measured(policy, often) == measured(policy, seldom) == 7 * day  # eight days, of which one is the delay
    assert policy.limits(often).tolist() == [7 * day]  # two labels a day
    assert policy.limits(seldom).tolist() == [20 * day]  # one every two days, ten of these
    assert np.isnan(measured(policy, group(**seen | {"champion_id": ""})))
    assert np.isnan(measured(policy, group(champion_id="m", event_at=109 * day))), "never labelled"
    assert policy.describe(8.0 * day, 7.0 * day) == "no label came for the events of the last 8 days (limit 7 days)"


def test_a_group_that_has_become_sparse_is_reported_by_its_recent_intervals() -> None:
    day = 86_400_000_000
    policy = NoLabels(timedelta(days=7), half_life=timedelta(days=8))
    # 1,001 labels in 500 days, the last ones every 8 days: 1 + 1/2 + 1/4 and so on, all but 2^-54 of it.
    state = {"labelled": 1_001, "labelled_from": 0, "labelled_at": 500 * day}
    sparse = group(**state, recent_from=68 * day, recent_at=500 * day, recent_labels=2.0)
    assert policy.limits(sparse).tolist() == [pytest.approx(80 * day)]
    unknown = group(**state)  # as after an update from a version that did not count recent labels
    assert policy.limits(unknown).tolist() == [7 * day]  # 5 days, ten of the lifetime's half days
