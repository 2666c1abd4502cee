"""Baselines of a strategy: the same recipe and gate, with other rules for when to refit.

Some of them make as many refits as the strategy itself, so that their losses differ by the choice of groups only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from spinney.core.backtest.baseline_policies import FixedFactor, Periodic
from spinney.core.backtest.hindsight import RefitGrid, best_in_hindsight
from spinney.core.backtest.history import MICROSECOND, History
from spinney.core.backtest.replay import Replay, ReplaySettings
from spinney.core.backtest.run import Progress, Show, replay_all, replay_one
from spinney.core.backtest.strategy import EvenlySpread, Selection, Strategy, WithinAllowance
from spinney.core.planning.budget import FIRST_POLICY, RoundAllowance
from spinney.core.staleness.policies import MaxAge, NewGroup, NewRows, Policy

DAY = timedelta(days=1)
HINDSIGHT_TIMES = 52
"""Number of times from which the hindsight baseline chooses, about: weeks in a year. Its cost is the fits of all groups
at all of them."""

MAX_REPLAYS, CLOSE_ENOUGH = 4, 0.01
"""How close the number of refits of `all, as many` has to be, and how often its period is adjusted at most."""

_UNLIMITED = WithinAllowance(RoundAllowance(seconds=None))


def replay_baselines(
    history: History, strategy: Strategy, own: Replay, settings: ReplaySettings, show: Show = lambda _: None
) -> list[Replay]:
    """Return the replays of all baselines. own: that of the strategy, whose number of refits some of them have."""
    replays = replay_all(history, [*_schedules(strategy), *_of_refits(strategy, own.refits, settings)], settings, show)
    if own.refits:
        replays.insert(3, _all_as_many(history, strategy, own, settings, show))
    grid = RefitGrid.every(settings.steps, max(1, round(settings.steps.count / HINDSIGHT_TIMES)))
    if grid.steps:
        name, count = "hindsight", len(grid.steps)
        replays.append(
            best_in_hindsight(
                history, strategy.recipe, grid, replays[0], own.refits, lambda done: show(Progress(name, done, count))
            )
        )
    return replays


def _schedules(own: Strategy) -> list[Strategy]:
    first = NewGroup(own.recipe.min_rows)
    return [
        _variant(own, "never again", (first,)),
        _variant(own, "all every 7 d", (first, MaxAge(7 * DAY))),
        _variant(own, "all every 28 d", (first, MaxAge(28 * DAY))),
        _variant(own, "50 new rows", (first, NewRows(50))),
        _variant(own, "error twice the held-out", (first, FixedFactor(2.0, 30))),
    ]


def _of_refits(own: Strategy, refits: int, settings: ReplaySettings) -> list[Strategy]:
    """Return strategies that spread a number of refits evenly over the steps, among groups with a new row."""
    policies = (NewGroup(own.recipe.min_rows), NewRows(1))
    rounds = max(1, settings.steps.count - 1)
    oldest = EvenlySpread(refits, rounds, RoundAllowance(None, oldest_first_share=1.0))
    random = EvenlySpread(refits, rounds, RoundAllowance(None, random_share=1.0))
    return [
        _variant(own, "oldest first, as many", policies, oldest),
        _variant(own, "random, as many", policies, random),
    ]


def _all_as_many(history: History, strategy: Strategy, own: Replay, settings: ReplaySettings, show: Show) -> Replay:
    """Refit all groups every k days, with the k that gives as many refits as the strategy has."""
    steps_with_model = sum(step.fits.get(FIRST_POLICY, 0) * (len(own.steps) - n) for n, step in enumerate(own.steps))
    every = settings.steps.length * max(1.0, steps_with_model / own.refits)
    for _ in range(MAX_REPLAYS):
        name = f"all every {every / (DAY // MICROSECOND):.1f} d, as many"
        policies = (NewGroup(strategy.recipe.min_rows), Periodic(every))
        found = replay_one(history, _variant(strategy, name, policies), settings, show)
        if abs(found.refits - own.refits) <= CLOSE_ENOUGH * own.refits or not found.refits:
            break
        every = max(1.0, every * found.refits / own.refits)
    return found


def _variant(own: Strategy, name: str, policies: Sequence[Policy], selection: Selection = _UNLIMITED) -> Strategy:
    judge = replace(own.judge, policies=tuple(policies))
    return replace(own, name=name, judge=judge, selection=selection, brake_share=1.0)
