"""Answers of many groups' models for one frame of mixed rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinney.core.errors import MAX_ERROR_CHARACTERS
from spinney.core.features.encoding import Columns, Floats, Integers, convert
from spinney.core.models.linear import Linear, evaluate
from spinney.core.models.model import Model, labels_of

NOBODY = -1

MAX_RAISED = 64
"""How often a model may raise for parts of a batch: the rows not yet answered then get no answer. One that raises
whatever it is given would be asked twice for each row."""


@dataclass(frozen=True)
class Answers:
    """One answer per row, in the frame's order.

    prediction: shape (n_rows,): float64 for regression, NaN where nobody answers; texts for classification, None where
    nobody answers. All None (dtype object) if there is no model at all.
    probabilities: for classification, per row class -> probability, or None; None for regression.
    errors: model_id -> what its estimator raised; the rows that it raised for are answered by nobody.
    """

    prediction: npt.NDArray[Any]
    probabilities: list[dict[str, float] | None] | None
    errors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """The answers of models that answer alike.

    rows: places in the frame. raw: as Model.raw. model: which one it is, or the first of several. error: what a single
    model's estimator raised first; the rows that it raised for are NaN.
    """

    rows: Integers
    raw: Floats
    classes: tuple[str, ...] | None
    model: int
    error: Exception | None = None


def answer(frame: pd.DataFrame, model_ids: Sequence[str | None], models: Mapping[str, Model]) -> Answers:
    """Ask each row's own model.

    frame: the features, any other columns, any index; left unchanged. model_ids: shape (n_rows,), null for nobody; one
    that is not in `models` is nobody too. Raises ContractError if a feature is missing or of another type.
    """
    numbers, names = pd.factorize(np.asarray(model_ids, dtype=object))
    return answer_numbered(frame, numbers, names.tolist(), models)


def answer_numbered(
    frame: pd.DataFrame, of_row: Integers, model_ids: Sequence[str | None], models: Mapping[str, Model]
) -> Answers:
    """As `answer`, of rows that name their model by its place.

    of_row: shape (n_rows,), places in model_ids; -1: nobody. model_ids: may name a model several times, and nobody as
    null.
    """
    # A parent's model that answers for many groups is asked once.
    of_name, names = pd.factorize(np.asarray(model_ids, dtype=object))
    numbers = np.append(of_name, NOBODY)[of_row]
    known = [models.get(name) for name in names]
    out = _Collected(len(frame), [model for model in known if model is not None])
    by_features: dict[Hashable, list[int]] = defaultdict(list)
    for at, model in enumerate(known):
        if model is not None:
            by_features[model.encoder.features].append(at)
    for places in by_features.values():
        asked = [model for at in places if (model := known[at]) is not None]
        which = np.full(len(names) + 1, NOBODY, dtype=np.int64)  # the last: of a null model_id
        which[places] = np.arange(len(places))
        columns = convert(frame, asked[0].encoder.features)
        for part in parts(asked, which[numbers], columns):
            out.add(part, str(names[places[part.model]]))
    return out.answers()


def parts(
    models: Sequence[Model], which: Integers, columns: Columns, begin: Callable[[int], None] = lambda _: None
) -> Iterator[Part]:
    """Ask models that all have the features of `columns`.

    which: shape (n_rows,), each row's model, NOBODY where there is none. Linear models are asked together.
    begin: told of each other one before it is asked.
    """
    linear_only = all(isinstance(model.estimator, Linear) for model in models)
    rows_of = [] if linear_only else _rows_of(which, len(models))
    together: dict[Hashable, list[int]] = defaultdict(list)
    for m, model in enumerate(models):
        if isinstance(model.estimator, Linear):
            together[(model.estimator.link, len(model.estimator.intercept), model.classes)].append(m)
        elif len(rows_of[m]):
            begin(m)
            yield _alone(model, m, rows_of[m], columns)
    for members in together.values():
        place = np.full(len(models) + 1, NOBODY, dtype=np.int64)
        place[members] = np.arange(len(members))
        rows = np.flatnonzero(place[which] != NOBODY)
        asked = [models[m] for m in members]
        encoders, linear = [model.encoder for model in asked], [model.estimator for model in asked]
        raw = evaluate(encoders, linear, place[which[rows]], columns.take(rows))
        yield Part(rows, raw, asked[0].classes, members[0])


def _rows_of(which: Integers, models: int) -> list[Integers]:
    order = np.argsort(which, kind="stable")
    starts = np.searchsorted(which[order], np.arange(models + 1))
    return [order[starts[m] : starts[m + 1]] for m in range(models)]


def _alone(model: Model, m: int, rows: Integers, columns: Columns) -> Part:
    """One model's answers. Where it raises for the rows together, only those that it raises for get none."""
    raw = np.full((len(rows), len(model.classes or ("",))), np.nan)
    error: Exception | None = None
    raised = 0
    waiting = [np.arange(len(rows))]
    while waiting and raised < MAX_RAISED:
        places = waiting.pop()
        try:
            raw[places] = model.raw(columns.take(rows[places]))
        except Exception as reason:
            if error is None:
                error, places = reason, _by_magnitude(columns.take(rows))
            raised += 1
            if len(places) > 1:
                half = len(places) // 2
                waiting += [places[half:], places[:half]]
    return Part(rows, raw, model.classes, m, error)


def _by_magnitude(columns: Columns) -> Integers:
    """The rows' places, by their largest value; those with a missing one last.

    An estimator mostly raises for values that are too large or missing: those then stand together, and few halvings
    separate them from the rest.
    """
    if not columns.numbers.shape[1]:
        return np.arange(len(columns))
    return np.argsort(np.abs(columns.numbers).max(axis=1), kind="stable")


class _Collected:
    """The parts' answers, put where their rows are."""

    def __init__(self, rows: int, models: Sequence[Model]) -> None:
        self._probabilities: list[dict[str, float] | None] | None = None
        self._errors: dict[str, str] = {}
        if any(model.classes is not None for model in models):
            self._probabilities = [None] * rows
        numbers = bool(models) and self._probabilities is None
        self._prediction: npt.NDArray[Any] = np.full(rows, np.nan) if numbers else np.full(rows, None, dtype=object)

    def add(self, part: Part, model_id: str) -> None:
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

    def answers(self) -> Answers:
        return Answers(self._prediction, self._probabilities, self._errors)
