from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from spinney.core.backtest.comparison import bootstrap_ratios, compare
from spinney.core.backtest.history import History, LabelTiming
from spinney.core.backtest.replay import Replay, StepCounts
from spinney.core.errors import ContractError
from spinney.core.recipes.recipe import Feature, Recipe

FEATURES = (Feature("x", "double"),)
RECIPE = Recipe(
    "ridge", (), FEATURES, Feature("y", "double"), "regression", "absolute", 5, 100, pd.Timedelta("9d").to_pytimedelta()
)  # fmt: skip
START = pd.Timestamp("2026-03-02T00:00Z")


def history(rows: int = 8) -> History:
    times = START + pd.Timedelta("6h") * np.arange(rows)
    frame = pd.DataFrame(
        {"group_key": '["a"]', "event_id": [f"e{n}" for n in range(rows)], "event_time": times, "x": 0.0, "label": 1.0}
    )
    return History.of(frame, RECIPE, LabelTiming(0))


def step(end: int, fits: dict[str, int], decisions: dict[str, int], overdue: set[int]) -> StepCounts:
    return StepCounts(end, fits, decisions, 20.0, 10.0, 0, frozenset(overdue))


def test_losses_are_compared_on_the_rows_that_all_strategies_answered() -> None:
    nan = np.nan
    ours = Replay("ours", np.array([nan, 1, 2, 3, 4, 5, 6, nan], dtype=float), ())
    other = Replay("other", np.array([nan, nan, 4, 6, 8, 10, 12, 99], dtype=float), ())
    found = compare(history(), [ours, other])
    assert (found.rows, found.days, found.groups) == (5, 2, 1)
    assert [score.loss for score in found.scores] == [4.0, 8.0]
    assert [score.answered for score in found.scores] == [6, 6]
    ratio = found.scores[1].ratio
    assert (ratio.value, ratio.low, ratio.high) == (2.0, 2.0, 2.0)
    assert not ratio.is_equal_or_less
    assert found.scores[0].ratio.is_equal_or_less


def test_the_fits_and_decisions_of_all_steps_are_added_up() -> None:
    steps = (
        step(1, {"new_group": 3}, {"promoted": 2, "failed": 1}, {0}),
        step(2, {"max_age": 2, "new_rows": 1}, {"unproven": 1, "refused": 2, "held": 4}, {0, 5}),
    )
    (score,) = compare(history(), [Replay("ours", np.ones(8), steps)]).scores
    assert (score.fits, score.fits_by_policy) == (6, {"new_group": 3, "max_age": 2, "new_rows": 1})
    assert (score.promoted, score.refused, score.held, score.overdue) == (3, 2, 4, 2)
    assert (score.predicted_s, score.measured_s) == (0.04, 0.02)


def test_the_interval_of_a_ratio_is_that_of_the_delta_method_for_many_days() -> None:
    random = np.random.default_rng(3)
    ours = random.gamma(20.0, size=400)
    other = 1.1 * ours + random.normal(scale=2.0, size=400)
    ratio = bootstrap_ratios(np.column_stack([ours, other]), seed=1)[1]
    value = other.sum() / ours.sum()
    half = 1.96 * np.std(other - value * ours, ddof=1) / np.sqrt(400) / ours.mean()
    assert ratio.value == pytest.approx(value, rel=1e-14)
    assert (ratio.low, ratio.high) == pytest.approx((value - half, value + half), abs=0.1 * half)


def test_days_are_drawn_whole_so_that_common_shocks_widen_the_interval() -> None:
    random = np.random.default_rng(4)
    shock = np.repeat(random.normal(size=50), 40)
    ours = np.full(2000, 10.0)
    other = 10.0 + shock + 0.1 * random.normal(size=2000)
    by_day = np.column_stack([ours, other]).reshape(50, 40, 2).sum(axis=1)
    days, rows = (bootstrap_ratios(sums, 1)[1] for sums in (by_day, np.column_stack([ours, other])))
    assert (days.high - days.low) > 4 * (rows.high - rows.low)


def test_strategies_that_share_no_answered_row_cannot_be_compared() -> None:
    answered = np.arange(8.0)
    first, second = (Replay(name, np.where(mask, answered, np.nan), ()) for name, mask in (
        ("a", answered < 4), ("b", answered >= 4)
    ))  # fmt: skip
    with pytest.raises(ContractError, match=r"got none\. Each answered other rows"):
        compare(history(), [first, second])


def test_a_strategy_without_any_model_is_named() -> None:
    replays = [Replay(name, np.full(8, loss), ()) for name, loss in (("ours", 1.0), ("short", np.nan))]
    with pytest.raises(
        ContractError, match=r"No model of short answered any: the recipe's window has to hold min_rows"
    ):
        compare(history(), replays)
