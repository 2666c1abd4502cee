"""Losses of many groups' models on rows of a TrainingSet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spinney.core.errors import FitFailed
from spinney.core.features.encoding import Floats, Integers
from spinney.core.models.batch_scoring import parts
from spinney.core.models.model import Model
from spinney.core.training.loss import Loss
from spinney.core.training.training_rows import History


@dataclass(frozen=True)
class Rows:
    """Rows to predict. places: positions in the TrainingSet. model_index: the model of each row, or NO_MODEL."""

    places: Integers
    which: Integers


def losses(
    history: History, models: Sequence[Model], rows: Rows, loss: Loss, begin: Callable[[int], None]
) -> tuple[Floats, dict[int, Exception]]:
    """The loss of each row, NaN without a model or a finite prediction; and each model's first error, by its index.

    on_begin: called with the index of a model before it predicts.
    """
    out, errors = np.full(len(rows.places), np.nan), {}
    columns, labels = history.columns.take(rows.places), history.labels[rows.places]
    for part in parts(models, rows.which, columns, begin):
        answered = part.raw[:, 0] if part.classes is None else (part.classes, part.raw)
        out[part.rows] = loss.per_row(labels[part.rows], answered)
        if part.error is not None:
            errors[part.model] = part.error
    return out, errors


def means(of: Floats, counts: Integers) -> list[float | None]:
    """The mean of the first counts[0] values, of the next counts[1] and so on; the same bits as `finite_mean`."""
    begins, out = np.cumsum(counts) - counts, np.full(len(counts), np.nan)
    for size in np.unique(counts[counts > 0]).tolist():
        alike = np.flatnonzero(counts == size)
        out[alike] = np.add.reduce(of[begins[alike, None] + np.arange(size)], axis=1) / size
    return [value if math.isfinite(value) else None for value in out.tolist()]


def any_of(marks: npt.NDArray[np.bool_], which: Integers, groups: int) -> npt.NDArray[np.bool_]:
    """Shape (groups,): whether any of the group's rows is marked."""
    return np.bincount(which[marks], minlength=groups) > 0


def split(values: npt.NDArray[Any], which: Integers) -> list[npt.NDArray[Any]]:
    """The values of each group. group_index: ascending, and every group occurs."""
    return np.split(values, np.flatnonzero(np.diff(which)) + 1) if len(which) else []


def mean(of: Floats) -> float | None:
    """The mean; None if there are no values or it is not finite."""
    found = float(np.add.reduce(of) / len(of)) if len(of) else math.nan
    return found if math.isfinite(found) else None


def no_answer(group_key: str, error: Exception | None) -> FitFailed:
    """The error of a model that has no finite prediction for some row. error: what the model raised, if it did."""
    if error is not None:
        return FitFailed.of(group_key, error)
    return FitFailed(group_key, "NotFinite", "the fitted model answered NaN or infinity for rows it was asked about")
