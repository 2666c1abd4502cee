"""A replay compared with delayed progressive validation written by hand, event by event, with scikit-learn alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from spinney.core.backtest.history import History, LabelTiming
from spinney.core.backtest.replay import Replay, ReplaySettings, Steps, replay
from spinney.core.backtest.strategy import EvenlySpread, Strategy, WithinAllowance
from spinney.core.config import Gate, parse
from spinney.core.errors import ContractError
from spinney.core.planning.budget import RoundAllowance
from spinney.core.recipes.recipe import Feature, Recipe
from spinney.core.staleness.judge import JudgeSettings
from spinney.core.staleness.policies import MaxAge, NewGroup, NewRows, Policy

HOUR = pd.Timedelta("1h")
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
START = pd.Timestamp("2026-03-02T00:00Z")
FEATURES = (Feature("x", "double"), Feature("z", "double"))
MIN_ROWS = 6
RECIPE = Recipe(
    "ridge", (("alpha", "2.0"),), FEATURES, Feature("y", "double"), "regression", "absolute", MIN_ROWS, 2000,
    timedelta(days=4),
)  # fmt: skip
UNLIMITED = WithinAllowance(RoundAllowance(None))


def fleet(groups: int, rows: int, every: pd.Timedelta, seed: int = 5) -> pd.DataFrame:
    """Rows of each group at the same times, half an hour after each full one; a linear law that drifts."""
    random = np.random.default_rng(seed)
    parts = []
    for g in range(groups):
        x, z = random.normal(size=(2, rows))
        parts.append(
            pd.DataFrame(
                {
                    "group_key": f'["g{g}"]',
                    "event_id": [f"e{n:04d}" for n in range(rows)],
                    "event_time": START + pd.Timedelta("30min") + every * np.arange(rows),
                    "x": x,
                    "z": z,
                    "label": 3.0 * x + (g + np.arange(rows) / rows) * z + random.normal(scale=0.3, size=rows),
                }
            )
        )
    return pd.concat(parts, ignore_index=True).sample(frac=1, random_state=seed)


def strategy(policies: tuple[Policy, ...], label_delay: int = 0, recipe: Recipe = RECIPE) -> Strategy:
    settings = JudgeSettings(policies, recipe.min_rows, label_delay, 365 * DAY_US, is_wall_clock=False)
    # Fewer held-out rows than `evidence`: every challenger goes live, so that the oracle needs no gate.
    return Strategy("own", settings, UNLIMITED, recipe, Gate(evidence=10_000))


def replayed(frame: pd.DataFrame, plan: Strategy, timing: LabelTiming, step: int) -> tuple[pd.DataFrame, Replay]:
    """The labelled rows with a column of losses, and the replay."""
    history = History.of(frame, plan.recipe, timing)
    found = replay(history, plan, ReplaySettings(Steps.covering(history, step), 7 * DAY_US))
    keys = [history.rows.keys[g] for g in history.group_of_row]
    return pd.DataFrame({"group_key": keys, "event_id": history.rows.ids, "ours": found.losses}), found


def fitted(rows: pd.DataFrame):
    return make_pipeline(StandardScaler(), Ridge(alpha=2.0)).fit(rows[["x", "z"]].to_numpy(), rows["label"])


def progressive_losses(group: pd.DataFrame, delay: pd.Timedelta) -> list[float]:
    """As river's `progressive_val_score(delay=...)`: before each prediction the labels that are due are learned."""
    group = group.sort_values("event_time")
    waiting: list[tuple[pd.Timestamp, int]] = []
    revealed: list[int] = []
    model, losses = None, []
    for n, (at, label) in enumerate(zip(group["event_time"], group["label"], strict=True)):
        learned = len(revealed)
        while waiting and waiting[0][0] <= at:
            revealed.append(waiting.pop(0)[1])
        rows = group.iloc[revealed]
        rows = rows[rows["event_time"] >= at.floor("h") - pd.Timedelta("4d")]  # the recipe's window
        if len(revealed) > learned and len(revealed) >= MIN_ROWS:
            model = fitted(rows)
        predicted = np.nan if model is None else model.predict(group[["x", "z"]].to_numpy()[[n]])[0]
        losses.append(abs(label - predicted))
        waiting.append((at + delay, n))
    return losses


def test_refitting_after_every_label_is_delayed_progressive_validation() -> None:
    frame, delay = fleet(2, 60, HOUR), pd.Timedelta("4h15min")
    timing = LabelTiming(int(delay.value // 1000))
    ours, found = replayed(frame, strategy((NewGroup(MIN_ROWS), NewRows(1)), timing.label_delay), timing, HOUR_US)
    for key, group in frame.groupby("group_key"):
        expected = progressive_losses(group, delay)
        assert ours.loc[ours["group_key"] == key, "ours"].to_numpy() == pytest.approx(expected, nan_ok=True)
        assert np.isnan(expected).sum() == 4 + MIN_ROWS  # four labels wait at any time
    assert found.fits == 2 * (60 - 4 - MIN_ROWS + 1 - 1)  # none after the last step


@dataclass
class DailyOracle:
    """Daily refits with late labels, by pandas filters: what was known at midnight, and nothing later."""

    frame: pd.DataFrame
    label_delay: pd.Timedelta
    max_age: pd.Timedelta

    def losses(self) -> pd.Series:
        out = pd.Series(np.nan, index=self.frame.index)
        for _, group in self.frame.groupby("group_key"):
            model, attempted = None, None
            for midnight in pd.date_range(START, periods=15, freq="D"):
                known = group[(group["observed_at"] <= midnight) & (group["event_time"] <= midnight - self.label_delay)]
                known = known[known["event_time"] >= midnight - pd.Timedelta("4d")]
                if len(known) >= MIN_ROWS and (attempted is None or midnight - attempted >= self.max_age):
                    model, attempted = fitted(known), midnight
                asked = group[(group["event_time"] > midnight) & (group["event_time"] <= midnight + pd.Timedelta("1d"))]
                if model is not None and len(asked):
                    out[asked.index] = np.abs(asked["label"] - model.predict(asked[["x", "z"]].to_numpy()))
        return out


def with_late_labels(frame: pd.DataFrame) -> pd.DataFrame:
    hours = np.random.default_rng(8).integers(1, 40, len(frame))
    return frame.reset_index(drop=True).assign(observed_at=lambda rows: rows["event_time"] + HOUR * hours)


def test_labels_are_used_only_from_when_they_were_observed() -> None:
    frame, timing = with_late_labels(fleet(3, 80, 4 * HOUR)), LabelTiming(6 * HOUR_US)
    plan = strategy((NewGroup(MIN_ROWS), MaxAge(timedelta(days=2))), timing.label_delay)
    ours, _ = replayed(frame, plan, timing, DAY_US)
    expected = DailyOracle(frame, pd.Timedelta("6h"), pd.Timedelta("2d")).losses()
    merged = frame.assign(expected=expected).merge(ours, on=["group_key", "event_id"])
    assert merged["ours"].notna().sum() > 150
    assert merged["ours"].to_numpy() == pytest.approx(merged["expected"].to_numpy(), nan_ok=True)


def test_a_later_label_changes_no_loss_before_it_was_observed() -> None:
    frame, timing = with_late_labels(fleet(2, 60, 4 * HOUR)), LabelTiming(6 * HOUR_US)
    plan = strategy((NewGroup(MIN_ROWS), NewRows(3)), timing.label_delay)
    before, _ = replayed(frame, plan, timing, DAY_US)
    cut = START + pd.Timedelta("6d")
    late = frame["observed_at"] > cut
    changed, _ = replayed(frame.assign(label=frame["label"] + 1000.0 * late), plan, timing, DAY_US)
    same = frame.merge(before, on=["group_key", "event_id"]).merge(changed, on=["group_key", "event_id"])
    known = same[(same["observed_at"] <= cut) & (same["event_time"] <= cut)]
    assert len(known) > 40
    assert known["ours_x"].to_numpy() == pytest.approx(known["ours_y"].to_numpy(), nan_ok=True)
    assert not np.allclose(same["ours_x"], same["ours_y"], equal_nan=True)


def test_a_number_of_refits_is_spread_over_the_steps_and_not_exceeded() -> None:
    frame, timing = fleet(6, 90, 4 * HOUR), LabelTiming(0)
    history = History.of(frame, RECIPE, timing)
    steps = Steps.covering(history, DAY_US)
    oldest = EvenlySpread(20, steps.count - 1, RoundAllowance(None, oldest_first_share=1.0))
    plan = replace(strategy((NewGroup(MIN_ROWS), NewRows(1))), selection=oldest)
    found = replay(history, plan, ReplaySettings(steps, DAY_US))
    assert (found.refits, found.fits) == (20, 26)
    refits = [sum(step.fits.values()) - step.fits.get("new_group", 0) for step in found.steps]
    assert max(refits[3:]) <= 2  # 20 in 14 steps; what the first days could not use is used once
    assert found.steps[-1].overdue != frozenset()  # 6 groups, fewer than 2 refits a day: some wait longer than a day


def test_the_fits_of_a_replay_add_up() -> None:
    frame, timing = fleet(4, 60, 4 * HOUR), LabelTiming(0)
    _, found = replayed(frame, strategy((NewGroup(MIN_ROWS), MaxAge(timedelta(days=3)))), timing, DAY_US)
    fits, decisions = Counter(), Counter()
    for step in found.steps:
        fits.update(step.fits)
        decisions.update(step.decisions)
    assert fits == {"new_group": 4, "max_age": 4 * 2}  # ten days: a first model after one, refits after 4 and 7
    assert decisions == {"unproven": 12}


def test_a_history_without_labels_is_refused() -> None:
    frame = fleet(1, 10, HOUR).assign(label=np.nan)
    with pytest.raises(ContractError, match="expected events with a label; got none"):
        History.of(frame, RECIPE, LabelTiming(0))


def test_groups_that_are_pooled_are_refused_since_no_parent_is_replayed() -> None:
    text = """
[fleet]
group = ["shop"]
parents = [[]]
event_id = "id"
event_time = "at"
target = "sold"
features = ["x"]
columns = { shop = "string", x = "double", sold = "double" }
[recipe]
pooling_rows = 20
[kafka]
events = "sales"
[storage]
root = "unused"
"""
    with pytest.raises(
        ContractError, match=r"backtest of pooled: expected no recipe.pooling_rows, .*; got 20\. Remove"
    ):
        Strategy.from_config(parse(text, "fleet.toml", {}), "pooled", cores=1)
    alone = parse(text.replace("pooling_rows = 20", ""), "fleet.toml", {})
    assert Strategy.from_config(alone, "alone", cores=1).recipe.pooling_rows is None
