"""A replay asks a user's rule of the gate, and refuses to begin without it."""

from __future__ import annotations

import sys
import types
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from recipes import RIDGE

from spinney.core.backtest.history import History, LabelTiming
from spinney.core.backtest.replay import ReplaySettings, Steps, replay
from spinney.core.backtest.strategy import Strategy, WithinAllowance
from spinney.core.config import Gate, parse
from spinney.core.errors import ConfigError
from spinney.core.planning.budget import RoundAllowance
from spinney.core.recipes.recipe import UserRuleTerms
from spinney.core.staleness.judge import JudgeSettings
from spinney.core.staleness.policies import MaxAge, NewGroup

DAY_US = 86_400_000_000
DAYS, A_DAY = 40, 4
NEVER = "rules_of_a_replay:never"
MINIMAL = f"""\
[fleet]
group = ["store"]
event_id = "id"
event_time = "at"
target = "sold"
features = ["x"]
[fleet.columns]
store = "string"
x = "double"
sold = "double"
[gate]
rule = "{NEVER}"
[kafka]
events = "sales"
[storage]
root = "root"
"""


def decisions(rule: str) -> Counter[str]:
    recipe = replace(RIDGE, min_rows=40, user_rule=None if rule == "not_worse" else UserRuleTerms(rule, 30, 0.05))
    random, rows = np.random.default_rng(9), DAYS * A_DAY
    x = random.normal(size=rows)
    times = pd.Timestamp("2026-03-02T00:01Z") + pd.Timedelta("6h") * np.arange(rows)
    frame = pd.DataFrame({"group_key": '["g"]', "event_time": times, "x": x, "label": x + random.normal(size=rows)})
    history = History.of(frame.assign(event_id=[f"e{n}" for n in range(rows)]), recipe, LabelTiming(0))
    judge = JudgeSettings((NewGroup(40), MaxAge(timedelta(days=4))), 40, 0, 365 * DAY_US, is_wall_clock=False)
    own = Strategy("own", judge, WithinAllowance(RoundAllowance(None)), recipe, Gate(rule=rule))
    found = replay(history, own, ReplaySettings(Steps.covering(history, DAY_US), 30 * DAY_US))
    return sum((Counter(step.decisions) for step in found.steps), Counter())


def test_every_challenger_after_the_first_model_is_refused_by_a_rule_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = types.ModuleType("rules_of_a_replay")
    module.never = lambda _: (False, "never")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "rules_of_a_replay", module)
    # The first model after 10 days, a challenger every 4 days after that, on the days 14 to 38.
    assert decisions(NEVER) == {"unproven": 1, "refused": 7}
    assert decisions("not_worse") == {"unproven": 8}  # eight held-out rows at most


def test_a_strategy_whose_rule_is_missing_is_refused_before_the_replay() -> None:
    with pytest.raises(ConfigError, match="expected a module `rules_of_a_replay`"):
        Strategy.from_config(parse(MINIMAL, "fleet.toml", {}), "candidate", 2)
