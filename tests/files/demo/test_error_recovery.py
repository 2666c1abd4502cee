from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from demo.error_recovery import measure_recovery

CHANGE = datetime(2020, 1, 10, tzinfo=UTC)
END = CHANGE + timedelta(days=6)


def hourly(losses):
    """Rows at half past each hour, from two days before the change on; losses: hour since the change -> loss."""
    hours = range(-48, 144)
    times = pd.Series([CHANGE + timedelta(hours=hour + 0.5) for hour in hours])
    return times, np.array([losses(hour) for hour in hours])


def test_recovered_is_the_first_hour_whose_last_day_is_below_one_and_a_half_times_before():
    # Bad for 48 hours: at hour h the last 24 rows hold 72 - h bad ones; 10 (72 - h) + (h - 48) < 36 from h = 71 on.
    found = measure_recovery(*hourly(lambda hour: 10.0 if 0 <= hour < 48 else 1.0), CHANGE, END)
    assert found.before == 1.0
    assert found.hours == 71


def test_an_error_that_never_rose_is_recovered_after_the_first_whole_day():
    assert measure_recovery(*hourly(lambda _: 1.0), CHANGE, END).hours == 24


def test_an_error_that_stays_is_not_recovered():
    assert measure_recovery(*hourly(lambda hour: 1.0 if hour < 0 else 9.0), CHANGE, END).hours is None


def test_a_dip_of_less_than_a_day_is_no_recovery():
    # Good from hour 24 to 47, so that hour 48 is below the limit, then bad until 96.
    found = measure_recovery(
        *hourly(lambda hour: 1.0 if hour < 0 or 24 <= hour < 48 or hour >= 96 else 10.0), CHANGE, END
    )
    assert dict(found.line)[48] == 1.0
    assert found.hours == 119


def test_the_order_of_rows_does_not_matter_and_missing_losses_do_not_count():
    times, losses = hourly(lambda hour: 10.0 if 0 <= hour < 48 else 1.0)
    shuffled = np.random.default_rng(1).permutation(len(times))
    extra = pd.Series([CHANGE + timedelta(hours=60)])
    times = pd.concat([times.iloc[shuffled], extra], ignore_index=True)
    assert measure_recovery(times, np.append(losses[shuffled], np.nan), CHANGE, END).hours == 71


def test_the_line_is_the_mean_of_the_last_24_hours():
    line = dict(measure_recovery(*hourly(lambda hour: 10.0 if 0 <= hour < 48 else 1.0), CHANGE, END).line)
    assert line[-24] == 1.0
    assert line[12] == pytest.approx((12 * 10 + 12 * 1) / 24)
    assert line[24] == 10.0


def test_without_rows_before_the_change_there_is_nothing_to_compare_with():
    times, losses = hourly(lambda _: 1.0)
    found = measure_recovery(times[48:], losses[48:], CHANGE, END)
    assert (found.before, found.hours) == (None, None)
