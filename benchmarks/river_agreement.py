"""Whether a replay is delayed progressive validation: the same losses as by river's `progressive_val_score(delay=)`.

Synthetic groups have a row an hour, whose label becomes known hours later. The replay refits a group after each label.
river predicts and learns event by event, with a model that fits the same ridge by scikit-learn on all rows learned so
far. river is no dependency of Spinney: ``pip install river==0.26.1`` beside it, and
``python benchmarks/river_agreement.py``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from datetime import timedelta

import numpy as np
import pandas as pd
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from spinney.core.backtest.history import History, LabelTiming
from spinney.core.backtest.replay import ReplaySettings, Steps, replay
from spinney.core.backtest.strategy import Strategy, WithinAllowance
from spinney.core.config import Gate
from spinney.core.planning.budget import RoundAllowance
from spinney.core.recipes.recipe import Feature, Recipe
from spinney.core.staleness.judge import JudgeSettings
from spinney.core.staleness.policies import NewGroup, NewRows

HOUR = 3_600_000_000
MIN_ROWS = 6
FEATURES = ("x", "z")
RECIPE = Recipe(
    "ridge", (("alpha", "2.0"),), tuple(Feature(name, "double") for name in FEATURES), Feature("y", "double"),
    "regression", "absolute", MIN_ROWS, 100_000, timedelta(days=3650),
)  # fmt: skip


class GrowingRidge:
    """A regressor with river's methods: fits ridge on all rows that it has learned; None before MIN_ROWS."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, ...]] = []
        self._labels: list[float] = []
        self._fitted: Ridge | None = None

    def learn_one(self, x: Mapping[str, float], y: float) -> None:
        """Learn a row."""
        self._rows.append(tuple(x[name] for name in FEATURES))
        self._labels.append(y)
        if len(self._rows) >= MIN_ROWS:
            self._fitted = make_pipeline(StandardScaler(), Ridge(alpha=2.0)).fit(self._rows, self._labels)

    def predict_one(self, x: Mapping[str, float]) -> float | None:
        """Answer a row."""
        return None if self._fitted is None else float(self._fitted.predict([[x[name] for name in FEATURES]])[0])


def made_up(groups: int, rows: int) -> pd.DataFrame:
    """Return synthetic rows: one an hour in each group, at half past, labelled by a linear function that drifts."""
    random, parts = np.random.default_rng(5), []
    for group in range(groups):
        x, z, noise = random.normal(size=(3, rows))
        times = pd.Timestamp("2026-03-02T00:30Z") + pd.Timedelta("1h") * np.arange(rows)
        label = 3.0 * x + (group + np.arange(rows) / rows) * z + 0.3 * noise
        ids = [f"e{n:05d}" for n in range(rows)]
        columns = {"group_key": f'["g{group}"]', "event_id": ids, "event_time": times, "x": x, "z": z, "label": label}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def replayed_losses(frame: pd.DataFrame, delay: pd.Timedelta) -> pd.Series:
    """Return the losses of a replay that refits after each label, indexed by group_key and event_id."""
    timing = LabelTiming(int(delay.value // 1000))
    policies = (NewGroup(MIN_ROWS), NewRows(1))
    judge = JudgeSettings(policies, MIN_ROWS, timing.label_delay, 365 * 24 * HOUR, is_wall_clock=False)
    # Fewer held-out rows than `evidence`: every challenger goes live, as in river, which has no gate.
    own = Strategy("own", judge, WithinAllowance(RoundAllowance(None)), RECIPE, Gate(evidence=1_000_000))
    history = History.of(frame, RECIPE, timing)
    found = replay(history, own, ReplaySettings(Steps.covering(history, HOUR), 365 * 24 * HOUR))
    names = [history.rows.keys[group] for group in history.group_of_row]
    return pd.Series(found.losses, index=pd.MultiIndex.from_arrays([names, history.rows.ids]))


def rivers_losses(frame: pd.DataFrame, delay: pd.Timedelta) -> pd.Series:
    """Return the losses that river computes, group by group, indexed by group_key and event_id."""
    from river import base, evaluate, metrics

    class Model(GrowingRidge, base.Regressor):
        """GrowingRidge as a regressor of river."""

    losses = {}
    for key, group in frame.groupby("group_key"):
        rows = group.sort_values("event_time")
        events = [
            ({**dict(zip(FEATURES, values, strict=True)), "at": at.to_pydatetime()}, label)
            for values, at, label in zip(
                rows[list(FEATURES)].to_numpy().tolist(), rows["event_time"], rows["label"], strict=True
            )
        ]
        steps = evaluate.iter_progressive_val_score(
            events, Model(), metrics.MAE(), moment="at", delay=delay.to_pytimedelta(), yield_predictions=True
        )
        # One step per label, in the order of the events.
        for event_id, label, step in zip(rows["event_id"], rows["label"], steps, strict=True):
            answer = step["Prediction"]
            losses[key, event_id] = np.nan if answer is None else abs(label - answer)
    return pd.Series(losses)


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=20)
    parser.add_argument("--rows", type=int, default=300, help="of each group")
    asked = parser.parse_args()
    delay = pd.Timedelta("4h15min")
    frame = made_up(asked.groups, asked.rows)
    ours = replayed_losses(frame, delay)
    theirs = rivers_losses(frame, delay).reindex(ours.index)
    is_same = np.isclose(ours, theirs, rtol=1e-9, atol=1e-9, equal_nan=True)
    answered = f"{ours.notna().sum():,} and {theirs.notna().sum():,} answered"
    losses = f"mean loss {ours.mean():.9f} and {theirs.mean():.9f}"
    print(f"{len(ours):,} events, {answered}, {is_same.sum():,} equal; {losses}")
    raise SystemExit(0 if is_same.all() else 1)


if __name__ == "__main__":
    main()
