"""A replay in which the errors of 24 of 60 groups rise on the same day."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd

from spinney.core.backtest.baseline_policies import FixedFactor
from spinney.core.backtest.history import History, LabelTiming
from spinney.core.backtest.replay import ReplaySettings, StepCounts, Steps, replay
from spinney.core.backtest.strategy import Strategy, WithinAllowance
from spinney.core.config import Gate
from spinney.core.planning.brake import MIN_SAMPLE
from spinney.core.planning.budget import RoundAllowance
from spinney.core.recipes.recipe import Feature, Recipe
from spinney.core.staleness.judge import JudgeSettings
from spinney.core.staleness.policies import NewGroup

DAY_US = 86_400_000_000
DAYS, A_DAY, GROUPS, BROKEN, BREAK_DAY = 11, 6, 60, 24, 9
RECIPE = Recipe(
    "ridge", (), (Feature("x", "double"),), Feature("y", "double"), "regression", "absolute", 20, 24,
    timedelta(days=30),
)  # fmt: skip


def history(first_sign: float) -> History:
    """On the break day two rows of the broken groups are off by 40 with this sign, and all later ones by +40."""
    random, rows = np.random.default_rng(6), DAYS * A_DAY
    times = pd.Timestamp("2026-03-02T00:01Z") + pd.Timedelta("4h") * np.arange(rows)
    since_break = np.arange(rows) - A_DAY * BREAK_DAY
    broken = np.where(since_break < 0, 0.0, np.where(since_break < 2, first_sign, 1.0)) * 40.0
    parts = []
    for g in range(GROUPS):
        x = random.normal(size=rows)
        label = x + random.normal(size=rows) + broken * (g < BROKEN)
        parts.append(pd.DataFrame({"group_key": f'["g{g:02d}"]', "event_time": times, "x": x, "label": label}))
    frame = pd.concat(parts, ignore_index=True)
    return History.of(frame.assign(event_id=[f"e{n}" for n in range(len(frame))]), RECIPE, LabelTiming(0))


def step_of_the_break(first_sign: float, brake_share: float) -> StepCounts:
    whole = history(first_sign)
    judge = JudgeSettings((NewGroup(20), FixedFactor(3.0, 5)), RECIPE.min_rows, 0, 365 * DAY_US, is_wall_clock=False)
    own = Strategy("own", judge, WithinAllowance(RoundAllowance(None)), RECIPE, Gate(), brake_share)
    steps = replay(whole, own, ReplaySettings(Steps.covering(whole, DAY_US), 7 * DAY_US)).steps
    # Groups without a model are exempt from the brake.
    assert (steps[3].fits, steps[3].is_braked) == ({"new_group": GROUPS}, False)
    return steps[BREAK_DAY]


def test_without_a_brake_all_groups_are_refitted() -> None:
    step = step_of_the_break(1.0, brake_share=1.0)
    assert (step.fits, step.deferred, step.is_braked) == ({"error_rise": BROKEN}, 0, False)


def test_the_others_follow_a_sample_whose_challengers_are_better() -> None:
    step = step_of_the_break(1.0, brake_share=0.3)
    assert (step.fits, step.deferred, step.is_braked) == ({"error_rise": BROKEN}, 0, True)


def test_the_others_wait_if_the_challengers_of_the_sample_are_worse() -> None:
    """Of 24 rows 20 are fitted, the last two of them off by -40; the held-out ones are off by +40."""
    step = step_of_the_break(-1.0, brake_share=0.3)
    assert (step.fits, step.deferred, step.is_braked) == ({"error_rise": MIN_SAMPLE}, BROKEN - MIN_SAMPLE, True)
