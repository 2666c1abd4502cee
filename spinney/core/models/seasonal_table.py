"""Seasonal models: a table of predictions by cells of the week, and how cells are named."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from spinney.core import durations
from spinney.core.features.encoding import Floats, Integers, minutes_of_week

WEEK = 7 * 24 * 60
"""Minutes of a week."""

NAMED_CELLS = {"hour_of_week": (WEEK, 60), "day_of_week": (WEEK, 24 * 60), "hour_of_day": (24 * 60, 60)}


@dataclass(frozen=True)
class Cells:
    """A repeating period of `period` minutes divided into cells of `step` minutes, from Monday 00:00 UTC.

    Raises ValueError unless `period` divides the week and `step` divides `period`.
    """

    period: int
    step: int

    def __post_init__(self) -> None:
        if self.period < 1 or self.step < 1 or WEEK % self.period or self.period % self.step:
            raise ValueError(f"a period of {self.period} minutes in cells of {self.step}: one must divide the other")

    @classmethod
    def named(cls, text: object) -> Cells:
        """Return the cells of ``"hour_of_week"``, ``"day_of_week"``, ``"hour_of_day"`` or a text like ``"12h/30m"``.

        Raises ValueError for anything else.
        """
        if text in NAMED_CELLS:
            return cls(*NAMED_CELLS[str(text)])
        period, _, step = str(text).partition("/")
        return cls(_minutes(period), _minutes(step))

    def __len__(self) -> int:
        return self.period // self.step

    def of(self, minutes: Integers) -> Integers:
        """Return the cell of each minute of the week; `len(self)` for -1, a missing time."""
        return np.where(minutes < 0, len(self), minutes % self.period // self.step)

    def is_refinement_of(self, coarser: Cells) -> bool:
        """Whether each of these cells lies within one cell of `coarser`."""
        return self.period % coarser.period == 0 and coarser.step % self.step == 0

    @property
    def begins(self) -> Integers:
        """The first minute of each cell."""
        return np.arange(len(self), dtype=np.int64) * self.step


@dataclass(frozen=True, eq=False)
class Seasonal:
    """Predictions by the cell of one time feature.

    column, columns: the first of the feature's columns in the encoder's matrix, and how many: 6, or 4 for a date.
    values: shape (n_cells + 1, 1) of predictions or (n_cells + 1, n_classes) of probabilities; the last row is for a
    missing time.
    """

    cells: Cells
    column: int
    columns: int
    values: Floats

    def predict(self, matrix: Floats) -> Floats:
        """Return the predictions, shape (n_rows,): the value of each row's cell."""
        predictions: Floats = self.predict_proba(matrix)[:, 0]
        return predictions

    def predict_proba(self, matrix: Floats) -> Floats:
        """Return the values of each row's cell, shape (n_rows, n_classes): the share of each class in the cell."""
        cycle_columns = matrix[:, self.column : self.column + self.columns]
        predictions: Floats = self.values[self.cells.of(minutes_of_week(cycle_columns))]
        return predictions


def _minutes(text: str) -> int:
    length: Any = durations.parse(text)
    minutes, rest = divmod(length, timedelta(minutes=1))
    if rest:
        raise ValueError(f"expected whole minutes; got {text!r}")
    return int(minutes)
