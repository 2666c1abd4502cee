"""A constant prediction: the (weighted) mean or median of the group's labels, or the share of each class.

A baseline: an estimator that does not beat it has learned nothing from the features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from spinney.core.errors import ContractError
from spinney.core.features.encoding import Encoder, Floats
from spinney.core.models.linear import Link, constant_linear
from spinney.core.models.model import Model
from spinney.core.training.fit_kernels import Kernel, KernelInput, KernelResult, Timer

NAME = "constant"
TASKS = ("regression", "classification")


def kernel(task: str, params: Mapping[str, Any]) -> Kernel:
    """Return the kernel of `constant`. params: statistic, "mean" (default) or "median"; classification has none."""
    allowed = {"statistic"} if task == "regression" else set()
    statistic = params.get("statistic", "mean")
    if set(params) - allowed or statistic not in {"mean", "median"}:
        raise ContractError(
            f'recipe.params of constant for {task}: expected {{ statistic = "mean" or "median" }} for regression '
            f"and none for classification; got {dict(params)}"
        )
    return Constant(task, statistic)


@dataclass(frozen=True)
class Constant:
    """The kernel of constant models. statistic: "mean" or "median", for regression."""

    task: str
    statistic: str

    def fit(self, stack: KernelInput, timer: Timer) -> list[KernelResult]:
        """Fit each group's constant."""
        fits = []
        for g in range(len(stack)):
            began = timer()
            model = self._model(stack, stack.rows(g))
            fits.append(KernelResult((timer() - began) * 1e3, model))
        return fits

    def _model(self, stack: KernelInput, rows: slice) -> Model:
        labels = stack.labels[rows]
        weights = np.ones(len(labels)) if stack.weights is None else stack.weights[rows]
        columns = stack.columns.take(rows)
        # No vocabularies: a constant does not use the features.
        encoder = Encoder(columns.features, ((),) * len(columns.words))
        if self.task == "regression":
            middle = weighted_median if self.statistic == "median" else _mean
            value = middle(labels, weights)
            return Model(encoder, constant_linear([value], encoder.width, Link.IDENTITY))
        classes = sorted(set(labels.tolist()))
        shares = [float(weights[labels == label].sum() / weights.sum()) for label in classes]
        return Model(encoder, constant_linear(shares, encoder.width, Link.CONSTANT), tuple(classes))


def _mean(labels: Floats, weights: Floats) -> float:
    return float(np.average(labels, weights=weights))


def weighted_median(labels: Floats, weights: Floats) -> float:
    """Return the weighted median: the mean of the lower and the upper one, if they differ."""
    order = np.argsort(labels, kind="stable")
    below = np.cumsum(weights[order])
    half = below[-1] / 2
    lower, upper = np.searchsorted(below, half, side="left"), np.searchsorted(below, half, side="right")
    upper = min(upper, len(labels) - 1)
    return float((labels[order][lower] + labels[order][upper]) / 2)
