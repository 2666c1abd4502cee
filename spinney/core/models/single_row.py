"""Predictions of single rows by linear models, in plain Python.

For one row each call of Arrow or NumPy takes longer than the arithmetic. A value is encoded as `table_to_columns`
encodes it, and the sums run in the order of `predict_linear`, so that the predictions are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from math import isfinite, nan
from typing import Any

import numpy as np

from spinney.core.features.encoding import DAY_US, NULL_TIME, encode_times, require_features
from spinney.core.models.linear import Linear, Link, apply_link
from spinney.core.models.model import Model, labels_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_MICROSECOND = timedelta(microseconds=1)
_NUMBERS = (float, int, bool, Decimal)

Prediction = tuple[float | str | None, dict[str, float] | None]
"""A number, or a class with the probability of each class. Both are None without a finite answer."""


def predict_row(model: Model, values: Mapping[str, Any]) -> Prediction:
    """Return the prediction of one row by a model whose estimator is Linear.

    values: column -> value as `convert_value` returns it, or None. Raises TypeError for a value of another kind than
    that of the model's feature, ContractError if a feature is missing.
    """
    numbers, words = _encode(model, values)
    scores = _scores(model, numbers, words)
    if model.classes is None:
        return (scores[0] if isfinite(scores[0]) else None), None
    with np.errstate(all="ignore"):
        raw = np.array([scores])
        raw = raw if model.estimator.link is Link.CONSTANT else apply_link(raw.T, model.estimator.link)
    label = labels_of(raw, model.classes)[0]
    return label, None if label is None else dict(zip(model.classes, raw[0].tolist(), strict=True))


def _encode(model: Model, values: Mapping[str, Any]) -> tuple[list[float], list[str | None]]:
    """Return the columns of a matrix that are the same in every group, and the texts of the string features."""
    numbers: list[float] = []
    words: list[str | None] = []
    for feature in model.encoder.features:
        if feature.name not in values:
            require_features(list(values), model.encoder.features)
        value, kind = values[feature.name], feature.type
        if kind == "string":
            words.append(_require(value, str))
        elif kind in ("timestamp", "date"):
            found = encode_times(np.array([_microseconds(value, kind)]), with_minutes=kind == "timestamp")
            numbers += [float(column[0]) for column in found]
        else:
            number = nan if _require(value, *_NUMBERS) is None else float(value)
            numbers.append(number + 0.0 if isfinite(number) else nan)
    return numbers, words


def _microseconds(value: Any, kind: str) -> int:
    """Microseconds since 1970, NULL_TIME where null."""
    if value is None:
        return NULL_TIME
    if kind == "date":
        days: int = _require(value, date).toordinal() - _EPOCH_ORDINAL
        return days * DAY_US
    micros: int = (_require(value, datetime) - _EPOCH) // _MICROSECOND
    return micros


def _require(value: Any, *kinds: type) -> Any:
    if value is not None and type(value) not in kinds:
        raise TypeError(f"expected {' or '.join(kind.__name__ for kind in kinds)}; got {type(value).__name__}")
    return value


def _scores(model: Model, numbers: list[float], words: list[str | None]) -> list[float]:
    linear: Linear = model.estimator
    scores: list[float] = linear.intercept.tolist()
    if linear.link is Link.CONSTANT:
        return scores
    fixed = len(numbers)
    filled = [
        fill if number != number else number  # noqa: PLR0124 - NaN
        for number, fill in zip(numbers, linear.fill[:fixed].tolist(), strict=True)
    ]
    if linear.limits is not None:
        low, high = linear.limits[:, :fixed].tolist()
        filled = [min(max(number, least), most) for number, least, most in zip(filled, low, high, strict=True)]
    for k, weights in enumerate(linear.coefficients[:, :fixed].tolist()):
        for weight, number in zip(weights, filled, strict=True):
            scores[k] += weight * number
    for word, vocabulary in zip(words, model.encoder.vocabularies, strict=True):
        if word in vocabulary:
            weights = linear.coefficients[:, fixed + vocabulary.index(word)].tolist()
            scores = [score + weight for score, weight in zip(scores, weights, strict=True)]
        fixed += len(vocabulary)
    return scores
