"""False alarms of `drift` if new predictions are compared with those on training rows, or with those on held-out rows.

Simulated: groups with three normal features and a label that depends on one of them, with noise of half to three
times the signal. All groups are fitted by `fit_groups` and refitted every EVERY days, and predict 4 new rows a day. In
a tenth of the groups the features of the new rows move by two standard deviations or, for classes, closer to the
boundary. All alarms of the others are false; the bound is 1.1 per patience. The groups are in shards of 5, where
nothing counts as a common change.

Run: ``python benchmarks/drift_false_alarms.py --groups 120 --rows 100 --days 28 --every 7``
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pandas as pd
from harness.drift_fleet import DriftFleet, simulate_drift

ESTIMATORS: dict[tuple[str, str], dict[str, object]] = {
    ("random_forest", "classification"): {"n_estimators": 20},
    ("logistic_regression", "classification"): {},
    ("random_forest", "regression"): {"n_estimators": 20},
    ("ridge", "regression"): {},
}


def rows_of(fleet: DriftFleet, patience: timedelta) -> Iterator[dict[str, Any]]:
    """Yield a row of the table for each reference."""
    for reference, outcome in simulate_drift(fleet, patience).items():
        yield {
            "estimator": fleet.estimator,
            "task": fleet.task,
            "reference": reference,
            "false_alarms_per_group_year": round(outcome.false_alarms, 3),
            "found_within_100_rows": round(outcome.found, 3),
        }


def main() -> None:
    """Run the simulation and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, usual in {"groups": 120, "rows": 100, "days": 28, "every": 7, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--patience", type=float, default=365.0, help="days")
    parser.add_argument("--estimator", choices=sorted({name for name, _ in ESTIMATORS}), action="append")
    asked = parser.parse_args()
    began, rows = time.process_time(), []
    for (estimator, task), params in ESTIMATORS.items():
        if asked.estimator and estimator not in asked.estimator:
            continue
        fleet = DriftFleet(estimator, task, asked.groups, asked.rows, asked.days, asked.every, params, asked.seed)
        rows += rows_of(fleet, timedelta(days=asked.patience))
    print(pd.DataFrame(rows).to_string(index=False))
    print(f"{time.process_time() - began:.0f} s of CPU", file=sys.stderr)


if __name__ == "__main__":
    main()
