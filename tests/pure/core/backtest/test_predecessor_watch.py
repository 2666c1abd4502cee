"""A replay withdraws a champion that has learned wrong labels, and lets the one before answer again."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import numpy as np
import pandas as pd

from spinney.core.backtest.history import History, LabelTiming
from spinney.core.backtest.replay import Replay, ReplaySettings, Steps, replay
from spinney.core.backtest.strategy import Strategy, WithinAllowance
from spinney.core.config import Gate
from spinney.core.planning.budget import RoundAllowance
from spinney.core.recipes.recipe import Feature, Recipe
from spinney.core.staleness.judge import JudgeSettings
from spinney.core.staleness.policies import NewGroup, NewRows

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
START = pd.Timestamp("2026-03-02T00:30Z")
RECIPE = Recipe(
    "ridge", (("alpha", "1.0"),), (Feature("x", "double"),), Feature("y", "double"), "regression", "absolute", 40, 2000,
    timedelta(days=30),
)  # fmt: skip
WRONG = range(40, 70)
"""Rows of the poisoned group with labels of the wrong sign."""


def rows_of(name: str, *, poisoned: bool) -> pd.DataFrame:
    random = np.random.default_rng(7)
    frame = pd.DataFrame({"x": random.normal(size=130)})
    slope = np.where(frame.index.isin(WRONG) & poisoned, -10.0, 10.0)
    frame["label"] = slope * frame["x"] + random.normal(size=130)
    frame["event_time"] = START + pd.Timedelta("1h") * np.arange(130)
    return frame.assign(group_key=f'["{name}"]', event_id=[f"e{n:03d}" for n in range(130)])


def replayed() -> tuple[History, Replay]:
    frame = pd.concat([rows_of("good", poisoned=False), rows_of("poisoned", poisoned=True)], ignore_index=True)
    policies = (NewGroup(40), NewRows(30))
    judge = JudgeSettings(policies, 40, 0, 365 * DAY_US, is_wall_clock=False)
    plan = Strategy("own", judge, WithinAllowance(RoundAllowance(None)), RECIPE, Gate(jump=float("inf")))
    history = History.of(frame, RECIPE, LabelTiming(0))
    return history, replay(history, plan, ReplaySettings(Steps.covering(history, 5 * HOUR_US), 7 * DAY_US))


def test_only_the_champion_that_has_learned_wrong_labels_is_withdrawn_and_errors_fall_again() -> None:
    history, found = replayed()
    decisions = Counter()
    for step in found.steps:
        decisions.update(step.decisions)
    assert decisions["withdrawn"] == 1
    names = np.array(history.rows.keys)[history.group_of_row]
    losses = found.losses[names == '["poisoned"]']
    # Fitted after 40, 70 and 100 rows: the second fit has learned the wrong labels, the third attempt withdraws it.
    assert losses[70:100].mean() > 2 * losses[105:130].mean()
    good = found.losses[names == '["good"]']
    assert losses[105:130].mean() < 2 * good[105:130].mean()
