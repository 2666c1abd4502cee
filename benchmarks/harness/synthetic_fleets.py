"""Synthetic fleets: linear labels with heavy-tailed noise; none or a few of the groups change."""

from __future__ import annotations

import numpy as np
import pandas as pd

from harness.other_series import KEY, LABEL, TIME

GROUPS, DAYS, SEED = 400, 270, 13
CHANGED_ONE_IN = 100
"""In `abrupt` every so many-th group changes halfway."""

_START = pd.Timestamp("2015-01-01", tz="UTC")
_MEDIAN_RATE = 0.8
"""Labels a day of the median group; rates are log-normal with a spread of 1."""


def stationary() -> pd.DataFrame:
    """Return rows in which nothing changes."""
    return _fleet(0.0)


def abrupt() -> pd.DataFrame:
    """Return the same rows, but halfway the label of 1 % of the groups rises by three deviations of the noise."""
    return _fleet(3.0)


def _fleet(shift: float) -> pd.DataFrame:
    random = np.random.default_rng(SEED)
    rates = _MEDIAN_RATE * np.exp(random.normal(size=GROUPS))
    counts = random.poisson(rates * DAYS)
    group = np.repeat(np.arange(GROUPS), counts)
    day = random.uniform(0.0, DAYS, len(group))
    weights = random.normal(size=(GROUPS, 3))
    x = random.normal(size=(len(group), 2))
    noise = random.standard_t(4, len(group)) / np.sqrt(2.0)  # a deviation of 1
    label = weights[group, 0] + (weights[group, 1:] * x).sum(axis=1) + noise
    label += shift * ((group % CHANGED_ONE_IN == 0) & (day >= DAYS / 2))
    rows = pd.DataFrame({KEY: [f"g{n}" for n in group], LABEL: label, "x1": x[:, 0], "x2": x[:, 1]})
    rows[TIME] = (_START + pd.to_timedelta(day, unit="D")).as_unit("us").floor("us")
    return rows.sort_values([TIME, KEY], ignore_index=True)
