"""Losses of many groups' models on rows of a TrainingSet."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from spinney.core.errors import FitFailed
from spinney.core.features.encoding import Floats, Integers
from spinney.core.models.batch_scoring import predict_parts
from spinney.core.models.model import Model
from spinney.core.recipes.recipe import Feature
from spinney.core.training.loss import Loss
from spinney.core.training.training_set import TrainingSet


@dataclass(frozen=True)
class RowsToPredict:
    """Rows to predict. places: positions in the TrainingSet. model_index: the model of each row, or NO_MODEL."""

    places: Integers
    model_index: Integers


@dataclass(frozen=True)
class MeasuredRows:
    """Predictions of models, each of shape (n_rows,), and each model's first error, by its index.

    losses: NaN without a model or a finite prediction. predictions: NaN also if the labels are classes. values: the
    predictions; where the labels are classes, the largest probability.
    """

    losses: Floats
    predictions: Floats
    values: Floats
    errors: dict[int, Exception]

    def at(self, rows: Integers) -> MeasuredRows:
        """Return the rows at these positions, with the errors of all groups."""
        return MeasuredRows(self.losses[rows], self.predictions[rows], self.values[rows], self.errors)

    @classmethod
    def nothing(cls, rows: int) -> MeasuredRows:
        """Return the result for this many rows without a model: no losses and no errors."""
        return cls(np.full(rows, np.nan), np.full(rows, np.nan), np.full(rows, np.nan), {})


def measure_rows(
    training_set: TrainingSet, models: Sequence[Model], rows: RowsToPredict, loss: Loss, on_begin: Callable[[int], None]
) -> MeasuredRows:
    """Predict rows, and compare the predictions with their labels.

    on_begin: called with the index of a model before it predicts.
    """
    measured = MeasuredRows.nothing(len(rows.places))
    columns, labels = training_set.columns.take(rows.places), training_set.labels[rows.places]
    for part in predict_parts(models, rows.model_index, columns, on_begin):
        predictions = part.raw[:, 0] if part.classes is None else (part.classes, part.raw)
        measured.losses[part.rows] = loss.per_row(labels[part.rows], predictions)
        measured.values[part.rows] = part.raw.max(axis=1)
        if part.classes is None:
            measured.predictions[part.rows] = part.raw[:, 0]
        if part.error is not None:
            measured.errors[part.model] = part.error
    return measured


def measure_models(
    training_set: TrainingSet,
    models: Mapping[int, Model],
    rows: RowsToPredict,
    loss: Loss,
    on_begin: Callable[[int], None],
) -> MeasuredRows:
    """Measure models that may have different features; otherwise as `measure_rows`.

    models: by their index in `rows`; rows of other models have no loss. Columns are encoded once for all models of the
    same features.
    """
    measured = MeasuredRows.nothing(len(rows.places))
    by_features: dict[tuple[Feature, ...], list[int]] = {}
    for index in sorted(models):
        by_features.setdefault(models[index].encoder.features, []).append(index)
    for features, indices in by_features.items():
        asked = np.flatnonzero(np.isin(rows.model_index, indices))
        found = measure_rows(
            training_set.with_features(features),
            [models[index] for index in indices],
            RowsToPredict(rows.places[asked], np.searchsorted(indices, rows.model_index[asked])),
            loss,
            partial(_report_index, on_begin, indices),
        )
        measured.losses[asked], measured.predictions[asked] = found.losses, found.predictions
        measured.values[asked] = found.values
        measured.errors.update({indices[position]: error for position, error in found.errors.items()})
    return measured


def _report_index(on_begin: Callable[[int], None], indices: Sequence[int], position: int) -> None:
    on_begin(indices[position])


def row_losses(
    training_set: TrainingSet, models: Sequence[Model], rows: RowsToPredict, loss: Loss, on_begin: Callable[[int], None]
) -> tuple[Floats, dict[int, Exception]]:
    """Return the losses and errors of `measure_rows`."""
    measured = measure_rows(training_set, models, rows, loss, on_begin)
    return measured.losses, measured.errors


def mean_per_group(values: Floats, counts: Integers) -> list[float | None]:
    """Return the mean of the first counts[0] values, the next counts[1] and so on, each as by `finite_mean`."""
    begins, out = np.cumsum(counts) - counts, np.full(len(counts), np.nan)
    for size in np.unique(counts[counts > 0]).tolist():
        alike = np.flatnonzero(counts == size)
        out[alike] = np.add.reduce(values[begins[alike, None] + np.arange(size)], axis=1) / size
    return finite_or_none(out)


def finite_or_none(values: Floats) -> list[float | None]:
    """Return the values as JSON can hold them: None in place of NaN and infinity."""
    return [value if math.isfinite(value) else None for value in values.tolist()]


def rows_of_columns(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return one dictionary per row. columns: of equal length."""
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def any_per_group(is_marked: npt.NDArray[np.bool_], which: Integers, groups: int) -> npt.NDArray[np.bool_]:
    """Return whether any of each group's rows is marked, shape (groups,)."""
    return np.bincount(which[is_marked], minlength=groups) > 0


def split_by_group(values: npt.NDArray[Any], group_index: Integers) -> list[npt.NDArray[Any]]:
    """Return the values of each group. group_index: ascending, and every group occurs."""
    return split_by_count(values, np.bincount(group_index))


def split_by_count(values: npt.NDArray[Any], counts: Integers) -> list[npt.NDArray[Any]]:
    """Return the first counts[0] values, the next counts[1] and so on.

    `np.split` does the same in ten times the time.
    """
    stops = np.cumsum(counts).tolist()
    return [values[begin:stop] for begin, stop in zip([0, *stops], stops, strict=False)]


def finite_mean(values: Floats) -> float | None:
    """Return the mean of some values; None if there are none or it is not finite."""
    found = float(np.add.reduce(values) / len(values)) if len(values) else math.nan
    return found if math.isfinite(found) else None


def not_finite_error(group_key: str, error: Exception | None) -> FitFailed:
    """Return the error of a model without a finite prediction for some row. error: what the model raised, if it did."""
    if error is not None:
        return FitFailed.of(group_key, error)
    return FitFailed(group_key, "NotFinite", "the fitted model answered NaN or infinity for rows it was asked about")
