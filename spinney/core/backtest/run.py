"""Replay several strategies on one history, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spinney.core.backtest.history import History
from spinney.core.backtest.replay import Replay, ReplaySettings, replay
from spinney.core.backtest.strategy import Strategy


@dataclass(frozen=True)
class Progress:
    """strategy: that is replayed. done: finished steps of `steps`."""

    strategy: str
    done: int
    steps: int


Show = Callable[[Progress], None]


def replay_all(
    history: History, strategies: Sequence[Strategy], settings: ReplaySettings, show: Show = lambda _: None
) -> list[Replay]:
    """Return the replay of each strategy, in their order."""
    return [replay_one(history, strategy, settings, show) for strategy in strategies]


def replay_one(history: History, strategy: Strategy, settings: ReplaySettings, show: Show) -> Replay:
    """Return the replay of one strategy."""
    count = settings.steps.count
    return replay(history, strategy, settings, lambda done: show(Progress(strategy.name, done, count)))
