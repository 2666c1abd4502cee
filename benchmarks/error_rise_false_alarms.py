"""False alarms of `error_rise` on fleets that do not change, and how soon it finds the groups that do.

Simulated: 4 labels a day, champions from 20 held-out losses that are replaced every 90 days; 1 % of the groups change
halfway, by one standard deviation of the errors or to twice of it. The former rule of a plain factor is tuned, on the
same errors, to as many false alarms. `error_rise` uses only the order of losses, so it has the
same alarms with absolute and squared loss; the factor rule is run with both.

Flights (`--flights FILE`): absolute losses of a model of each route refitted weekly, whole days in random order, which
keeps what is common to a day and ends every trend: every alarm is a false one.

Run: ``python benchmarks/error_rise_false_alarms.py --groups 50000 --days 365 --scenario normal``
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from harness.error_fleets import CHANGES, LOSSES, SCENARIOS, Fleet, Outcome, problems, simulate
from harness.error_rules import EachRow, Factor, Never, SequentialTest
from harness.permuted_flight_days import permuted_days

FACTORS = np.geomspace(1.3, 20.0, 40)
TUNING_GROUPS = 5_000


def tuned_factor(fleet: Fleet, false_alarms: float) -> float:
    """Return the smallest factor with at most so many false alarms per group-year on a fleet of TUNING_GROUPS."""
    small = replace(fleet, groups=min(TUNING_GROUPS, fleet.groups))
    low, high = 0, len(FACTORS) - 1
    while low < high:
        middle = (low + high) // 2
        if simulate(small, Factor(small.groups, FACTORS[middle])).false_alarms <= false_alarms:
            high = middle
        else:
            low = middle + 1
    return float(FACTORS[low])


def own_rows(name: str, fleet: Fleet, patience: float, changes: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield a row of `error_rise` for each of these changes. patience: days."""
    for change in changes:
        one = replace(fleet, errors=SCENARIOS[name], change=CHANGES[change])
        outcome = simulate(one, SequentialTest(one.groups, patience))
        yield {"errors": name, "change": change, "rule": "error_rise", **numbers(outcome, patience)}


def rows_of_others(name: str, fleet: Fleet, patience: float, own: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a row of each other rule. own: rows of `error_rise`, to whose false alarms the factor is tuned."""
    for row, loss in product(own, LOSSES):
        one = replace(fleet, errors=SCENARIOS[name], change=CHANGES[row["change"]], loss=LOSSES[loss])
        factor = tuned_factor(one, row["false_alarms_per_group_year"])
        outcome = simulate(one, Factor(one.groups, factor))
        rule = f"{loss} loss, factor {factor:.2f}"
        yield {"errors": name, "change": row["change"], "rule": rule, **numbers(outcome, patience)}
    one = replace(fleet, errors=SCENARIOS[name])
    for rule, named in ((Never(), "never"), (EachRow(one.groups), "each row at 0.05")):
        yield {"errors": name, "change": "mean + 1 sd", "rule": named, **numbers(simulate(one, rule), patience)}


def numbers(outcome: Outcome, patience: float) -> dict[str, Any]:
    """Return an outcome as a row of the table."""
    return {
        "false_alarms_per_group_year": round(outcome.false_alarms, 4),
        "found_within_300_rows": round(outcome.power, 3),
        "median_rows": outcome.median_delay if np.isfinite(outcome.median_delay) else None,
        "problems": problems(outcome, patience),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, usual in {"groups": 50_000, "days": 365, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--patience", type=float, default=365.0, help="days")
    parser.add_argument("--scenario", choices=SCENARIOS, action="append")
    parser.add_argument("--change", choices=CHANGES, action="append")
    parser.add_argument("--own-only", action="store_true", help="without the rules to compare with")
    parser.add_argument("--flights", help="a Parquet file such as examples/flights/departures.parquet")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    began = time.perf_counter()
    if asked.flights:
        rows = [permuted_days(asked.flights, asked.patience, asked.seed)]
    else:
        rows, fleet = [], Fleet(asked.groups, asked.days, seed=asked.seed)
        for name in asked.scenario or SCENARIOS:
            own = list(own_rows(name, fleet, asked.patience, asked.change or list(CHANGES)))
            rows += own if asked.own_only else [*own, *rows_of_others(name, fleet, asked.patience, own)]
    print(json.dumps(rows, indent=1) if asked.json else pd.DataFrame(rows).to_string(index=False))
    print(f"{time.perf_counter() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
