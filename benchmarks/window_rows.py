"""How many rows of a group a fit should use: the loss by the number of newest rows, on data of several kinds.

Each group is refitted at fixed times on its newest mature rows, by ridge regression or logistic regression on
standardised features, and predicts its events until the next time. There is no gate and no policy. The number of rows
is the only difference: 60 to 2,000 rows, of equal weight or with weights that are halved every so many rows. The table
has the mean loss on the events that all of them predict, divided by the least of the line.

Run: ``python benchmarks/window_rows.py files --fleet rain --share 0.12 --days 28`` (files as of `other_data.py`), or
``python benchmarks/window_rows.py flights-2013.parquet --flights route --share 0.06 --days 10``
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from harness.flights_history import FEATURES, labelled_flights
from harness.other_fleets import FLEETS
from harness.other_series import KEY, LABEL, TIME, share_of_keys
from policies import GROUPINGS, TARGETS
from sklearn.linear_model import LogisticRegression

Floats = npt.NDArray[np.float64]

CHOICES: tuple[tuple[int, float | None], ...] = (
    *((60, None), (100, None), (150, None), (200, None), (300, None), (600, None), (2000, None)),
    *((300, 60.0), (300, 100.0), (600, 100.0), (600, 150.0), (600, 200.0)),
)
"""Number of newest rows, and the number of rows after which a weight is halved."""

MIN_ROWS = 20
_DAY_US = 86_400_000_000


@dataclass(frozen=True)
class Series:
    """The rows of a fleet in the order of time. times: days. labels: of classes 0 and 1. delay: of labels, days."""

    keys: npt.NDArray[np.int64]
    times: Floats
    features: Floats
    labels: Floats
    is_classified: bool
    delay: float

    @classmethod
    def of(cls, rows: pd.DataFrame, features: list[str], *, delay: float, is_classified: bool = False) -> Series:
        """Return the rows of a frame with KEY, TIME and LABEL."""
        ordered = rows.sort_values(TIME, kind="stable")
        times = ordered[TIME].astype("datetime64[us, UTC]").astype("int64").to_numpy() / _DAY_US
        labels = ordered[LABEL]
        values = labels.astype(str) == labels.astype(str).max() if is_classified else labels
        numbers = ordered[features].to_numpy("float64"), values.to_numpy("float64")
        return cls(pd.factorize(ordered[KEY])[0], times, *numbers, is_classified, delay)


def losses(series: Series, days: float) -> Floats:
    """Return the loss of each row by each of CHOICES, shape (len(CHOICES), n_rows); NaN before 20 rows are known.

    days: between refits.
    """
    out = np.full((len(CHOICES), len(series.times)), np.nan)
    for of_group in _groups(series.keys):
        times = series.times[of_group]
        for at in np.arange(series.times.min(), series.times.max(), days):
            begin, end = np.searchsorted(times, [at, at + days], side="right")
            known = int(np.searchsorted(times, at - series.delay, side="right"))
            if begin == end or known < MIN_ROWS:
                continue
            for choice, (rows, half_life) in enumerate(CHOICES):
                fitted = of_group[max(known - rows, 0) : known]
                asked = of_group[begin:end]
                out[choice, asked] = _losses_of_fit(series, fitted, asked, half_life)
    return out


def _groups(keys: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    order = np.argsort(keys, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(keys[order])) + 1)


def _losses_of_fit(
    series: Series, fitted: npt.NDArray[np.int64], asked: npt.NDArray[np.int64], half_life: float | None
) -> Floats:
    labels, expected = series.labels[fitted], series.labels[asked]
    ages = np.arange(len(fitted))[::-1]
    weights = np.ones(len(fitted)) if half_life is None else 0.5 ** (ages / half_life)
    rows, new_rows = _standardized(series.features[fitted], series.features[asked])
    if not series.is_classified:
        return np.asarray(np.abs(_ridge(rows, labels, weights, new_rows) - expected))
    if labels.min() == labels.max():
        shares = np.full(len(asked), labels[0])
    else:
        shares = LogisticRegression().fit(rows, labels, sample_weight=weights).predict_proba(new_rows)[:, 1]
    return np.asarray(-np.log(np.clip(np.where(expected == 1, shares, 1 - shares), 1e-15, 1)))


def _standardized(rows: Floats, new_rows: Floats) -> tuple[Floats, Floats]:
    """Fill gaps with the means of the first, and scale both by the means and deviations of the first."""
    is_known = np.isfinite(rows)
    means = np.where(is_known, rows, 0.0).sum(axis=0) / np.maximum(is_known.sum(axis=0), 1)
    filled = np.where(is_known, rows, means)
    deviations = filled.std(axis=0)
    deviations[deviations == 0] = 1.0
    return (filled - means) / deviations, (np.where(np.isfinite(new_rows), new_rows, means) - means) / deviations


def _ridge(rows: Floats, labels: Floats, weights: Floats, new_rows: Floats) -> Floats:
    """Predictions of ``Ridge(alpha=1)``, in plain NumPy: for a few rows scikit-learn takes fifty times as long."""
    centre, level = weights @ rows / weights.sum(), weights @ labels / weights.sum()
    weighted = (rows - centre).T * weights
    coefficients = np.linalg.solve(weighted @ (rows - centre) + np.eye(rows.shape[1]), weighted @ (labels - level))
    return np.asarray(level + (new_rows - centre) @ coefficients)


def read(file: Path, fleet: str | None, flights: str, target: str, share: float) -> Series:
    """Return a share of the groups of a fleet."""
    if fleet is None:
        rows = labelled_flights(pd.read_parquet(file), GROUPINGS[flights], target)
        return Series.of(share_of_keys(rows.rename(columns={"group_key": KEY}), share), list(FEATURES), delay=0.25)
    other = FLEETS[fleet]
    rows = share_of_keys(other.load(file), share)
    features = [name for name in rows if name not in (KEY, TIME, LABEL)]
    delay = pd.Timedelta(other.label_delay) / pd.Timedelta("1d")
    return Series.of(rows, features, delay=delay, is_classified=other.task == "classification")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, help="folder of `other_data.py`, or the file of the flights")
    parser.add_argument("--fleet", choices=FLEETS, help="[default: the flights]")
    parser.add_argument("--flights", choices=GROUPINGS, default="route")
    parser.add_argument("--target", choices=TARGETS, default=TARGETS[0])
    parser.add_argument("--share", type=float, default=1.0, help="of the groups, by a hash [default: all]")
    parser.add_argument("--days", type=float, default=10.0, help="between refits")
    asked = parser.parse_args()
    series = read(asked.files, asked.fleet, asked.flights, asked.target, asked.share)
    found = losses(series, asked.days)
    means = found[:, np.isfinite(found).all(axis=0)].mean(axis=1)
    print(f"{series.keys.max() + 1:,} groups, {len(series.times):,} events, {series.features.shape[1]} features")
    for (rows, half_life), mean in zip(CHOICES, means, strict=True):
        halved = "" if half_life is None else f", halved every {half_life:g}"
        print(f"| {rows:,} rows{halved} | {mean:.4g} | {mean / means.min():.4f} |")


if __name__ == "__main__":
    main()
