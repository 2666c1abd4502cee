from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.reporting.quantile_bands import (
    NO_BANDS,
    QUANTILES,
    QuantileBands,
    make_bands,
    quantiles_by_bucket,
    regular_moments,
    round_step,
)

VALUES = st.lists(st.tuples(st.integers(0, 3), st.floats(-1e6, 1e6)), max_size=40)


@given(VALUES)
def test_the_quantiles_of_each_bucket_are_those_of_numpy(pairs: list[tuple[int, float]]) -> None:
    bucket = np.array([pair[0] for pair in pairs], dtype=np.int64)
    values = np.array([pair[1] for pair in pairs], dtype=np.float64)
    found = quantiles_by_bucket(bucket, values, 5)
    for at in range(5):
        mine = values[bucket == at]
        expected = np.quantile(mine, QUANTILES) if len(mine) else np.full(len(QUANTILES), np.nan)
        np.testing.assert_allclose(found[at], expected, rtol=1e-12, atol=1e-6)


def test_a_time_without_a_group_has_no_quantiles_and_infinite_values_do_not_count() -> None:
    times = tuple(datetime(2024, 5, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(3))
    bands = make_bands(times, np.array([0, 0, 2, 2]), np.array([1.0, 3.0, np.inf, 7.0]))
    assert bands.groups == (2, 0, 1)
    assert bands.quantiles[0] is not None
    assert bands.quantiles[0][2] == 2.0
    assert bands.quantiles[1:] == (None, (7.0,) * 5)


@given(st.integers(0, 10**8), st.integers(0, 10**8), st.integers(1, 50))
def test_the_moments_of_a_later_reading_repeat_those_of_an_earlier_one(start: int, seconds: int, count: int) -> None:
    first = datetime(2024, 5, 1, tzinfo=UTC) + timedelta(seconds=start)
    last = first + timedelta(seconds=seconds)
    step = round_step(first, last, count)
    moments = regular_moments(first, last, step)
    assert moments == tuple(sorted(set(moments)))
    assert moments[-1] == last
    assert all(first <= moment <= last for moment in moments)
    assert len(moments) <= count + 2
    later = regular_moments(first, last + step, step)
    assert later[: len(moments) - 1] == moments[:-1]
    assert all(after - before == step for before, after in itertools.pairwise(moments[:-1]))


def test_bands_of_two_readings_are_put_together_and_the_later_reading_counts() -> None:
    a, b, c = (datetime(2024, 5, day, tzinfo=UTC) for day in (1, 2, 3))
    early, late = QuantileBands((a, b), (1, 2), (None, (2.0,))), QuantileBands((b, c), (5, 6), ((5.0,), (6.0,)))
    assert early.followed_by(late).at((b, c)) == late
    assert NO_BANDS.followed_by(early) == early
