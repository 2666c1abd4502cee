"""Baselines on a fleet whose laws change once, each group's at a time of its own."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from spinney.core.backtest.baseline_policies import FixedFactor, Periodic
from spinney.core.backtest.baselines import replay_baselines
from spinney.core.backtest.comparison import compare
from spinney.core.backtest.history import History, LabelTiming
from spinney.core.backtest.replay import ReplaySettings, Steps, replay
from spinney.core.backtest.strategy import Strategy, WithinAllowance
from spinney.core.config import Gate
from spinney.core.planning.budget import RoundAllowance
from spinney.core.recipes.recipe import Feature, Recipe
from spinney.core.staleness.group_state import GroupStates
from spinney.core.staleness.judge import JudgeSettings
from spinney.core.staleness.policies import ErrorRise, MaxAge, NewGroup

DAY_US = 86_400_000_000
START = pd.Timestamp("2026-03-02T00:00Z")
DAYS, GROUPS, A_DAY = 40, 6, 6
RECIPE = Recipe(
    "ridge", (("alpha", "1.0"),), (Feature("x", "double"),), Feature("y", "double"), "regression", "absolute", 12, 60,
    timedelta(days=30),
)  # fmt: skip


def fleet() -> pd.DataFrame:
    random = np.random.default_rng(2)
    rows = DAYS * A_DAY
    parts = []
    for g in range(GROUPS):
        x, day = random.normal(size=rows), np.arange(rows) // A_DAY
        slope = np.where(day >= 12 + 3 * g, 6.0, 1.0)
        parts.append(
            pd.DataFrame(
                {
                    "group_key": f'["g{g:02d}"]',
                    "event_id": [f"e{n}" for n in range(rows)],
                    "event_time": START + pd.Timedelta("3h59min") * np.arange(rows),
                    "x": x,
                    "label": slope * x + random.normal(scale=0.2, size=rows),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def scores():
    history = History.of(fleet(), RECIPE, LabelTiming(0))
    policies = (NewGroup(RECIPE.min_rows), MaxAge(timedelta(days=5), 0.15))
    judge = JudgeSettings(policies, RECIPE.min_rows, 0, 365 * DAY_US, is_wall_clock=False)
    own = Strategy("own", judge, WithinAllowance(RoundAllowance(None)), RECIPE, Gate())
    settings = ReplaySettings(Steps.covering(history, DAY_US), 5 * DAY_US)
    first = replay(history, own, settings)
    found = [first, *replay_baselines(history, own, first, settings)]
    return {score.name: score for score in compare(history, found).scores}


def test_baselines_with_as_many_refits_have_as_many(scores) -> None:
    own = scores["own"]
    assert own.fits > 7 * GROUPS
    assert scores["oldest first, as many"].fits == scores["random, as many"].fits == own.fits
    (periodic,) = (score for name, score in scores.items() if name.startswith("all every") and "as many" in name)
    assert periodic.fits == pytest.approx(own.fits, rel=0.02)
    assert sum(name.startswith("all every") and name.endswith("as long") for name in scores) == 1
    assert scores["hindsight, at most as many"].fits <= own.fits


def test_schedules_refit_as_often_as_they_say(scores) -> None:
    assert scores["never again"].fits_by_policy == {"new_group": GROUPS}
    # First models after two days; then every 7 of the 37 days until the last round, and every 28.
    assert scores["all every 7 d"].fits_by_policy == {"new_group": GROUPS, "max_age": GROUPS * 5}
    assert scores["all every 28 d"].fits_by_policy == {"new_group": GROUPS, "max_age": GROUPS}
    assert scores["50 new rows"].fits_by_policy["new_rows"] == pytest.approx(GROUPS * 37 * A_DAY / 54, rel=0.2)


def test_the_best_in_hindsight_is_best_of_those_that_refit_at_its_times_and_never_again_is_worst(scores) -> None:
    losses = {name: score.loss for name, score in scores.items()}
    assert max(losses, key=losses.get) == "never again"
    assert losses["hindsight, at most as many"] < losses["all every 28 d"] < losses["never again"]
    assert losses["error twice the held-out"] < 0.8 * losses["never again"]


def states(**columns: list) -> GroupStates:
    keys = [f'["g{n}"]' for n in range(len(next(iter(columns.values()))))]
    groups = GroupStates.empty()
    groups.positions_of(keys)
    for name, values in columns.items():
        groups[name][:] = values
    return groups


def test_a_fixed_factor_compares_the_recent_mean_with_the_held_out_one() -> None:
    groups = states(
        champion_rows=[30, 30, 29, 30], baseline=[2.0, 2.0, 2.0, 0.0], recent_weight=[10.0] * 4,
        recent_loss=[40.0, 39.0, 90.0, 90.0],
    )  # fmt: skip
    rule = FixedFactor(2.0, 30)
    assert rule.measure(groups, 0) == pytest.approx([2.0, 1.95, np.nan, np.nan], nan_ok=True)
    assert (rule.measure(groups, 0) >= rule.limits(groups)).tolist() == [True, False, False, False]


def test_periods_of_any_length_end_as_often_as_their_length_says() -> None:
    rule, groups = Periodic(2.4 * DAY_US), states(champion_id=["m"] * 50, attempted_at=[0] * 50)
    refits = np.zeros(50)
    for day in range(1, 241):
        clock = day * DAY_US
        is_due = rule.measure(groups, clock) >= rule.limits(groups)
        groups["attempted_at"][is_due] = clock
        refits += is_due
    assert refits.tolist() == pytest.approx([100] * 50, abs=1)
    assert np.isnan(rule.measure(states(champion_id=["", "m"], attempted_at=[0, -(2**62)]), DAY_US)).all()


def test_a_risen_error_is_found_from_the_losses_that_a_replay_reports() -> None:
    history = History.of(fleet(), RECIPE, LabelTiming(0))
    policies = (NewGroup(RECIPE.min_rows), ErrorRise(timedelta(days=365)))
    judge = JudgeSettings(policies, RECIPE.min_rows, 0, 365 * DAY_US, is_wall_clock=False)
    own = Strategy("own", judge, WithinAllowance(RoundAllowance(None)), RECIPE, Gate())
    found = replay(history, own, ReplaySettings(Steps.covering(history, DAY_US), DAY_US))
    alarms = [step for step, counts in enumerate(found.steps) for _ in range(counts.fits.get("error_rise", 0))]
    # The law of group g changes on day 12 + 3 g. Six labels a day show it on the next day or the one after.
    assert len(alarms) >= GROUPS
    assert set(alarms) & {12, 13, 14}
    assert min(alarms) >= 12
