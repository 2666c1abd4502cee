"""False alarms on the losses of flights whose days are put into random order."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spinney.core import keys
from spinney.core.backtest.history import History, LabelTiming
from spinney.core.backtest.replay import ReplaySettings, Steps, replay
from spinney.core.backtest.strategy import Strategy
from spinney.core.config import parse
from spinney.core.staleness.evidence.error_evidence import LIMIT, ErrorEvidence
from spinney.core.staleness.evidence.loss_counting_order import CountedLosses
from spinney.core.staleness.policies import MaxAge, NewGroup

EXAMPLE = Path(__file__).parents[2] / "examples" / "flights" / "fleet.toml"
DAY = 86_400_000_000
PERMUTATIONS = 10
HELD_OUT = 20
WARM_UP_DAYS = 28


def weekly_losses(file: str) -> pd.DataFrame:
    """Return group, day and loss of each flight, answered by models that are refitted weekly whatever happens."""
    config = parse(EXAMPLE.read_text(encoding="utf-8"), "fleet.toml", {})
    data = pd.read_parquet(file).rename(columns={config.fleet.event_time: "event_time", "arrival": "observed_at"})
    names = data[list(config.fleet.group)].itertuples(index=False, name=None)
    data["group_key"], data["label"] = [keys.encode(list(name)) for name in names], data[config.fleet.target]
    own = Strategy.from_config(config, "weekly", cores=2)
    policies = (NewGroup(config.recipe.min_rows), MaxAge(timedelta(days=7)))
    weekly = replace(own, judge=replace(own.judge, policies=policies))
    history = History.of(data[data["label"].notna()], weekly.recipe, LabelTiming.from_config(config))
    steps = Steps.covering(history, DAY)
    losses = replay(history, weekly, ReplaySettings(steps, 7 * DAY)).losses
    day = (history.rows.times - steps.begin) // DAY
    frame = pd.DataFrame({"group": history.group_of_row, "time": history.rows.times, "day": day, "loss": losses})
    return frame[frame["loss"].notna() & (frame["day"] >= WARM_UP_DAYS)]


def permuted_days(file: str, patience: float, seed: int) -> dict[str, Any]:
    """Return false alarms per group-year over PERMUTATIONS orders of the days. patience: days."""
    losses = weekly_losses(file)
    counts = losses["group"].value_counts()
    losses = losses[losses["group"].isin(counts.index[counts >= 2 * HELD_OUT])]
    groups, losses["group"] = losses["group"].nunique(), losses["group"].rank(method="dense").astype(int) - 1
    days = np.sort(losses["day"].unique())
    random = np.random.default_rng(seed)
    alarms = sum(_alarms(losses, groups, dict(zip(days, random.permutation(len(days)), strict=True)), patience)
                 for _ in range(PERMUTATIONS))  # fmt: skip
    years = groups * len(days) / 365 * PERMUTATIONS
    return {
        "errors": "flights, days in random order", "groups": groups, "days": len(days), "rows": len(losses),
        "patience": patience, "false_alarms_per_group_year": round(alarms / years, 4),
        "allowed": round(1.1 * 365 / patience, 4),
    }  # fmt: skip


def _alarms(losses: pd.DataFrame, groups: int, place: dict[int, int], patience: float) -> int:
    """Count the alarms in one order of the days; an alarm restarts the evidence, with the same model."""
    moved = losses.assign(at=losses["day"].map(place) * DAY + losses["time"] % DAY).sort_values("at", kind="stable")
    number = moved.groupby("group").cumcount()
    state, shares = ErrorEvidence.empty(groups), random_shares(groups)
    first = moved[number < HELD_OUT].pivot_table(index="group", columns=number, values="loss").to_numpy()
    state.restart(np.arange(groups), first, np.zeros(groups, dtype=np.int64))
    alarms = 0
    for _, hours in moved[number >= HELD_OUT].groupby(moved["at"] // (DAY // 8)):
        ones = np.ones(len(hours), dtype=np.int64)
        at, times = (hours[name].to_numpy(np.int64) for name in ("group", "at"))
        rows = CountedLosses(at, ones, hours["loss"].to_numpy(), times, ones.astype(np.bool_))
        state = state.counted(rows, shares, round(patience * DAY))
        raised = state.evidence >= LIMIT
        alarms += int(raised.sum())
        state.forget(raised)
    return alarms


def random_shares(groups: int) -> np.ndarray:
    """Return the seed of each group's random numbers, in [0, 1)."""
    return np.random.default_rng(7).random(groups)
