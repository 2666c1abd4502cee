"""Cold start: the ladder of a group, its parents and the global model, against own models only and global only.

Two fleets of the flights of New York: by aircraft (4,043 groups, most of them thin) below their carriers, and by
carrier and route below their routes; each below one global model. The first days are loaded history, on
which parents and groups are fitted. Then each day is answered by the champions at its beginning, first models are
fitted for groups with enough rows, and all others a week after their last fit. The rows of a group are the labelled
ones that are known when the day begins.

own only         the group's model, else the median of its own labels, else that of all labels
global only      the global model
constant gate    the ladder, but first models need to beat a constant only
ladder           the ladder as it is: first models need to beat their parent's
pooled           the same with recipe.pooling_rows, and recipe.min_rows = 5
estimated        recipe.pooling_rows = "estimated" and recipe.min_rows = 1, which pools parents too
parents of it    its parents alone

Groups of pooled fleets are refitted after growth by half too, as `new_rows` does by default.

The ratio is the mean absolute loss of each divided by the ladder's, or by that of `--beside`, with a 95 % interval by
a bootstrap over days.

Run: ``python benchmarks/cold_start.py flights-2013.parquet --by tailnum --days 90``; four seasons of 45 days together:
``--days 45 --first-day 0 --first-day 90 --first-day 180 --first-day 270``
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from harness.flights_history import TARGETS, flights_config, labelled_flights
from harness.parents_replay import DAY, Champion, Owners, losses_of, median_losses, parent_history, rows_so_far

from schemas.vocabulary import ESTIMATED
from spinney.core.backtest.comparison import bootstrap_ratios
from spinney.core.backtest.history import History, LabelTiming
from spinney.core.backtest.replay import Steps
from spinney.core.config import Config
from spinney.core.keys import GLOBAL
from spinney.core.recipes.recipe import Recipe

LEVELS: Mapping[str, tuple[list[str], list[list[str]]]] = {
    "tailnum": (["carrier", "tailnum"], [["carrier"], []]),
    "route": (["carrier", "origin", "dest"], [["origin", "dest"], []]),
}
MIN_ROWS_POOLED = 5
BANDS = {"no row": (0, 1), "1 to 4": (1, 5), "5 to 19": (5, 20), "fewer than 20": (0, 20), "20 or more": (20, 1 << 30)}
METHODS = ("ladder", "own only", "global only", "constant gate", "pooled", "estimated", "parents of it")


@dataclass(frozen=True)
class Case:
    """One fleet. pooling_rows: of the pooled variant."""

    by: str
    target: str
    pooling_rows: float

    @property
    def name(self) -> str:
        return f"{self.target} by {self.by}"

    def config(self) -> Config:
        group, parents = LEVELS[self.by]
        sections = f"[recipe]\npooling_rows = {self.pooling_rows}"
        return flights_config(group, self.target, fleet=f"parents = {json.dumps(parents)}", sections=sections)

    def rows(self, flights: pd.DataFrame) -> pd.DataFrame:
        return labelled_flights(flights, LEVELS[self.by][0], self.target)


@dataclass(frozen=True)
class Result:
    """losses: shape (n_rows, methods), in the order of METHODS. day, rows: shape (n_rows,), of each row: when it was
    answered and how many rows its group had. fleets: the groups' fits by method, and the parents'.
    """

    losses: np.ndarray
    day: np.ndarray
    rows: np.ndarray
    fleets: Mapping[str, Owners]


def together(results: Sequence[Result]) -> Result:
    """Return the rows of several seasons, whose days stay apart. The fits are those of the last one."""
    days = [result.day + 1_000 * season for season, result in enumerate(results)]
    losses, rows = ([getattr(result, name) for result in results] for name in ("losses", "rows"))
    return Result(np.concatenate(losses), np.concatenate(days), np.concatenate(rows), results[-1].fleets)


def run(case: Case, flights: pd.DataFrame, warm_up: int) -> Result:
    """Replay a case; progress on standard error. warm_up: days of loaded history, at least 1."""
    config, frame = case.config(), case.rows(flights)
    pooled = Recipe.of(config)
    recipe, timing = replace(pooled, pooling_rows=None), LabelTiming.from_config(config)
    history = History.of(frame, recipe, timing)
    ladder = (tuple(config.fleet.group), *map(tuple, config.fleet.parents))
    estimated = replace(recipe, min_rows=1, pooling_rows=ESTIMATED, ladder=ladder)
    of_parents = {"window_rows": config.recipe.parents.max_rows}
    rows_of_parents = parent_history(frame, config, replace(estimated, **of_parents), timing)
    parents = Owners(rows_of_parents, replace(recipe, **of_parents), config)
    pooled_parents = Owners(rows_of_parents, replace(estimated, **of_parents), config)
    fleets = {
        "own only": Owners(history, recipe, config),
        "ladder": Owners(history, recipe, config, parents),
        "pooled": Owners(history, replace(pooled, min_rows=MIN_ROWS_POOLED), config, parents, growth=True),
        "estimated": Owners(history, estimated, config, pooled_parents, growth=True),
    }
    steps, losses, days, rows = Steps.covering(history, DAY), [], [], []
    for step in range(steps.count):
        begin, end = steps.end_of(step) - DAY, steps.end_of(step)
        places = history.answered_within(begin, end)
        if step >= warm_up:
            losses.append(_losses(history, places, begin, fleets, parents))
            days.append(np.full(len(places), step))
            rows.append(rows_so_far(history, places, begin, recipe))
        if step + 1 >= warm_up:
            for owners in (parents, pooled_parents, *fleets.values()):  # parents first, as in a batch
                owners.refit(end)
        print(f"{case.name}: day {step + 1} of {steps.count}", file=sys.stderr)
    owners = fleets | {"parents": parents, "parents of estimated": pooled_parents}
    return Result(np.concatenate(losses), np.concatenate(days), np.concatenate(rows), owners)


def _losses(
    history: History, places: np.ndarray, begin: int, fleets: Mapping[str, Owners], parents: Owners
) -> np.ndarray:
    loss = fleets["ladder"].recipe.loss
    keys = [history.rows.keys[group] for group in np.unique(history.group_of_row[places]).tolist()]
    nearest = {key: champion for key in keys if (champion := parents.nearest(key)) is not None}
    others: Mapping[str, Champion] = dict.fromkeys(keys, parents.champions[GLOBAL])
    pooled_parents = fleets["estimated"].parents
    pooled = {key: champion for key in keys if (champion := pooled_parents.nearest(key)) is not None}
    ladders = {name: pooled if name == "estimated" else nearest for name in fleets}
    columns = {
        name: losses_of(history, places, ladders[name] | owners.champions, loss) for name, owners in fleets.items()
    }
    columns["parents of it"] = losses_of(history, places, pooled, loss)
    own = losses_of(history, places, fleets["own only"].champions, loss)
    constant = median_losses(history, places, begin, fleets["own only"].recipe)
    columns["constant gate"], columns["own only"] = columns["own only"], np.where(np.isnan(own), constant, own)
    columns["global only"] = losses_of(history, places, others, loss)
    return np.column_stack([columns[name] for name in METHODS])


def as_rows(case: Case, result: Result, beside: str) -> Iterator[dict[str, Any]]:
    """One row per band of rows and method. beside: the method that the others are divided by."""
    names = sorted(METHODS, key=lambda name: name != beside)
    all_losses = result.losses[:, [METHODS.index(name) for name in names]]
    for band, (low, stop) in BANDS.items():
        chosen = np.flatnonzero((result.rows >= low) & (result.rows < stop) & np.isfinite(all_losses).all(axis=1))
        if not len(chosen):
            continue
        _, day = np.unique(result.day[chosen], return_inverse=True)
        sums = np.column_stack([np.bincount(day, column) for column in all_losses[chosen].T])
        means = all_losses[chosen].mean(axis=0).tolist()
        for name, mean, ratio in zip(names, means, bootstrap_ratios(sums, seed=0), strict=True):
            found = {"loss": mean, "ratio": ratio.value, "low": ratio.low, "high": ratio.high}
            yield {"fleet": case.name, "rows_so_far": band, "events": len(chosen), "method": name, **found}


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| rows so far | events | method | loss | ÷ first | 95 % |", "|---|---:|---|---:|---:|---:|"]
    lines += [
        f"| {row['rows_so_far']} | {row['events']:,} | {row['method']} | {row['loss']:.4g} | {row['ratio']:.3f} | "
        f"{row['low']:.3f}–{row['high']:.3f} |"
        for row in rows
    ]
    return "\n".join(lines)


def _show_fits(name: str, result: Result) -> None:
    for method, owners in result.fleets.items():
        counts = f"{owners.fits:,} fits, {owners.refused:,} refused"
        worse = f"{owners.worse_than_constant:,} first models worse than a constant"
        print(f"{name}: {method}: {counts}, {worse}", file=sys.stderr)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flights", type=Path)
    parser.add_argument("--by", choices=LEVELS, action="append")
    parser.add_argument("--target", choices=TARGETS, action="append")
    parser.add_argument("--days", type=int, default=90, help="of a season, from --first-day on")
    parser.add_argument(
        "--first-day", type=int, action="append", help="days of the year before a season, 0 by default; repeatable"
    )
    parser.add_argument("--warm-up", type=int, default=14, help="days of loaded history")
    parser.add_argument("--pooling-rows", type=float, default=20.0)
    parser.add_argument("--beside", choices=METHODS, default="ladder", help="the losses are divided by that of this")
    parser.add_argument("--json", action="store_true", help="print one object per row and line")
    asked = parser.parse_args()
    flights = pd.read_parquet(asked.flights)
    new_year = flights["scheduled_departure"].min().normalize()
    for by in asked.by or LEVELS:
        for target in asked.target or TARGETS:
            case, began, results = Case(by, target, asked.pooling_rows), time.perf_counter(), []
            for first in asked.first_day or [0]:
                begin = new_year + pd.Timedelta(first, "D")
                end = begin + pd.Timedelta(asked.days, "D")
                season = flights[flights["scheduled_departure"].between(begin, end, "left")]
                results.append(run(case, season, asked.warm_up))
                _show_fits(f"{case.name} from day {first}", results[-1])
            rows = list(as_rows(case, together(results), asked.beside))
            print("\n".join(map(json.dumps, rows)) if asked.json else f"**{case.name}**\n\n{markdown(rows)}\n")
            print(f"{case.name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
