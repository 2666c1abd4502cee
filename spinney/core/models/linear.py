"""Linear models as arrays, and predictions of many of them in one call.

Sums run over the columns in their order, element by element, without a matrix product. So a row's prediction is the
same bits whether it is predicted alone or among a million rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from spinney.core.features.encoding import Columns, Encoder, Floats, Integers


class Link(IntEnum):
    """Conversion of scores to predictions. The numbers are part of the codec."""

    IDENTITY = 0  # the score is the prediction
    LOGISTIC = 1  # one score: the log odds of the second of two classes
    SOFTMAX = 2  # one score per class
    CONSTANT = 3  # the intercepts are the probabilities


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear model with k scores.

    intercept: shape (k,). coefficients: shape (k, width). fill: shape (width,), replaces missing values. limits: shape
    (2, width), the least and the greatest value that a column counts as; None: every value counts as itself.
    group_variances: of a parent whose groups are pooled with estimated weights, shape (rungs, 3 + width); see
    `spinney.core.training.pooling.group_variances`. They change no prediction.
    """

    link: Link
    intercept: Floats
    coefficients: Floats
    fill: Floats
    group_variances: Floats | None = None
    limits: Floats | None = None


def constant_linear(values: Sequence[float], width: int, link: Link) -> Linear:
    """Return a model that always predicts `values`: one number, or with Link.CONSTANT each class' probability."""
    k = len(values)
    return Linear(link, np.array(values, dtype=np.float64), np.zeros((k, width)), np.zeros(width))


def predict_linear(
    encoders: Sequence[Encoder], models: Sequence[Linear], model_index: Integers, columns: Columns
) -> Floats:
    """Predict each row with its model; all models have the same features, link and number of scores.

    model_index: shape (n_rows,), each row's model. Returns shape (n_rows, 1) for Link.IDENTITY, else (n_rows,
    n_classes).
    """
    link, fixed = models[0].link, columns.numbers.shape[1]
    scores = _stacked([model.intercept for model in models])[model_index].T.copy()
    if link is Link.CONSTANT:
        return np.ascontiguousarray(scores.T)
    has_words = bool(columns.words)  # then the models' widths may differ
    weighing = [model.coefficients[:, :fixed] if has_words else model.coefficients for model in models]
    coefficients = _stacked(weighing).transpose(1, 2, 0).copy()
    fill = _stacked([model.fill[:fixed] if has_words else model.fill for model in models]).T.copy()
    limits = _limits(models, fixed)
    with np.errstate(all="ignore"):  # a model that overflows gives NaN, which is no prediction
        for i in range(fixed):
            column = np.ascontiguousarray(columns.numbers[:, i])
            missing = np.isnan(column)
            if missing.any():
                column = np.where(missing, fill[i][model_index], column)
            if limits is not None:
                column = np.clip(column, limits[0, i][model_index], limits[1, i][model_index])
            for k, weights in enumerate(coefficients):
                scores[k] += weights[i][model_index] * column
        _add_words(scores, encoders, models, model_index, columns)
        return apply_link(scores, link)


def _limits(models: Sequence[Linear], fixed: int) -> Floats | None:
    """Return the limits of each model's first columns, shape (2, fixed, n_models); None if no model has limits."""
    if all(model.limits is None for model in models):
        return None
    without = unlimited(fixed)
    return np.stack([without if model.limits is None else model.limits[:, :fixed] for model in models], axis=2)


def unlimited(width: int) -> Floats:
    """Return limits within which every value is, shape (2, width)."""
    return np.repeat([[-np.inf], [np.inf]], width, axis=1)


def _stacked(arrays: Sequence[Floats]) -> Floats:
    """As np.stack, in a third of the time for thousands of small arrays."""
    return np.concatenate(arrays).reshape(len(arrays), *arrays[0].shape)


def _add_words(
    scores: Floats, encoders: Sequence[Encoder], models: Sequence[Linear], which: Integers, columns: Columns
) -> None:
    """Add to the scores, for each string feature, the coefficient that a row's model has for its word,
    if it has one.
    """
    start = [columns.numbers.shape[1]] * len(models)
    for j, words in enumerate(columns.words):
        code_of_word = {word: code for code, word in enumerate(words)}
        keys: list[int] = []
        weights: list[Floats] = [np.zeros(len(scores))]
        for m, (encoder, model) in enumerate(zip(encoders, models, strict=True)):
            vocabulary = encoder.vocabularies[j]
            for at, word in enumerate(vocabulary, start[m]):
                if word in code_of_word:
                    keys.append(m * len(words) + code_of_word[word])
                    weights.append(model.coefficients[:, at])
            start[m] += len(vocabulary)
        if keys:
            scores += np.stack(weights)[_lookup(np.array(keys), which * len(words), columns.codes[:, j])].T


def _lookup(known: Integers, base: Integers, codes: Integers) -> Integers:
    """For each row, 1 + the position of base + code in `known`; 0 if it does not occur or the code is null."""
    order = np.argsort(known)
    keys = np.where(codes < 0, -1, base + codes)
    position = np.minimum(np.searchsorted(known[order], keys), len(known) - 1)
    return np.where(known[order][position] == keys, order[position] + 1, 0)


def apply_link(scores: Floats, link: Link) -> Floats:
    """Convert scores, shape (k, n_rows), to predictions, shape (n_rows, 1 or n_classes). Not for Link.CONSTANT."""
    if link is Link.IDENTITY:
        return np.ascontiguousarray(scores.T)
    if link is Link.LOGISTIC:
        second = 1.0 / (1.0 + np.exp(-scores[0]))
        return np.column_stack([1.0 - second, second])
    max_score = scores[0].copy()
    for score in scores[1:]:
        np.maximum(max_score, score, out=max_score)
    parts = [np.exp(score - max_score) for score in scores]
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return np.column_stack([part / total for part in parts])
