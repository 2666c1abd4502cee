"""Predictions of many groups' models for one frame with rows of many groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from spinney.core.errors import MAX_ERROR_CHARACTERS
from spinney.core.features.arrow_encoding import table_to_columns
from spinney.core.features.encoding import Columns, Floats, Integers, to_columns
from spinney.core.models.linear import Linear, predict_linear
from spinney.core.models.model import Model, labels_of

NO_MODEL = -1

MAX_ERRORS_PER_MODEL = 64
"""Errors of one model in a batch after which its remaining rows get no prediction. Without a limit, a model that always
raises would be called twice for each row."""


FEW_NAMES = 64
"""Up to this many names are numbered by a dict, at less than 1 us each; pandas takes 45 us for any number."""


@dataclass(frozen=True)
class BatchPredictions:
    """One prediction per row, in the frame's order.

    prediction: shape (n_rows,): float64 for regression, NaN if there is none; texts for classification, None if there
    is none. All None (dtype object) if there is no model at all.
    probabilities: for classification, per row class -> probability, or None; None for regression.
    errors: model_id -> the first error of its estimator; the rows that it raised for have no prediction.
    """

    prediction: npt.NDArray[Any]
    probabilities: list[dict[str, float] | None] | None
    errors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelPredictions:
    """Predictions of one model, or of several linear models with the same classes.

    rows: positions in the frame. raw: as of Model.raw_predictions. model: index of the model, or of the first of
    several. error: the first error of a single model's estimator; the rows that it raised for are NaN.
    """

    rows: Integers
    raw: Floats
    classes: tuple[str, ...] | None
    model: int
    error: Exception | None = None


def predict_by_id(
    frame: pd.DataFrame, model_ids: Sequence[str | None], models: Mapping[str, Model]
) -> BatchPredictions:
    """Predict each row with its own model.

    frame: the features; other columns and any index are allowed. Left unchanged. model_ids: shape (n_rows,); rows whose
    id is null or not in `models` get no prediction. Raises ContractError if a feature is missing or of another type.
    """
    numbers, names = pd.factorize(np.asarray(model_ids, dtype=object))
    return predict_by_index(frame, numbers, names.tolist(), models)


def number_names(names: Sequence[str | None]) -> tuple[Integers, list[str]]:
    """Number names in the order in which they first occur, as pandas.factorize does.

    Returns the number of each name, shape (n_names,), with NO_MODEL for None; and the distinct names, so that position
    i has the name of number i.
    """
    if len(names) > FEW_NAMES:
        numbers, distinct = pd.factorize(np.asarray(names, dtype=object))
        return numbers, distinct.tolist()
    found: dict[str, int] = {}
    listed = [NO_MODEL if name is None else found.setdefault(name, len(found)) for name in names]
    return np.array(listed, dtype=np.int64), list(found)


def predict_by_index(
    frame: pd.DataFrame | pa.Table, model_index: Integers, model_ids: Sequence[str | None], models: Mapping[str, Model]
) -> BatchPredictions:
    """Predict rows that name their model by its position in `model_ids`; else as `predict_by_id`.

    frame: a pandas frame, or an Arrow table, which is faster for a few rows. model_index: shape (n_rows,), positions in
    model_ids; -1: no model. model_ids: may contain None, and an id several times.
    """
    # A parent's model that serves many groups is called once.
    of_name, names = number_names(model_ids)
    numbers = np.append(of_name, NO_MODEL)[model_index]
    known = [models.get(name) for name in names]
    collected = _Collector(len(frame), [model for model in known if model is not None])
    by_features: dict[Hashable, list[int]] = defaultdict(list)
    by_object: dict[int, list[int]] = {}  # most models share one tuple, whose hash takes longer than a prediction
    for position, model in enumerate(known):
        if model is not None:
            features = model.encoder.features
            if (members := by_object.get(id(features))) is None:
                members = by_object[id(features)] = by_features[features]
            members.append(position)
    for places in by_features.values():
        group_models = [model for position in places if (model := known[position]) is not None]
        index_in_group = np.full(len(names) + 1, NO_MODEL, dtype=np.int64)  # the last: of a null model_id
        index_in_group[places] = np.arange(len(places))
        features = group_models[0].encoder.features
        columns = table_to_columns(frame, features) if isinstance(frame, pa.Table) else to_columns(frame, features)
        for part in predict_parts(group_models, index_in_group[numbers], columns):
            collected.add(part, names[places[part.model]])
    return collected.answers()


def predict_parts(
    models: Sequence[Model], model_index: Integers, columns: Columns, on_begin: Callable[[int], None] = lambda _: None
) -> Iterator[ModelPredictions]:
    """Predict with models that all have the features of `columns`.

    model_index: shape (n_rows,), each row's model, or NO_MODEL. Linear models predict together in one call. on_begin:
    called before each model that is not linear, with its index.
    """
    linear_only = all(isinstance(model.estimator, Linear) for model in models)
    rows_of = [] if linear_only else _rows_of(model_index, len(models))
    together: dict[Hashable, list[int]] = defaultdict(list)
    for m, model in enumerate(models):
        if isinstance(model.estimator, Linear):
            together[(model.estimator.link, len(model.estimator.intercept), model.classes)].append(m)
        elif len(rows_of[m]):
            on_begin(m)
            yield _predict_with_one(model, m, rows_of[m], columns)
    for members in together.values():
        place = np.full(len(models) + 1, NO_MODEL, dtype=np.int64)
        place[members] = np.arange(len(members))
        rows = np.flatnonzero(place[model_index] != NO_MODEL)
        member_models = [models[m] for m in members]
        encoders, linear = [model.encoder for model in member_models], [model.estimator for model in member_models]
        raw = predict_linear(encoders, linear, place[model_index[rows]], columns.take(rows))
        yield ModelPredictions(rows, raw, member_models[0].classes, members[0])


def _rows_of(which: Integers, models: int) -> list[Integers]:
    order = np.argsort(which, kind="stable")
    starts = np.searchsorted(which[order], np.arange(models + 1))
    return [order[starts[m] : starts[m + 1]] for m in range(models)]


def _predict_with_one(model: Model, m: int, rows: Integers, columns: Columns) -> ModelPredictions:
    """One model's predictions. If it raises, halves of the rows are tried, so that only the rows at fault have none."""
    raw = np.full((len(rows), len(model.classes or ("",))), np.nan)
    error: Exception | None = None
    raised = 0
    waiting = [np.arange(len(rows))]
    while waiting and raised < MAX_ERRORS_PER_MODEL:
        places = waiting.pop()
        try:
            raw[places] = model.raw_predictions(columns.take(rows[places]))
        except Exception as reason:
            if error is None:
                error, places = reason, _order_by_magnitude(columns.take(rows))
            raised += 1
            if len(places) > 1:
                half = len(places) // 2
                waiting += [places[half:], places[:half]]
    return ModelPredictions(rows, raw, model.classes, m, error)


def _order_by_magnitude(columns: Columns) -> Integers:
    """Positions of the rows, ordered by their largest absolute value; rows with a missing value last.

    Estimators mostly raise for values that are too large or missing. In this order few halvings separate such rows.
    """
    if not columns.numbers.shape[1]:
        return np.arange(len(columns))
    return np.argsort(np.abs(columns.numbers).max(axis=1), kind="stable")


class _Collector:
    """Collects the predictions of all parts in the order of the frame's rows."""

    def __init__(self, rows: int, models: Sequence[Model]) -> None:
        self._probabilities: list[dict[str, float] | None] | None = None
        self._errors: dict[str, str] = {}
        if any(model.classes is not None for model in models):
            self._probabilities = [None] * rows
        numbers = bool(models) and self._probabilities is None
        self._prediction: npt.NDArray[Any] = np.full(rows, np.nan) if numbers else np.full(rows, None, dtype=object)

    def add(self, part: ModelPredictions, model_id: str) -> None:
        if part.error is not None:
            self._errors[model_id] = f"{type(part.error).__name__}: {part.error}"[:MAX_ERROR_CHARACTERS]
        if part.classes is None or self._probabilities is None:
            self._prediction[part.rows] = np.where(np.isfinite(part.raw[:, 0]), part.raw[:, 0], np.nan)
            return
        labels = labels_of(part.raw, part.classes)
        self._prediction[part.rows] = labels
        for row, label, values in zip(part.rows.tolist(), labels, part.raw.tolist(), strict=True):
            if label is not None:
                self._probabilities[row] = dict(zip(part.classes, values, strict=True))

    def answers(self) -> BatchPredictions:
        return BatchPredictions(self._prediction, self._probabilities, self._errors)
