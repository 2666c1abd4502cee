"""Features of labelled series that were known before each event: earlier labels as of a delay, and the calendar."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

KEY, TIME, LABEL = "key", "event_time", "label"
"""Columns of a series: its group, the time of the event in UTC, the label."""

CALENDARS = {"hour": 24, "month": 12}
"""What repeats, with its number of parts."""


def known_labels(series: pd.DataFrame, lag: str) -> pd.Series:
    """Return for each row the newest label of its group that is at least `lag` older; NaN if there is none.

    series: KEY, TIME, LABEL, sorted by TIME. lag: as of pandas, at least the label delay.
    """
    wanted = pd.DataFrame({KEY: series[KEY], TIME: series[TIME] - pd.Timedelta(lag).as_unit("us")})
    found = pd.merge_asof(wanted, series[[KEY, TIME, LABEL]], on=TIME, by=KEY)
    return found[LABEL].set_axis(series.index)


def with_lags(series: pd.DataFrame, lags: Sequence[str]) -> pd.DataFrame:
    """Return the rows with a column `lag_…` for each lag, without rows that lack one of these labels."""
    ordered = series.sort_values([TIME, KEY], kind="stable", ignore_index=True)
    found = ordered.assign(**{f"lag_{lag}": known_labels(ordered, lag) for lag in lags})
    return found.dropna(subset=[f"lag_{lag}" for lag in lags]).reset_index(drop=True)


def with_calendar(series: pd.DataFrame, parts: Sequence[str], *, weekend: bool = False) -> pd.DataFrame:
    """Return the rows with the sine and cosine of each of these CALENDARS, and whether it is Saturday or Sunday."""
    times = series[TIME].dt
    values = {"hour": times.hour + times.minute / 60.0, "month": times.month - 1.0}
    columns = {}
    for part in parts:
        angle = values[part] * (2.0 * np.pi / CALENDARS[part])
        columns |= {f"{part}_sin": np.sin(angle), f"{part}_cos": np.cos(angle)}
    if weekend:
        columns["weekend"] = (times.dayofweek >= 5).astype("float64")
    return series.assign(**columns)


def in_own_units(series: pd.DataFrame) -> pd.DataFrame:
    """Divide the labels of each group by their mean size, so that no group outweighs the others in the mean loss.

    The unit is a constant of the group, so it tells a model nothing about the future. Groups of only 0 are left out.
    """
    unit = series[LABEL].abs().groupby(series[KEY]).transform("mean")
    return series.assign(label=series[LABEL] / unit)[unit > 0].reset_index(drop=True)


def share_of_keys(series: pd.DataFrame, share: float) -> pd.DataFrame:
    """Return the rows of about this share of the groups, by a hash of their key. Of two shares the smaller counts."""
    codes, keys = pd.factorize(series[KEY])
    is_taken = pd.util.hash_array(np.asarray(keys, dtype=object)) < share * 2.0**64
    return series[is_taken[codes]].reset_index(drop=True)
