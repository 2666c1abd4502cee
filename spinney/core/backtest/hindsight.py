"""The best refits in hindsight: a lower bound that no strategy can know.

Refits are possible at every n-th step. Each of them fits a group with the strategy's recipe on the rows that were known
then, and its model answers until the group's next refit, without a gate. Among all such schedules with at most a given
number of refits in the fleet, this takes one with the least total loss.

For one group the best schedule at a price per refit is a shortest path over the times of its refits. The price is
raised until the fleet has no more refits than allowed (Lagrangian relaxation: Everett, "Generalized Lagrange multiplier
method", Operations Research 11, 1963). The schedule that is found is optimal for the number of refits that it has.
Refits at other times, as a strategy may choose them, can be better.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from spinney.core.backtest.history import History
from spinney.core.backtest.replay import Replay, StepCounts, Steps
from spinney.core.features.encoding import Floats, Integers
from spinney.core.models.model import Model
from spinney.core.recipes.recipe import Recipe
from spinney.core.training.comparisons.held_out_loss import RowsToPredict, row_losses
from spinney.core.training.estimators import kernel_for
from spinney.core.training.fit_kernels import single_threaded
from spinney.core.training.loss import loss_named

NAME = "hindsight"
_PRICES_TRIED = 60

Choices = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class RefitGrid:
    """When refits are possible.

    steps: their numbers. times: their ends, microseconds, shape (n_times,).
    """

    steps: tuple[int, ...]
    times: Integers

    @classmethod
    def every(cls, steps: Steps, n: int) -> RefitGrid:
        """Return the end of every n-th step, without the last one, whose models would answer nothing."""
        numbers = tuple(range(n - 1, steps.count - 1, n))
        return cls(numbers, np.array([steps.end_of(step) for step in numbers], dtype=np.int64))

    def interval_of(self, times: Integers) -> Integers:
        """Return for each time the position of the last refit before it; -1 if there is none."""
        positions: Integers = np.searchsorted(self.times, times, "left").astype(np.int64) - 1
        return positions


def best_in_hindsight(
    history: History,
    recipe: Recipe,
    grid: RefitGrid,
    never: Replay,
    refits: int,
    show: Callable[[int], None] = lambda _: None,
) -> Replay:
    """Return the replay with the best refits in hindsight.

    never: the replay in which each group keeps its first model. It answers until a group's first refit here, and only
    the rows that it answered are answered here. refits: maximum number. show: called with the number of times done.
    """
    table = _LossTable(history, recipe, grid, never)
    chosen = choose_refits(table.costs(show), refits)
    losses, counts, ms = table.losses_of(chosen)
    at = dict(zip(grid.steps, zip(counts, ms, strict=True), strict=True))
    steps = [_with_refits(step, *at.get(n, (0, 0.0))) for n, step in enumerate(never.steps)]
    return Replay(f"{NAME}, at most as many", losses, tuple(steps))


def choose_refits(costs: Floats, refits: int) -> Choices:
    """Return which refits to make, shape (n_times, n_groups): the least total cost of at most `refits` of them.

    costs: shape (n_times + 1, n_groups, n_times): the loss of a group in each interval between two times, by the first
    model (position 0) or by the one fitted at each time; infinite where there is no such model. Those of intervals
    before a model was fitted are ignored.
    """
    n_times = costs.shape[2]
    is_fitted = np.arange(-1, n_times)[:, None, None] <= np.arange(n_times)
    cumulated = np.zeros((*costs.shape[:2], n_times + 1))
    np.cumsum(np.where(is_fitted, costs, 0.0), axis=2, out=cumulated[:, :, 1:])
    low, high = 0.0, float(costs[0].sum()) + 1.0
    best = _cheapest(cumulated, low)
    if int(best.sum()) <= refits:
        return best
    best = np.zeros_like(best)
    for _ in range(_PRICES_TRIED):
        price = (low + high) / 2
        found = _cheapest(cumulated, price)
        if int(found.sum()) <= refits:
            best, high = found, price
        else:
            low = price
    return best


def _cheapest(cumulated: Floats, price: float) -> Choices:
    """The schedule of each group with the least cost at a price per refit, shape (n_times, n_groups)."""
    n_times, n_groups = len(cumulated) - 1, cumulated.shape[1]
    value = np.full((n_times + 1, n_groups), np.inf)
    value[0] = 0.0
    before = np.zeros((n_times + 1, n_groups), dtype=np.int64)
    for at in range(n_times):
        until = value[: at + 1] + cumulated[: at + 1, :, at]
        before[at + 1] = until.argmin(axis=0)
        value[at + 1] = until.min(axis=0) + price
    state = (value + cumulated[:, :, n_times]).argmin(axis=0)
    chosen = np.zeros((n_times, n_groups), dtype=np.bool_)
    groups = np.arange(n_groups)
    while (active := state > 0).any():
        chosen[state[active] - 1, groups[active]] = True
        state = np.where(active, before[state, groups], 0)
    return chosen


class _LossTable:
    """The losses of models fitted at the times of a grid, on the rows that the first models answered."""

    def __init__(self, history: History, recipe: Recipe, grid: RefitGrid, never: Replay) -> None:
        self._history, self._recipe, self._grid = history, recipe, grid
        self._never = never.losses
        self._interval = grid.interval_of(history.rows.times)
        self._places = np.flatnonzero(np.isfinite(never.losses) & (self._interval >= 0))
        self._kernel = kernel_for(recipe.estimator, recipe.task, recipe.arguments)
        self._loss = loss_named(recipe.loss)

    def costs(self, show: Callable[[int], None]) -> Floats:
        """Return the argument `costs` of `choose_refits`. show: called with the number of times that are done."""
        n_times, n_groups = len(self._grid.times), self._history.n_groups
        costs = np.full((n_times + 1, n_groups, n_times), np.inf)
        costs[0] = self._sums(self._places, self._never[self._places])
        for at in range(n_times):
            models, _ = self._fit(at, np.arange(n_groups))
            has_model = np.zeros(n_groups, dtype=np.bool_)
            has_model[list(models)] = True
            places = self._places[self._interval[self._places] >= at]
            places = places[has_model[self._history.group_of_row[places]]]
            sums = self._sums(places, self._predict(models, places))
            costs[at + 1, has_model, at:] = np.where(np.isfinite(sums), sums, np.inf)[has_model, at:]
            show(at + 1)
        return costs

    def losses_of(self, chosen: Choices) -> tuple[Floats, list[int], list[float]]:
        """Return the loss of each row under a schedule, and the number and the milliseconds of refits at each time."""
        losses, counts, ms = self._never.copy(), [], []
        fitted_at = np.full(self._history.n_groups, -1, dtype=np.int64)
        for at, groups in enumerate(chosen):
            models, elapsed_ms = self._fit(at, np.flatnonzero(groups)) if groups.any() else ({}, 0.0)
            fitted_at[groups] = at
            is_refitted = fitted_at[self._history.group_of_row[self._places]] == at
            # Until a later refit, which overwrites the rows after it.
            places = self._places[is_refitted & (self._interval[self._places] >= at)]
            losses[places] = self._predict(models, places)
            counts.append(len(models))
            ms.append(elapsed_ms)
        return losses, counts, ms

    def _fit(self, at: int, groups: Integers) -> tuple[dict[int, Model], float]:
        """The models of groups with enough rows, by the group's position; and the milliseconds that they took.

        at: position of the time at which they are fitted. groups: positions of groups.
        """
        rows = self._history.training_set(groups, int(self._grid.times[at]), self._recipe)
        enough = np.flatnonzero(np.diff(rows.starts) >= max(1, self._recipe.min_rows))
        if not len(enough):
            return {}, 0.0
        with single_threaded():
            stack = rows.kernel_input(enough.tolist(), rows.starts[enough + 1], self._recipe)
            fits = self._kernel.fit(stack, time.perf_counter)
        found = zip(groups[enough].tolist(), fits, strict=True)
        return {group: fit.model for group, fit in found if fit.model is not None}, sum(fit.ms for fit in fits)

    def _predict(self, models: dict[int, Model], places: Integers) -> Floats:
        index = np.full(self._history.n_groups, -1, dtype=np.int64)
        index[list(models)] = np.arange(len(models))
        if not len(places):
            return np.empty(0)
        rows = RowsToPredict(places, index[self._history.group_of_row[places]])
        return row_losses(self._history.rows, list(models.values()), rows, self._loss, lambda _: None)[0]

    def _sums(self, places: Integers, losses: Floats) -> Floats:
        """The sum of losses per group and interval, shape (n_groups, n_times)."""
        n_times = len(self._grid.times)
        cell = self._history.group_of_row[places] * n_times + self._interval[places]
        sums = np.bincount(cell, losses, self._history.n_groups * n_times).astype(np.float64)
        return sums.reshape(-1, n_times)


def _with_refits(step: StepCounts, fits: int, ms: float) -> StepCounts:
    if not fits:
        return step
    return replace(step, fits={**step.fits, NAME: fits}, measured_ms=step.measured_ms + ms)
