"""The fleets of the benchmark on other data, and its table."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge

from spinney.core.config import parse

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import other_data
import window_rows
from harness import other_series, synthetic_fleets
from harness.other_fleets import FLEETS, OtherFleet, tourism
from policies import as_rows

HOUR = pd.Timedelta("1h").as_unit("us")
AT = pd.Timestamp("2015-01-03T22:00", tz="UTC").as_unit("us")


def series(rows: list[tuple[str, int, float]]) -> pd.DataFrame:
    """Rows of (key, hour of the event, label)."""
    keys, hours, labels = zip(*rows, strict=True)
    return pd.DataFrame({"key": keys, "event_time": [AT + hour * HOUR for hour in hours], "label": labels})


def test_a_lag_is_the_newest_label_of_the_group_that_is_at_least_so_old() -> None:
    rows = series([("a", 0, 10.0), ("b", 0, 70.0), ("a", 1, 20.0), ("a", 3, 30.0), ("a", 4, 40.0)])
    assert other_series.known_labels(rows, "2h").tolist() == pytest.approx(
        [np.nan, np.nan, np.nan, 20.0, 20.0], nan_ok=True
    )
    found = other_series.with_lags(rows, ["2h", "3h"])
    assert found[["label", "lag_2h", "lag_3h"]].to_numpy().tolist() == [[30.0, 20.0, 10.0], [40.0, 20.0, 20.0]]


def test_the_calendar_is_an_angle_of_the_day_or_the_year_and_the_weekend() -> None:
    found = other_series.with_calendar(series([("a", 0, 1.0), ("a", 26, 1.0)]), ["hour", "month"], weekend=True)
    assert found["hour_sin"].tolist() == pytest.approx([-0.5, 0.0], abs=1e-9)  # 22 o'clock, midnight
    assert found["hour_cos"].tolist() == pytest.approx([np.sqrt(3) / 2, 1.0])
    assert found["month_cos"].tolist() == pytest.approx([1.0, 1.0])
    assert found["weekend"].tolist() == [1.0, 0.0]  # a Saturday, a Monday


def test_a_label_in_the_units_of_its_group_has_a_mean_size_of_one_and_a_group_of_zeros_is_left_out() -> None:
    found = other_series.in_own_units(series([("a", 0, 10.0), ("b", 0, 0.0), ("a", 1, -30.0)]))
    assert found[["key", "label"]].to_numpy().tolist() == [["a", 0.5], ["a", -1.5]]


def test_a_share_of_the_groups_has_all_their_rows() -> None:
    rows = series([(f"g{n % 500}", n, 1.0) for n in range(1_000)])
    counts = other_series.share_of_keys(rows, 0.3)["key"].value_counts()
    assert set(counts) == {2}
    assert 100 < len(counts) < 200


def test_of_two_made_up_fleets_only_one_group_in_a_hundred_differs_and_from_half_of_the_time_on() -> None:
    before, after = synthetic_fleets.stationary(), synthetic_fleets.abrupt()
    rise = after["label"] - before["label"]
    is_changed = before["key"].isin(["g0", "g100", "g200", "g300"])
    is_late = before["event_time"] >= pd.Timestamp("2015-05-16", tz="UTC")  # 135 of 270 days
    assert rise.to_numpy() == pytest.approx(np.where(is_changed & is_late, 3.0, 0.0))
    assert before["key"].nunique() == 400


def test_a_quarterly_fleet_has_the_label_of_half_a_year_ago_since_the_last_quarters_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quarters = pd.date_range("1998-01-01", periods=8, freq="QS")
    trips = pd.DataFrame(
        {
            "Quarter": (quarters - pd.Timestamp(0)).days.astype(float),
            "Region": "Perth",
            "Purpose": "Business",
            "Trips": np.arange(1.0, 9.0) * 2 / 9,  # 1 on average
        }
    )
    monkeypatch.setattr("harness.other_fleets._of_r", lambda file: trips if file == tmp_path / "tourism.rda" else None)
    found = tourism(tmp_path)
    assert (found["label"] * 4.5).tolist() == pytest.approx([5.0, 6.0, 7.0, 8.0])
    assert (found["lag_180d"] * 4.5).tolist() == pytest.approx([3.0, 4.0, 5.0, 6.0])
    assert (found["lag_365d"] * 4.5).tolist() == pytest.approx([1.0, 2.0, 3.0, 4.0])


def test_the_benchmark_replays_what_is_proposed_for_a_fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def few(_: Path) -> pd.DataFrame:
        rows = synthetic_fleets.stationary()
        is_early = rows["event_time"] < rows["event_time"].min() + 1440 * HOUR
        return rows[rows["key"].isin(["g1", "g2", "g3"]) & is_early]

    monkeypatch.setitem(FLEETS, "few", OtherFleet("a few groups", few, "36h", "7d"))
    case = other_data.Case.of("few", tmp_path)
    config = parse(case.proposal, "few", {})
    assert (config.fleet.label_delay // HOUR, config.fleet.features) == (36, ("x1", "x2"))
    assert config.recipe.window.days == 90
    rows = list(as_rows(case.name, other_data.run(case, config)))
    assert [row["strategy"] for row in rows[:2]] == ["as configured", "never again"]
    assert rows[0]["ratio"] == 1.0
    assert len(rows) == 11


def test_the_benchmark_of_rows_fits_the_newest_known_rows() -> None:
    days = np.arange(121.0)
    labels = np.where(days < 40, 0.0, 10.0)
    whole = window_rows.Series(np.zeros(121, dtype=np.int64), days, np.zeros((121, 1)), labels, False, 1.0)
    found = dict(zip(window_rows.CHOICES, window_rows.losses(whole, 10.0)[:, 101], strict=True))
    # Day 101 is predicted by the fit of day 100, which knows the labels of the days 0 to 99: forty are 0, sixty are 10.
    assert found[60, None] == pytest.approx(0.0)
    assert found[2000, None] == pytest.approx(4.0)
    newest, older = 0.5 ** (np.arange(60) / 100), 0.5 ** (np.arange(60, 100) / 100)
    assert found[600, 100.0] == pytest.approx(10 * older.sum() / (newest.sum() + older.sum()))


def test_the_benchmark_of_rows_fits_as_scikit_learn_does() -> None:
    random = np.random.default_rng(4)
    rows, weights = random.normal(size=(50, 3)), random.uniform(0.1, 1, size=50)
    labels = rows @ [1.0, -2.0, 0.5] + random.normal(size=50)
    expected = Ridge(alpha=1.0).fit(rows[:40], labels[:40], sample_weight=weights[:40]).predict(rows[40:])
    found = window_rows._ridge(rows[:40], labels[:40], weights[:40], rows[40:])
    np.testing.assert_allclose(found, expected)
