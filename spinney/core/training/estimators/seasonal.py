"""A mean or median of the group's labels for each cell of the week, such as each hour.

A baseline for data with daily or weekly patterns. A cell with fewer than `cell_rows` rows takes the value of the next
coarser cell, and if none has enough, that of all rows (the estimator `constant`). The regression is
the *mean method* taken season by season (Hyndman and Athanasopoulos, Forecasting: Principles and Practice, 3rd edition,
section 5.2). A class' probability is its share in the cell, with the coarser cell's shares added as one row: the
m-estimate with m = 1 (Cestnik, Estimating Probabilities, ECAI 1990), so that a class not seen in a cell has a
probability above 0.

The time is a feature of the fleet, usually the event's own time: ``features = ["read_at", …]``. It is read in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from spinney.core.errors import ContractError
from spinney.core.features.encoding import Encoder, Floats, Integers, minutes_of_week, static_column_names
from spinney.core.models.model import Model
from spinney.core.models.seasonal_table import NAMED_CELLS, Cells, Seasonal
from spinney.core.recipes.recipe import Feature
from spinney.core.training.estimators.constant import weighted_median
from spinney.core.training.fit_kernels import Kernel, KernelInput, KernelResult, Timer

NAME = "seasonal"
TASKS = ("regression", "classification")

CELLS = ("hour_of_week", "hour_of_day")
CELL_ROWS = 5


def kernel(task: str, params: Mapping[str, Any]) -> Kernel:
    """Return the kernel of `seasonal`. params, all optional:

    cells      the finest first, then coarser ones to fall back to: "hour_of_week", "day_of_week", "hour_of_day", or a
               period that divides the week and a step that divides it, as "12h/30m". ["hour_of_week", "hour_of_day"]
               by default
    cell_rows  rows that a cell needs to answer by itself, 5 by default
    statistic  "mean" (by default) or "median"; classification has none
    time       the feature whose time it is; by default the first timestamp, else the first date
    """
    allowed = {"cells", "cell_rows", "time"} | ({"statistic"} if task == "regression" else set())
    statistic, rows, time = params.get("statistic", "mean"), params.get("cell_rows", CELL_ROWS), params.get("time")
    is_valid = isinstance(rows, int) and not isinstance(rows, bool) and rows >= 1 and isinstance(time, str | None)
    if set(params) - allowed or statistic not in {"mean", "median"} or not is_valid:
        raise ContractError(
            f"recipe.params of seasonal for {task}: expected {', '.join(sorted(allowed))}: cell_rows a whole number "
            f'from 1, statistic "mean" or "median", time a feature\'s name; got {dict(params)}'
        )
    return SeasonalKernel(task, _cells(params.get("cells", CELLS)), rows, statistic, time)


def _cells(value: object) -> tuple[Cells, ...]:
    try:
        texts = [value] if isinstance(value, str) else list(value)  # type: ignore[call-overload]
        finest, *coarser = cells = [Cells.named(text) for text in texts]
    except (TypeError, ValueError) as error:
        known = ", ".join(f'"{name}"' for name in NAMED_CELLS)
        raise ContractError(
            f'recipe.params.cells of seasonal: expected a list of {known} or a period and a step, "12h/30m", that '
            f"divide the week and the period; got {value!r}: {error}"
        ) from error
    for at, other in enumerate(coarser, start=1):
        if not finest.is_refinement_of(other):
            raise ContractError(
                f"recipe.params.cells of seasonal: expected cells made up of those of {texts[0]!r}, the first and "
                f"finest; got {texts[at]!r}. Remove it or put the finest first"
            )
    return tuple(cells)


@dataclass(frozen=True)
class SeasonalKernel:
    """The kernel of `seasonal`. cells: the finest first. time: None: the first timestamp, else the first date."""

    task: str
    cells: tuple[Cells, ...]
    cell_rows: int
    statistic: str
    time: str | None

    def fit(self, stack: KernelInput, timer: Timer) -> list[KernelResult]:
        """Fit each group's table."""
        try:
            column, columns = self._place(stack.columns.features)
        except ContractError as error:
            return [KernelResult(0.0, error=error)] * len(stack)
        fits = []
        for g in range(len(stack)):
            began = timer()
            model = self._model(stack, g, column, columns)
            fits.append(KernelResult((timer() - began) * 1e3, model))
        return fits

    def _place(self, features: tuple[Feature, ...]) -> tuple[int, int]:
        """Return the first of the time feature's columns in the matrix, and how many it has."""
        times = {feature.name: feature.type for feature in features if feature.type in {"timestamp", "date"}}
        name = self.time or min(times, key=lambda name: times[name] != "timestamp", default=None)
        if name is None or name not in times:
            got = f"{name!r}" if name else "none"
            raise ContractError(
                f"recipe.estimator seasonal: expected a feature of type timestamp or date; got {got}. Name the "
                f"event's time in fleet.features, or another estimator"
            )
        if times[name] == "date" and any(cells.step % (24 * 60) for cells in self.cells):
            raise ContractError(
                f"recipe.params.cells of seasonal: expected whole days, since {name} is a date; got shorter ones. Set "
                f'cells = ["day_of_week"], or name a timestamp'
            )
        names = static_column_names(features)
        columns = [at for at, column in enumerate(names) if column.startswith(f"{name}.")]
        return columns[0], len(columns)

    def _model(self, stack: KernelInput, g: int, column: int, columns: int) -> Model:
        rows = stack.rows(g)
        own = stack.columns.take(rows)
        weights = np.ones(len(own)) if stack.weights is None else stack.weights[rows]
        minutes = minutes_of_week(own.numbers[:, column : column + columns])
        # No words: it looks at nothing but the time.
        encoder = Encoder(own.features, ((),) * len(own.words))
        if self.task == "regression":
            values = self._table(minutes, [stack.labels[rows]], weights)
            return Model(encoder, Seasonal(self.cells[0], column, columns, values))
        classes = sorted(set(stack.labels[rows].tolist()))
        values = self._table(minutes, [(stack.labels[rows] == label).astype(np.float64) for label in classes], weights)
        return Model(encoder, Seasonal(self.cells[0], column, columns, values), tuple(classes))

    def _table(self, minutes: Integers, labels: Sequence[Floats], weights: Floats) -> Floats:
        """Shape (n_cells + 1, k): the values of every finest cell, filled from the coarsest cells to the finest."""
        finest = self.cells[0]
        table = np.empty((len(finest) + 1, len(labels)))
        table[:] = [self._answer(values, weights) for values in labels]
        known = (minutes >= 0) & (weights > 0)
        for cells in reversed(self.cells):
            own = _Rows(cells.of(minutes[known]), weights[known], len(cells))
            answers = np.column_stack([self._answers(own, values[known]) for values in labels])
            of_finest = cells.of(finest.begins)
            if self.task == "classification":
                total = own.totals[of_finest, None]
                answers = (total * answers[of_finest] + table[:-1]) / (total + 1)
            else:
                answers = answers[of_finest]
            table[:-1] = np.where((own.counts >= self.cell_rows)[of_finest, None], answers, table[:-1])
        return table

    def _answers(self, cells: _Rows, values: Floats) -> Floats:
        """Shape (n_cells,): each cell's mean or median; 0 where it has no rows."""
        if self.statistic == "mean":
            return cells.sums(values) / np.where(cells.counts > 0, cells.totals, 1.0)
        medians = np.zeros(len(cells.counts))
        for cell in np.flatnonzero(cells.counts >= self.cell_rows).tolist():
            is_in_cell = cells.cell == cell
            medians[cell] = weighted_median(values[is_in_cell], cells.weights[is_in_cell])
        return medians

    def _answer(self, values: Floats, weights: Floats) -> float:
        if self.statistic == "median":
            return weighted_median(values, weights)
        return float(np.average(values, weights=weights))


@dataclass(frozen=True)
class _Rows:
    """One group's rows by cell. cell, weights: shape (n_rows,). cells: how many there are."""

    cell: Integers
    weights: Floats
    cells: int

    @cached_property
    def counts(self) -> Integers:
        return np.bincount(self.cell, minlength=self.cells)

    @cached_property
    def totals(self) -> Floats:
        return self.sums(np.ones(len(self.cell)))

    def sums(self, values: Floats) -> Floats:
        """Return the weighted sum of `values` in each cell, shape (cells,)."""
        sums: Floats = np.bincount(self.cell, self.weights * values, minlength=self.cells).astype(np.float64)
        return sums
