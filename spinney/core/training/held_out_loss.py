"""How wrong many groups' models are on rows of their histories."""

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
    """places: in the history. which: of the models is asked about each, or NOBODY."""

    places: Integers
    which: Integers


def losses(
    history: History, models: Sequence[Model], rows: Rows, loss: Loss, begin: Callable[[int], None]
) -> tuple[Floats, dict[int, Exception]]:
    """The loss of each row's model, NaN for nobody and no answer; and what models raised. begin: told of each model."""
    out, errors = np.full(len(rows.places), np.nan), {}
    columns, labels = history.columns.take(rows.places), history.labels[rows.places]
    for part in parts(models, rows.which, columns, begin):
        answered = part.raw[:, 0] if part.classes is None else (part.classes, part.raw)
        out[part.rows] = loss.per_row(labels[part.rows], answered)
        if part.error is not None:
            errors[part.model] = part.error
    return out, errors


def means(of: Floats, counts: Integers) -> list[float | None]:
    """`mean` of the first counts[0] values, of the next counts[1] and so on, the same bits."""
    begins, out = np.cumsum(counts) - counts, np.full(len(counts), np.nan)
    for size in np.unique(counts[counts > 0]).tolist():
        alike = np.flatnonzero(counts == size)
        out[alike] = np.add.reduce(of[begins[alike, None] + np.arange(size)], axis=1) / size
    return [value if math.isfinite(value) else None for value in out.tolist()]


def any_of(marks: npt.NDArray[np.bool_], which: Integers, groups: int) -> npt.NDArray[np.bool_]:
    """Shape (groups,): whether one of the group's rows is marked."""
    return np.bincount(which[marks], minlength=groups) > 0


def split(values: npt.NDArray[Any], which: Integers) -> list[npt.NDArray[Any]]:
    """The values of each group; `which` ascends and names every one."""
    return np.split(values, np.flatnonzero(np.diff(which)) + 1) if len(which) else []


def mean(of: Floats) -> float | None:
    """None for no loss, or one that is not finite."""
    found = float(np.add.reduce(of) / len(of)) if len(of) else math.nan
    return found if math.isfinite(found) else None


def no_answer(group_key: str, error: Exception | None) -> FitFailed:
    """error: what the model raised, if it did."""
    if error is not None:
        return FitFailed.of(group_key, error)
    return FitFailed(group_key, "NotFinite", "the fitted model answered NaN or infinity for rows it was asked about")
