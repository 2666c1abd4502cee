"""Compare replays: mean losses on the same rows, their ratio with an interval, and what each strategy cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.vocabulary import Decision
from spinney.core.backtest.history import History
from spinney.core.backtest.replay import Replay
from spinney.core.errors import ContractError

DAY = 86_400_000_000
RESAMPLES = 2_000
EQUAL_UP_TO = 1.005
"""A loss is equal to another, or less, if the upper bound of its ratio is at most this."""

_CHUNK = 200


@dataclass(frozen=True)
class Ratio:
    """A ratio of mean losses with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def is_equal_or_less(self) -> bool:
        """Whether the whole interval is at most EQUAL_UP_TO: the loss is not more than half a per cent greater."""
        return self.high <= EQUAL_UP_TO


@dataclass(frozen=True)
class Score:
    """One line of the comparison.

    loss: mean on the compared rows. ratio: to the reference's. answered: rows that had an answer. fits_by_policy:
    first models are those of `new_group`. predicted_s, measured_s: of all fits. decisions: of the gate, and attempts
    without a model, by name. overdue: groups that were overdue at the end of any step. braked_steps: steps in which the
    brake acted.
    """

    name: str
    loss: float
    ratio: Ratio
    answered: int
    fits: int
    fits_by_policy: Mapping[str, int]
    predicted_s: float
    measured_s: float
    decisions: Mapping[str, int]
    overdue: int
    braked_steps: int = 0

    @property
    def promoted(self) -> int:
        """Challengers that went live, on thin evidence too."""
        return sum(self.decisions.get(name, 0) for name in (Decision.PROMOTED, Decision.UNPROVEN))

    @property
    def refused(self) -> int:
        """Challengers that the gate refused."""
        return self.decisions.get(Decision.REFUSED, 0)

    @property
    def held(self) -> int:
        """Challengers that wait for a person, who in a replay never comes."""
        return self.decisions.get(Decision.HELD, 0)


@dataclass(frozen=True)
class Comparison:
    """scores: the reference first. rows, days, groups: of the compared events, which every strategy answered."""

    rows: int
    days: int
    groups: int
    scores: tuple[Score, ...]


def compare(history: History, replays: Sequence[Replay], seed: int = 0) -> Comparison:
    """Compare replays of one history with the first of them.

    The interval is a block bootstrap over days of event time: losses of one day share its conditions, so days are
    drawn, not rows (Künsch, "The jackknife and the bootstrap for general stationary observations", Annals of
    Statistics 17, 1989). Conditions that last for several days make it too narrow. Raises ContractError if there is no
    row that all strategies answered.
    """
    losses = np.column_stack([replay.losses for replay in replays])
    compared = np.isfinite(losses).all(axis=1)
    if not compared.any():
        raise ContractError(f"backtest: expected rows that every candidate answered; got none. {_why_none(replays)}")
    day = history.rows.times[compared] // DAY
    _, index = np.unique(day, return_inverse=True)
    sums = np.column_stack([np.bincount(index, column) for column in losses[compared].T])
    ratios = bootstrap_ratios(sums, seed)
    means = losses[compared].mean(axis=0)
    scores = tuple(
        _score(replay, float(mean), ratio) for replay, mean, ratio in zip(replays, means, ratios, strict=True)
    )
    groups = len(np.unique(history.group_of_row[compared]))
    return Comparison(int(compared.sum()), len(sums), groups, scores)


def _why_none(replays: Sequence[Replay]) -> str:
    silent = [replay.strategy for replay in replays if not np.isfinite(replay.losses).any()]
    if not silent:
        return "Each answered other rows: compare candidates with windows that are more alike"
    return (
        f"No model of {', '.join(silent)} answered any: the recipe's window has to hold min_rows rows of a group that "
        "are older than fleet.label_delay, and the history more than one step after them"
    )


def bootstrap_ratios(sums: npt.NDArray[Any], seed: int) -> list[Ratio]:
    """Return the ratio of each column's total to the first one's, with intervals from resampled rows.

    sums: shape (n_blocks, n_columns): losses summed over the rows of each block.
    """
    random, blocks = np.random.default_rng(seed), len(sums)
    parts = []
    for _ in range(RESAMPLES // _CHUNK):
        counts = random.multinomial(blocks, np.full(blocks, 1.0 / blocks), size=_CHUNK)
        parts.append(counts @ sums)
    totals = np.concatenate(parts)
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.nanpercentile(totals / totals[:, :1], [2.5, 97.5], axis=0)
        value = sums.sum(axis=0) / sums.sum(axis=0)[0]
    return [Ratio(*map(float, bounds)) for bounds in zip(value, low, high, strict=True)]


def _score(replay: Replay, loss: float, ratio: Ratio) -> Score:
    by_policy, decisions = Counter[str](), Counter[str]()
    for step in replay.steps:
        by_policy.update(step.fits)
        decisions.update(step.decisions)
    return Score(
        name=replay.strategy,
        loss=loss,
        ratio=ratio,
        answered=int(np.isfinite(replay.losses).sum()),
        fits=replay.fits,
        fits_by_policy=dict(by_policy),
        predicted_s=sum(step.predicted_ms for step in replay.steps) / 1000.0,
        measured_s=sum(step.measured_ms for step in replay.steps) / 1000.0,
        decisions=dict(decisions),
        overdue=len(frozenset[int]().union(*(step.overdue for step in replay.steps))),
        braked_steps=sum(step.is_braked for step in replay.steps),
    )
