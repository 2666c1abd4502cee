"""A replay in which the labels of a group rise by ten thousand of its deviations: for good, or for ten days."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from spinney.core.backtest.history import History, LabelTiming
from spinney.core.backtest.replay import ReplaySettings, Steps, replay
from spinney.core.backtest.strategy import Strategy, WithinAllowance
from spinney.core.config import Gate
from spinney.core.planning.budget import RoundAllowance
from spinney.core.recipes.recipe import Feature, Recipe
from spinney.core.staleness.judge import JudgeSettings
from spinney.core.staleness.policies import MaxAge, NewGroup

DAY_US = 86_400_000_000
DAYS, A_DAY, CHANGE, END, RISE = 70, 4, 19, 29, 1e5
"""Days of the history, rows a day; the days on which the change begins, and ends if it does.

The first fit is after 10 days, then every 4 days one: on day 22 the challenger has learned some changed rows and is
measured on others."""
RECIPE = Recipe(
    "ridge", (("alpha", "1.0"),), (Feature("x", "double"),), Feature("y", "double"), "regression", "absolute", 40, 2000,
    timedelta(days=30),
)  # fmt: skip


def losses_by_day(*, lasts: bool, hold: timedelta) -> tuple[np.ndarray, Counter[str]]:
    """The mean loss of each day, and how many of each decision there were."""
    random, rows = np.random.default_rng(9), DAYS * A_DAY
    day = np.arange(rows) // A_DAY
    is_changed = (day >= CHANGE) & (lasts | (day < END))
    x = random.normal(size=rows)
    label = 10 * x + random.normal(size=rows) + np.where(is_changed, RISE, 0.0)
    times = pd.Timestamp("2026-03-02T00:01Z") + pd.Timedelta("6h") * np.arange(rows)
    frame = pd.DataFrame({"group_key": '["g"]', "event_time": times, "x": x, "label": label})
    history = History.of(frame.assign(event_id=[f"e{n}" for n in range(rows)]), RECIPE, LabelTiming(0))
    judge = JudgeSettings((NewGroup(40), MaxAge(timedelta(days=4))), 40, 0, 365 * DAY_US, is_wall_clock=False)
    own = Strategy("own", judge, WithinAllowance(RoundAllowance(None)), RECIPE, Gate(jump_hold=hold))
    found = replay(history, own, ReplaySettings(Steps.covering(history, DAY_US), 30 * DAY_US))
    decisions: Counter[str] = Counter()
    for step in found.steps:
        decisions.update(step.decisions)
    return found.losses.reshape(DAYS, A_DAY).mean(axis=1), decisions


def test_a_jump_that_lasts_longer_than_the_hold_is_learned() -> None:
    losses, decisions = losses_by_day(lasts=True, hold=timedelta(days=14))
    assert decisions["held"] == 4  # on the days 22, 26, 30 and 34; on day 38 it is 16 days since the first one
    assert losses[CHANGE:38].mean() == pytest.approx(RISE, rel=0.01)
    assert losses[60:].mean() < 1.5  # no row before the change is in the window; the mean of the noise is 0.8


def test_a_jump_is_never_learned_if_the_hold_is_longer_than_the_history() -> None:
    losses, decisions = losses_by_day(lasts=True, hold=timedelta(days=365))
    assert decisions["held"] == 12  # every four days from day 22 to 66
    assert losses[CHANGE:].mean() == pytest.approx(RISE, rel=0.01)


def test_labels_that_were_wrong_for_less_than_the_hold_are_never_learned() -> None:
    losses, decisions = losses_by_day(lasts=False, hold=timedelta(days=14))
    assert decisions["held"] == 3  # on the days 22, 26 and 30
    assert losses[END:].mean() < 1.5
