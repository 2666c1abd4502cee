r"""Losses of predictions, shared by gate, health, staleness and comparisons.

========  ========================================  =========
absolute  \|label - prediction\|                      regression
squared   (label - prediction)²                     regression
log       -ln(probability of the label), clipped    classification
========  ========================================  =========

If an input or the result is null, NaN or infinite, there is no loss: NaN. It is not counted. A
class that the model does not know has probability 0, which is clipped to MIN_PROBABILITY.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spinney.core.errors import ContractError
from spinney.core.features.encoding import Floats

MIN_PROBABILITY = 1e-15
"""Lower bound of a probability in log loss, which is then at most 34.54."""

Predictions = npt.NDArray[Any] | tuple[tuple[str, ...], Floats] | Sequence[Mapping[str, float] | None]
"""Predictions, shape (n_rows,); or classes and probabilities, shape (n_rows, n_classes); or a mapping per row."""


@dataclass(frozen=True)
class Loss:
    """A loss by name. Use `LOSSES` or `loss_named`."""

    name: str
    task: str
    _per_row: Callable[[npt.NDArray[Any], Any], Floats]

    def per_row(self, label: npt.NDArray[Any], predictions: Predictions) -> Floats:
        """Return the loss of each row, shape (n_rows,); NaN if there is none. label: numbers, or texts for `log`."""
        with np.errstate(all="ignore"):
            out = self._per_row(label, predictions)
        return np.where(np.isfinite(out), out, np.nan)


def loss_named(name: str) -> Loss:
    """Return the loss with this name. Raises ContractError for a name that is not in LOSSES."""
    if name not in LOSSES:
        raise ContractError(f"fleet.loss: expected one of {', '.join(LOSSES)}; got {name!r}")
    return LOSSES[name]


def _numbers(values: npt.NDArray[Any]) -> Floats:
    if values.dtype == object:
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return values.astype(np.float64)


def _absolute(label: npt.NDArray[Any], prediction: npt.NDArray[Any]) -> Floats:
    return np.abs(_numbers(label) - _numbers(prediction))


def _squared(label: npt.NDArray[Any], prediction: npt.NDArray[Any]) -> Floats:
    difference = _numbers(label) - _numbers(prediction)
    return difference * difference


def _log(label: npt.NDArray[Any], predictions: Any) -> Floats:
    probability = _of_label(label, *predictions) if isinstance(predictions, tuple) else _in_mappings(label, predictions)
    probability[~np.isfinite(probability)] = np.nan
    return -np.log(np.maximum(probability, MIN_PROBABILITY))


def _of_label(label: npt.NDArray[Any], classes: tuple[str, ...], probabilities: Floats) -> Floats:
    place = {name: at for at, name in enumerate(classes)}
    at = np.array([place.get(text, -1) for text in label], dtype=np.int64)
    out = np.where(at < 0, 0.0, probabilities[np.arange(len(label)), at])
    out[[not isinstance(text, str) for text in label]] = np.nan
    # A row with a probability that is not finite has no loss, even if it is another class'.
    out[~np.isfinite(probabilities).all(axis=1)] = np.nan
    return out


def _in_mappings(label: npt.NDArray[Any], predictions: Sequence[Mapping[str, float] | None]) -> Floats:
    def probability(text: object, known: Mapping[str, float] | None) -> float:
        if known is None or not isinstance(text, str):
            return np.nan
        found = known.get(text, 0.0)
        return 0.0 if found is None else float(found)

    pairs = zip(label, predictions, strict=True)
    return np.array([probability(text, known) for text, known in pairs], dtype=np.float64)


LOSSES: Mapping[str, Loss] = {
    loss.name: loss
    for loss in (
        Loss("absolute", "regression", _absolute),
        Loss("squared", "regression", _squared),
        Loss("log", "classification", _log),
    )
}
