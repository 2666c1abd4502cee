"""How often the watch withdraws a champion that is as good as the model it replaced, and how soon one that is worse.

Simulated: each group has 4 labels a day. Predecessor and champion err by the same noise plus and minus SHIFT standard
deviations of it, so they are equally good and their losses differ in nearly every row. Every EVERY days an attempt
compares them on all rows since the promotion. A champion is replaced by an equal one after LIFE days, or when it is
withdrawn. 1 % of the groups have champions that err by a further standard deviation.

Run: ``python benchmarks/predecessor_watch.py --groups 50000 --days 365 --scenario normal``
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from harness.error_fleets import LABELS_PER_DAY, LOSSES, SCENARIOS, Errors

from spinney.core.champions.predecessor_watch import level_of_look
from spinney.core.champions.symmetry_test import SymmetricDifference, cut_differences

Floats = npt.NDArray[np.float64]

SHIFT = 0.3
WORSE_SHARE = 0.01


@dataclass(frozen=True)
class WatchedFleet:
    """A simulated fleet, whose first groups have worse champions.

    every: days from one attempt to the next. patience: days. life: days after which an equal champion takes over.
    """

    groups: int
    days: int
    errors: Errors
    loss: Callable[[Floats], Floats] = np.abs
    every: int = 2
    patience: float = 365.0
    seed: int = 0
    life: int = 90

    @property
    def worse(self) -> int:
        """Number of groups with worse champions."""
        return round(self.groups * WORSE_SHARE)


@dataclass(frozen=True)
class Withdrawals:
    """false: withdrawn champions that were as good, per group-year. rows: until each worse champion was withdrawn."""

    false: float
    rows: Floats

    @property
    def found(self) -> float:
        """Share of the groups with worse champions in which one was withdrawn."""
        return float(np.isfinite(self.rows).mean())

    @property
    def median_rows(self) -> float:
        """Median rows until a worse champion was withdrawn; inf if fewer than half were."""
        return float(np.median(self.rows))


def simulate_watch(fleet: WatchedFleet) -> Withdrawals:
    """Run the watch on a fleet."""
    random, level = np.random.default_rng(fleet.seed), level_of_look(fleet.every, int(fleet.patience))
    extra = (np.arange(fleet.groups) < fleet.worse).astype(np.float64)
    since, false, delays = np.zeros(fleet.groups, dtype=np.int64), 0, np.full(fleet.worse, np.inf)
    rows: list[Floats] = []
    for step, errors in enumerate(fleet.errors(random, fleet.days * LABELS_PER_DAY, fleet.groups), 1):
        rows.append(fleet.loss(errors + SHIFT + extra) - fleet.loss(errors - SHIFT))
        if step % (fleet.every * LABELS_PER_DAY):
            continue
        withdrawn = _withdrawn(np.array(rows), since - (step - len(rows)), level)
        false += int(withdrawn[fleet.worse :].sum())
        is_first = withdrawn[: fleet.worse] & np.isinf(delays)
        delays[is_first] = step - since[: fleet.worse][is_first]
        since[withdrawn | (step - since >= fleet.life * LABELS_PER_DAY)] = step
        rows = rows[-fleet.life * LABELS_PER_DAY :]
    years = (fleet.groups - fleet.worse) * fleet.days / 365
    return Withdrawals(false / years, delays)


def _withdrawn(rows: Floats, begins: npt.NDArray[np.int64], level: float) -> npt.NDArray[np.bool_]:
    """Which champions are withdrawn. rows: shape (steps, groups). begins: the first step of each group's champion."""
    counts = len(rows) - begins
    is_counted = np.arange(len(rows))[:, None] >= begins
    means, errors = cut_differences(rows.T[is_counted.T], counts)
    withdrawn = np.zeros(len(counts), dtype=np.bool_)
    with np.errstate(invalid="ignore"):
        likely = np.flatnonzero(means > errors)  # the test asks for more
    for at in likely.tolist():
        difference = SymmetricDifference(float(means[at]), float(errors[at]), int(counts[at]))
        withdrawn[at] = difference.chance_if_equal <= level
    return withdrawn


def row_of(name: str, loss: str, fleet: WatchedFleet) -> dict[str, Any]:
    """A row of the table."""
    found, allowed = simulate_watch(fleet), 365 / fleet.patience
    return {
        "errors": name,
        "loss": loss,
        "attempt_every_days": fleet.every,
        "false_withdrawals_per_group_year": round(found.false, 4),
        "allowed": round(allowed, 4),
        "life_days": fleet.life,
        "worse_withdrawn": round(found.found, 3),
        "median_rows": found.median_rows if np.isfinite(found.median_rows) else None,
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, usual in {"groups": 50_000, "days": 365, "every": 7, "life": 90, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--patience", type=float, default=365.0, help="days")
    parser.add_argument("--scenario", choices=SCENARIOS, action="append")
    parser.add_argument("--loss", choices=LOSSES, action="append")
    asked = parser.parse_args()
    began = time.perf_counter()
    rows = []
    for name in asked.scenario or SCENARIOS:
        for loss in asked.loss or ["absolute"]:
            fleet = WatchedFleet(
                asked.groups,
                asked.days,
                SCENARIOS[name],
                LOSSES[loss],
                asked.every,
                asked.patience,
                asked.seed,
                asked.life,
            )
            rows.append(row_of(name, loss, fleet))
    print(pd.DataFrame(rows).to_string(index=False))
    print(f"{time.perf_counter() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
