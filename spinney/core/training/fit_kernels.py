"""Kernels: estimators that fit many groups in one call.

A kernel takes the rows of many groups, one group after the other, and returns a model or an error for each. A group's
model must be the same bits whichever other groups are in the call.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import has_fit_parameter
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from spinney.core.errors import ContractError
from spinney.core.features.encoding import Columns, Encoder, Floats, Integers
from spinney.core.models.filled import Filled, column_means
from spinney.core.models.linear import Linear, Link, constant_linear
from spinney.core.models.model import Model
from spinney.core.training import current_group
from spinney.core.training.estimator_template import EstimatorTemplate


@dataclass(frozen=True)
class Pooling:
    """The models that groups are pooled with.

    priors: for each group its parent's linear model, with one score and the features of the input; None without one.
    rows: number of the group's rows that a prior counts as, greater than 0; None: computed from the prior's group
    variances.
    """

    priors: tuple[Model | None, ...]
    rows: float | None


@dataclass(frozen=True)
class KernelInput:
    """The training rows of many groups: each group's rows are adjacent and sorted by (event_time, event_id).

    starts: shape (n_groups + 1,): group g has rows starts[g] to starts[g + 1], at least one. labels: shape (n_rows,):
    finite float64, or texts for classification. weights: shape (n_rows,), or None. loss: name of the fleet's loss, by
    which `linear` and pooling fit and `best_of` chooses. pooling: None if no group is pooled. lineage: for the rows of
    parents, from `lineage_codes`; None if it is not known or not needed. days: the UTC day of each row's event time,
    counted from 1970; None if it is not needed.
    """

    keys: tuple[str, ...]
    columns: Columns
    starts: Integers
    labels: npt.NDArray[Any]
    weights: Floats | None
    loss: str = ""
    pooling: Pooling | None = None
    lineage: Integers | None = None
    days: Integers | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def rows(self, g: int) -> slice:
        """Return the slice of the rows of the group at position g."""
        return slice(int(self.starts[g]), int(self.starts[g + 1]))


@dataclass(frozen=True)
class KernelResult:
    """The result for one group: a model, or the error that the estimator raised.

    ms: duration in milliseconds. scores: JSON values that are stored with the metrics, such as candidates' losses.
    """

    ms: float
    model: Model | None = None
    error: Exception | None = None
    scores: Mapping[str, Any] = field(default_factory=dict)


Timer = Callable[[], float]


class Kernel(Protocol):
    """Fits every group of its input. timer: returns seconds, like time.perf_counter."""

    def fit(self, stack: KernelInput, timer: Timer) -> list[KernelResult]:
        """Return a model or an error for each group, in the order of the input."""
        ...


@dataclass(frozen=True)
class PerGroupKernel:
    """The kernel of any scikit-learn estimator: fits group by group, and catches each group's errors.

    template: an unfitted estimator or pipeline; cloned for each group. Missing values are replaced by the column's
    mean unless the estimator accepts them. A `random_state` of None is seeded from the group's key; `n_jobs` is 1. In
    classification a group with a single class gets a constant model.
    to_linear: converts a fitted estimator that accepts missing values to a Linear model; None: no conversion.
    """

    template: Any
    task: str
    to_linear: Callable[[Any], Linear] | None = None

    def __post_init__(self) -> None:
        missing_methods = [verb for verb in ("fit", "predict", "get_params") if not hasattr(self.template, verb)]
        if missing_methods or isinstance(self.template, type):
            raise ContractError(
                f"recipe.estimator: expected an unfitted scikit-learn estimator or pipeline; got {self.template!r} "
                f"without {', '.join(missing_methods) or 'being an instance'}. Return such an object from the function"
            )

    def fit(self, stack: KernelInput, timer: Timer) -> list[KernelResult]:
        """Fit each group with a copy of the template."""
        try:
            template = EstimatorTemplate.of(self.template)
            needs_fill = not accepts_missing_values(template.estimator)
        except Exception as error:  # a constructor that scikit-learn cannot repeat
            return [KernelResult(0.0, error=error)] * len(stack)
        # Without string features an encoder learns nothing: all groups share one.
        shared = None if stack.columns.words else Encoder(stack.columns.features)
        with template.without_validation():
            return [self._fit_group(_Setup(template, needs_fill, shared), stack, g, timer) for g in range(len(stack))]

    def _fit_group(self, setup: _Setup, stack: KernelInput, g: int, timer: Timer) -> KernelResult:
        current_group.report(stack.keys[g], current_group.FIT)
        began = timer()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = self._model(setup, stack, g)
        except Exception as error:
            # Without its frames: they would keep alive what it has allocated.
            return KernelResult((timer() - began) * 1e3, error=error.with_traceback(None))
        return KernelResult((timer() - began) * 1e3, model)

    def _model(self, setup: _Setup, stack: KernelInput, g: int) -> Model:
        rows = stack.rows(g)
        columns, labels = stack.columns.take(rows), stack.labels[rows]
        encoder = setup.encoder or Encoder.learn(columns)
        if self.task == "classification" and (labels == labels[0]).all():
            return Model(encoder, constant_linear([1.0], encoder.width, Link.CONSTANT), (str(labels[0]),))
        estimator = setup.template.copy(seed_for(stack.keys[g]))
        weights = {} if stack.weights is None else weight_arguments(estimator, stack.weights[rows])
        matrix = encoder.matrix(columns).copy()
        fill = column_means(matrix)
        missing = np.isnan(matrix)
        if missing.any():
            # Boosted trees fail on a column without any value, such as a sensor that one group does not have.
            matrix[:, missing.all(axis=0)] = 0.0
            if setup.needs_fill:
                matrix = np.where(missing, fill, matrix)
        estimator.fit(matrix, labels.copy(), **weights)
        classes = tuple(map(str, estimator.classes_)) if self.task == "classification" else None
        if self.to_linear:
            return Model(encoder, self.to_linear(estimator), classes)
        return Model(encoder, Filled(estimator, fill) if setup.needs_fill else estimator, classes)


@dataclass(frozen=True)
class _Setup:
    """Arguments that all groups of a call share.

    needs_fill: the estimator does not accept NaN. encoder: None if each group learns its own.
    """

    template: EstimatorTemplate
    needs_fill: bool
    encoder: Encoder | None


def single_threaded() -> AbstractContextManager[Any]:
    """Let BLAS and OpenMP use one thread in a context: more threads change the bits of sums over many columns."""
    limit: AbstractContextManager[Any] = _pools().limit(limits=1)
    return limit


@lru_cache(maxsize=1)
def _pools() -> Any:
    return ThreadpoolController()


def accepts_missing_values(estimator: Any) -> bool:
    """Whether an estimator accepts NaN. A pipeline does if an imputer precedes the first step that does not."""
    if not isinstance(estimator, Pipeline):
        return isinstance(estimator, SimpleImputer | KNNImputer) or bool(get_tags(estimator).input_tags.allow_nan)
    for _, step in estimator.steps:
        if isinstance(step, SimpleImputer | KNNImputer):
            return True
        if step not in {None, "passthrough"} and not accepts_missing_values(step):
            return False
    return True


def weight_arguments(estimator: Any, weights: Floats) -> dict[str, Floats]:
    """Return the arguments of `fit` that pass `weights` to the last step; empty if it takes no weights."""
    step_names = []
    while isinstance(estimator, Pipeline):
        step, estimator = estimator.steps[-1]
        step_names.append(step)
    name = "__".join([*step_names, "sample_weight"])
    return {name: weights} if has_fit_parameter(estimator, "sample_weight") else {}


def seed_for(group_key: str) -> int:
    """Return a 32-bit seed that depends on the group's key only."""
    return int.from_bytes(hashlib.sha256(group_key.encode()).digest()[:4], "big")
