"""A replay in which the fits of 15 of 24 groups fail in the same round."""

from __future__ import annotations

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
DAYS, A_DAY, GROUPS, BROKEN, BREAK_DAY = 10, 6, 24, 15, 6
RECIPE = Recipe(
    "ridge", (), (Feature("x", "double"),), Feature("y", "double"), "regression", "squared", 18, 200,
    timedelta(days=30),
)  # fmt: skip


def history() -> History:
    """From the break day on the labels of the broken groups are so large that their squared losses are not finite."""
    random, rows = np.random.default_rng(6), DAYS * A_DAY
    times = pd.Timestamp("2026-03-02T00:01Z") + pd.Timedelta("4h") * np.arange(rows)
    parts = []
    for g in range(GROUPS):
        x = random.normal(size=rows)
        is_broken = (np.arange(rows) >= A_DAY * BREAK_DAY) & (g < BROKEN)
        label = np.where(is_broken, 1e200, x + random.normal(size=rows))
        parts.append(pd.DataFrame({"group_key": f'["g{g:02d}"]', "event_time": times, "x": x, "label": label}))
    frame = pd.concat(parts, ignore_index=True)
    return History.of(frame.assign(event_id=[f"e{n}" for n in range(len(frame))]), RECIPE, LabelTiming(0))


@pytest.mark.parametrize(("halt_share", "others"), [(0.5, "held"), (1.0, "unproven")])
def test_a_halted_round_replaces_no_champion(halt_share: float, others: str) -> None:
    whole = history()
    policies = (NewGroup(RECIPE.min_rows), MaxAge(timedelta(days=5)))
    judge = JudgeSettings(policies, RECIPE.min_rows, 0, 365 * DAY_US, is_wall_clock=False)
    own = Strategy(
        "own", judge, WithinAllowance(RoundAllowance(None)), RECIPE, Gate(evidence=1_000), halt_share=halt_share
    )
    steps = replay(whole, own, ReplaySettings(Steps.covering(whole, DAY_US), 7 * DAY_US)).steps
    assert steps[2].decisions == {"unproven": GROUPS}
    assert steps[7].decisions == {"failed": BROKEN, others: GROUPS - BROKEN}
