"""Baselines of a strategy: the same recipe and gate, with other rules for when to refit.

Some of them make as many refits as the strategy itself, so that their losses differ by the choice of groups only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from spinney.core.backtest.baseline_policies import FixedFactor, Periodic, SinceAttempt
from spinney.core.backtest.hindsight import RefitGrid, best_in_hindsight
from spinney.core.backtest.history import MICROSECOND, History
from spinney.core.backtest.replay import Replay, ReplaySettings
from spinney.core.backtest.run import Progress, Show, replay_all, replay_one
from spinney.core.backtest.strategy import EvenlySpread, Selection, Strategy, WithinAllowance
from spinney.core.planning.budget import FIRST_POLICY, RoundAllowance
from spinney.core.staleness.policies import NewGroup, NewRows, Policy

DAY = timedelta(days=1)
HINDSIGHT_TIMES = 52
"""Approximate number of times at which the hindsight baseline may refit groups: the weeks of a year. The baseline fits
all groups at each of these times.
"""

MAX_REPLAYS, CLOSE_ENOUGH, ALMOST_AS_LONG = 4, 0.01, 0.05
"""Limits of the search for the period of the baselines `as many` and `as long`: the largest number of replays, and the
share by which the number of refits (`as many`) or the measured time of the fits (`as long`) may differ.
"""

_UNLIMITED = WithinAllowance(RoundAllowance(seconds=None))


def replay_baselines(
    history: History, strategy: Strategy, own: Replay, settings: ReplaySettings, show: Show = lambda _: None
) -> list[Replay]:
    """Return the replays of all baselines.

    own: the strategy's replay. Some baselines make as many refits as it does.
    """
    replays = replay_all(history, [*_schedules(strategy), *_of_refits(strategy, own.refits, settings)], settings, show)
    if own.refits:
        tuning = _PeriodTuning(history, strategy, own, settings, show)
        as_many = tuning.replay("as many", _refits, CLOSE_ENOUGH)
        replays[3:3] = [as_many, tuning.replay("as long", _milliseconds, ALMOST_AS_LONG)]
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
        _variant(own, "all every 7 d", (first, SinceAttempt(7 * DAY / MICROSECOND))),
        _variant(own, "all every 28 d", (first, SinceAttempt(28 * DAY / MICROSECOND))),
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


@dataclass(frozen=True)
class _PeriodTuning:
    """Finds the k for which refitting all groups every k days costs as much as the strategy.

    own: the strategy's replay. tried: the replays so far, by period in microseconds.
    """

    history: History
    strategy: Strategy
    own: Replay
    settings: ReplaySettings
    show: Show
    tried: dict[float, Replay] = field(default_factory=dict)

    def replay(self, name: str, cost: Callable[[Replay], float], close_enough: float) -> Replay:
        """Return the replay whose cost is closest to the strategy's.

        name: appended to the strategy's name. cost: returns the cost of a replay, in any unit. close_enough: share of
        the strategy's cost; the search ends at a smaller difference.
        """
        wanted, every, found = cost(self.own), self._first_guess(), []
        for _ in range(MAX_REPLAYS):
            found.append(self._at(every))
            if abs(cost(found[-1]) - wanted) <= close_enough * wanted:
                break
            # A measured cost may be far off by chance.
            every = max(1.0, every * min(max(cost(found[-1]) / wanted, 0.5), 2.0))
        closest = min(found, key=lambda replay: abs(cost(replay) - wanted))
        return replace(closest, strategy=f"{closest.strategy}, {name}")

    def _first_guess(self) -> float:
        """Return the period in microseconds at which groups would be refitted as often as by the strategy, if each had
        new rows.
        """
        steps = enumerate(self.own.steps)
        with_model = sum(step.fits.get(FIRST_POLICY, 0) * (len(self.own.steps) - n) for n, step in steps)
        return self.settings.steps.length * max(1.0, with_model / self.own.refits)

    def _at(self, every: float) -> Replay:
        if every not in self.tried:
            policies = (NewGroup(self.strategy.recipe.min_rows), Periodic(every))
            name = f"all every {every / (DAY // MICROSECOND):.1f} d"
            variant = _variant(self.strategy, name, policies)
            self.tried[every] = replay_one(self.history, variant, self.settings, self.show)
        return self.tried[every]


def _refits(replay: Replay) -> float:
    return replay.refits


def _milliseconds(replay: Replay) -> float:
    return sum(step.measured_ms for step in replay.steps)


def _variant(own: Strategy, name: str, policies: Sequence[Policy], selection: Selection = _UNLIMITED) -> Strategy:
    judge = replace(own.judge, policies=tuple(policies))
    return replace(own, name=name, judge=judge, selection=selection, brake_share=1.0)
