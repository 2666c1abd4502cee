from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.staleness.expected_gain import ExpectedGain
from spinney.core.staleness.group_state import GroupStates

DAY, HOUR = 86_400_000_000, 3_600_000_000
NOW = 1_000 * DAY


def of(**known: float) -> GroupStates:
    """One group that was attempted two days ago, with these values of its state."""
    groups = GroupStates.empty()
    groups.positions_of(['["A"]'])
    for name, value in ({"attempted_at": NOW - 2 * DAY, "champion_id": "m"} | known).items():
        groups[name][0] = value
    return groups


def gain(groups: GroupStates) -> tuple[float, float, float]:
    found = ExpectedGain.of(groups, NOW)
    return float(found.event_rate[0]), float(found.loss_per_day[0]), float(found.per_second[0])


def test_the_gain_is_that_of_a_days_rows_and_the_rank_is_that_per_second() -> None:
    # Thirty recent rows with a mean loss of 5 and ten more at the reference of 3: (30 x 2) / 40 = 1.5 a row, at odds of
    # 3 to 1. Two days of age are 2 % of 3. 80 rows in two days are 40 a day. A fit of 97.6 ms and 2.4 ms besides are a
    # tenth of a second.
    groups = of(recent_loss=150.0, recent_weight=30.0, baseline=3.0, evidence=3.0, rows_since=80, fit_ms=97.6)
    a_day = 40 * (0.75 * 1.5 + 0.02 * 3)
    assert gain(groups) == pytest.approx((40.0, a_day, 10 * a_day))


def test_without_evidence_or_a_recent_loss_the_age_alone_counts() -> None:
    by_age = pytest.approx(40 * 0.02 * 3)
    assert gain(of(recent_loss=150.0, recent_weight=30.0, baseline=3.0, rows_since=80))[1] == by_age
    assert gain(of(recent_loss=60.0, recent_weight=30.0, baseline=3.0, evidence=9.0, rows_since=80))[1] == by_age
    assert gain(of(evidence=9.0, baseline=3.0, rows_since=80))[1] == by_age


def test_a_champion_without_a_reference_ages_like_the_others_of_its_shard() -> None:
    groups = of(recent_loss=150.0, recent_weight=30.0, baseline=np.nan, evidence=9.0, rows_since=80)
    assert gain(groups)[1:] == (0.0, 0.0)
    groups.positions_of(['["B"]'])
    groups["baseline"][1] = 3.0
    assert gain(groups)[1] == pytest.approx(40 * 0.02 * 3)


def test_one_bad_row_ranks_below_thirty_that_are_half_as_bad() -> None:
    one = of(recent_loss=23.0, recent_weight=1.0, baseline=3.0, evidence=1.0, rows_since=80)
    thirty = of(recent_loss=390.0, recent_weight=30.0, baseline=3.0, evidence=1.0, rows_since=80)
    assert gain(one)[2] < gain(thirty)[2]


def test_a_group_never_attempted_has_no_rate_and_one_attempted_now_is_not_taken_for_a_torrent() -> None:
    assert gain(of(attempted_at=-(2**62), rows_since=9))[0] == 0.0
    assert gain(of(attempted_at=NOW, rows_since=9))[0] == pytest.approx(9 * 24)


def test_a_fit_never_measured_is_predicted_to_cost_what_others_of_the_shard_do() -> None:
    groups = of(fit_ms=30.0)
    groups.positions_of(['["B"]', '["C"]'])
    groups["fit_ms"][1] = 10.0
    assert ExpectedGain.of(groups, NOW).predicted_ms.tolist() == [30.0, 10.0, 20.0]
    assert ExpectedGain.of(of(), NOW).predicted_ms.tolist() == [5.0]


@given(
    st.floats(0, 1e9), st.floats(0, 1e3), st.floats(0, 1e9), st.integers(0, 10**9), st.integers(0, 10**6),
    st.floats(0.01, 1e6),
)  # fmt: skip
def test_gains_are_finite_scale_with_the_unit_of_the_loss_and_grow_with_the_recent_loss(
    recent: float, weight: float, baseline: float, rows: int, age_s: int, fit_ms: float
) -> None:
    state = {"recent_weight": weight, "rows_since": rows, "attempted_at": NOW - age_s * 1_000_000, "fit_ms": fit_ms}
    state |= {"evidence": 0.5}
    (_, _, mine), (_, _, doubled), (_, _, worse) = (
        gain(of(recent_loss=loss, baseline=reference, **state))
        for loss, reference in ((recent, baseline), (2 * recent, 2 * baseline), (recent + 1, baseline))
    )
    assert 0.0 <= mine < np.inf
    assert doubled == pytest.approx(2 * mine)
    assert worse >= mine
