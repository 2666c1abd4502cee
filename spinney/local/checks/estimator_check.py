"""Points that a recipe's estimator must fulfil. Each is checked on a synthetic group, by the code that fits real
groups.

A point that fails gives a message and a remedy. `spinney check` checks all points; `spinney.testing` offers the checks
to your own tests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from spinney.core.config import Config
from spinney.core.errors import MAX_ERROR_CHARACTERS, ContractError
from spinney.core.features.encoding import Columns, Floats, to_columns
from spinney.core.models import codec
from spinney.core.models.model import Model
from spinney.core.recipes.recipe import Recipe
from spinney.core.training.comparisons.held_out_rows import HELD_OUT_ONE_IN
from spinney.core.training.estimators import kernel_for
from spinney.core.training.estimators.best_of import BestOf
from spinney.core.training.fit_kernels import (
    Kernel,
    KernelResult,
    PerGroupKernel,
    Timer,
    single_threaded,
    weight_arguments,
)
from spinney.core.training.training_set import TrainingSet, label_text, select_training_set
from spinney.local.checks.points import FailedPoint, PointFailed
from spinney.local.checks.synthetic_group import NEWEST, label_classes, synthetic_rows

ROUNDING = 1e-9
"""Relative tolerance between predictions of a row alone and with other rows: BLAS rounds these two cases differently.
"""


@dataclass(frozen=True)
class EstimatorCase:
    """An estimator and its synthetic group. Each fit uses a new estimator."""

    config: Config
    recipe: Recipe
    rows: pd.DataFrame
    kernel: Kernel
    timer: Timer

    @classmethod
    def of(cls, config: Config, timer: Timer = time.perf_counter) -> EstimatorCase:
        """Build the case of a configuration. Raises ConfigError: no such estimator; ContractError: wrong parameters."""
        recipe = Recipe.of(config)
        return cls(
            config,
            recipe,
            synthetic_rows(config.record_schema, config.recipe),
            kernel_for(recipe.estimator, recipe.task, recipe.arguments),
            timer,
        )

    @property
    def columns(self) -> Columns:
        """The features of the synthetic group."""
        return to_columns(self.rows, self.recipe.features)

    @property
    def templates(self) -> list[Any]:
        """The unfitted scikit-learn estimators of the recipe."""
        kernels = self.kernel.kernels if isinstance(self.kernel, BestOf) else (self.kernel,)
        return [kernel.template for kernel in kernels if isinstance(kernel, PerGroupKernel)]

    def texts(self, labels: Iterable[object]) -> set[str]:
        """Return the labels as texts, as they are passed to an estimator."""
        return {label_text(label, self.recipe.target) for label in labels}

    def history(self, rows: pd.DataFrame) -> TrainingSet:
        """Return the rows as the fleet would select and order them."""
        return select_training_set(rows, [str(self.rows["group_key"].iloc[0])], self.recipe, NEWEST)

    def attempt(self, rows: pd.DataFrame) -> KernelResult:
        """Fit the rows once, as in a round."""
        history = self.history(rows)
        stack = history.kernel_input([0], history.starts[1:], self.recipe)
        with single_threaded():
            return self.kernel.fit(stack, self.timer)[0]

    def model(self, rows: pd.DataFrame, what: str = "the toy group") -> Model:
        """Return the fitted model. Raises PointFailed: the fit failed. what: the rows, for the message."""
        fit = self.attempt(rows)
        if fit.model is None:
            raise PointFailed(
                f"fitting {what} raised {_describe(fit.error)}",
                "Correct recipe.estimator or recipe.params, or let min_rows keep such groups out",
            )
        return fit.model

    def identity(self, model: Model) -> bytes:
        """Return the payload of a model; its predictions if it cannot be stored, which another point checks."""
        try:
            return codec.dump(model)[1]
        except ContractError:
            return model.raw_predictions(self.columns).tobytes()

    def answers(self, model: Model, columns: Columns, what: str) -> Floats:
        """Return the predictions of a model. Raises PointFailed: it raised, or a prediction is not finite.

        what: the rows in words, for the error.
        """
        try:
            raw = model.raw_predictions(columns)
        except Exception as error:
            verb = (
                "predict" if model.classes is None or not hasattr(model.estimator, "predict_proba") else "predict_proba"
            )
            raise PointFailed(
                f"{verb} for {what} raised {_describe(error)}",
                f"{verb} takes a matrix of rows and gives one answer for each",
            ) from error
        if not np.isfinite(raw).all():
            raise PointFailed(
                f"{int((~np.isfinite(raw).all(axis=1)).sum())} of {len(raw)} answers for {what} are NaN or infinite",
                "Every row needs a finite answer: a row without one is answered by another model",
            )
        return raw


def failed_points(case: EstimatorCase) -> list[FailedPoint]:
    """Return the points that failed. If one of REQUIRED_POINTS fails, no other point is checked."""
    failed = []
    for name in POINTS:
        failure = check_point(case, name)
        if failure is not None:
            failed.append(failure)
            if name in REQUIRED_POINTS:
                break
    return failed


def check_point(case: EstimatorCase, point: str) -> FailedPoint | None:
    """Check one of POINTS. Returns None if it is fulfilled."""
    try:
        POINTS[point](case)
    except PointFailed as error:
        message, remedy = error.args
        return FailedPoint(point, message, remedy)
    except Exception as error:  # raised by the estimator itself
        return FailedPoint(point, f"raised {_describe(error)}", "Mend the estimator, or take another")
    return None


def fit_ms(case: EstimatorCase) -> float:
    """Return the milliseconds of one fit: the shorter of two, since the first one imports."""
    return min(case.attempt(case.rows).ms for _ in range(2))


def _clone(case: EstimatorCase) -> None:
    for template in case.templates:
        try:
            clone(template)
        except Exception as error:
            raise PointFailed(
                f"sklearn.base.clone raised {_describe(error)}",
                "Let __init__ keep each argument under its own name, unchanged, and derive nothing before fit",
            ) from error


def _fit(case: EstimatorCase) -> None:
    case.model(case.rows)


def _answers(case: EstimatorCase) -> None:
    model = case.model(case.rows)
    raw = case.answers(model, case.columns, "the rows it was fitted on")
    if model.classes is None:
        return
    strange = sorted(set(model.classes) - case.texts(case.rows["label"]))
    if strange:
        raise PointFailed(f"classes_ has {strange}, which no label is", "Keep the labels as they come to fit: as text")
    if raw.min() < 0 or not np.allclose(raw.sum(axis=1), 1, atol=1e-6):
        raise PointFailed(
            "predict_proba gives numbers that are no probabilities",
            "Each row needs one number from 0 to 1 per class, in the order of classes_, that add up to 1",
        )


def _payload(case: EstimatorCase) -> None:
    model = case.model(case.rows)
    name, payload = _dumped(model)
    back = case.answers(codec.load(name, payload), case.columns, "a model that was stored and read")
    if not np.array_equal(back, model.raw_predictions(case.columns)):
        raise PointFailed(
            f"a model stored with codec {name} and read again gives other predictions",
            "Keep all that predict needs in attributes set by fit: numbers, arrays, texts, scikit-learn's objects",
        )


def _same_bytes(case: EstimatorCase) -> None:
    one, other = (case.identity(case.model(case.rows)) for _ in range(2))
    if one != other:
        raise PointFailed(
            "the same rows fitted twice give another model",
            "Draw from a random_state that is a parameter and None by default: it is seeded from the group's key",
        )


def _row_order(case: EstimatorCase) -> None:
    shuffled = case.rows.sample(frac=1, random_state=1)
    model = case.model(case.rows)
    if case.identity(model) != case.identity(case.model(shuffled)):
        raise PointFailed(
            "the same rows in another order give another model",
            "fit gets rows by (event_time, event_id): let nothing else decide, no clock and no global random state",
        )
    columns = case.columns
    whole = model.raw_predictions(columns)
    alone = np.concatenate(
        [model.raw_predictions(columns.take(slice(row, row + 1))) for row in range(0, len(columns), 7)]
    )
    backwards = model.raw_predictions(columns.take(np.arange(len(columns))[::-1]))[::-1]
    for other, same in ((alone, whole[::7]), (backwards, whole)):
        if not np.allclose(other, same, rtol=ROUNDING, atol=ROUNDING):
            raise PointFailed(
                "a row asked alone, or in another order, gets another prediction than among others",
                "predict must look at each row by itself: a stream asks for few at a time, a batch for many",
            )


def _missing(case: EstimatorCase) -> None:
    names = [feature.name for feature in case.recipe.features]
    gaps = case.rows.copy()
    for at, name in enumerate(names):
        gaps[name] = gaps[name].astype(object).where(np.arange(len(gaps)) % 5 != at % 5, None)
    case.answers(case.model(gaps, "rows with gaps"), to_columns(gaps, case.recipe.features), "rows with gaps")
    empty = case.rows.assign(**{name: pd.Series([None] * len(gaps), dtype=object) for name in names})
    columns = to_columns(empty, case.recipe.features)
    case.answers(case.model(case.rows), columns, "rows of which nothing is known")
    case.answers(case.model(empty, "rows of which nothing is known"), columns, "rows of which nothing is known")


def _one_label(case: EstimatorCase) -> None:
    label = case.rows["label"].iloc[0]
    of_one = case.rows.assign(label=label)
    raw = case.answers(case.model(of_one, "a group with one label"), case.columns, "a group with one label")
    if case.recipe.task == "regression" and not np.allclose(raw, float(label), rtol=1e-3, atol=1e-3):
        raise PointFailed(
            f"a group whose labels are all {float(label):.4g} is answered with {raw.min():.4g} to {raw.max():.4g}",
            "Correct predict, or the parameters that draw it away from what it was fitted on",
        )


def _classes(case: EstimatorCase) -> None:
    if case.recipe.task == "regression":
        return
    known = label_classes(case.config.record_schema.target_type)
    rare = [known[-1], *(known[row % 2] for row in range(1, len(case.rows)))]
    two = rare[1:] + rare[1:2]
    for labels, what in ((rare, "a group with a class that came once"), (two, "a group with two classes")):
        of_these = case.rows.assign(label=pd.Series(labels, dtype=object))
        model = case.model(of_these, what)
        case.answers(model, case.columns, what)
        expected = sorted(case.texts(labels))
        if sorted(model.classes or ()) != expected:
            raise PointFailed(
                f"{what} has {expected}, but classes_ is {list(model.classes or ())}",
                "Let fit learn classes_ from the labels it is given: they differ between groups",
            )


def _fewest_rows(case: EstimatorCase) -> None:
    least = max(1, case.recipe.min_rows)
    fewest = max(1, least - max(1, least // HELD_OUT_ONE_IN))
    what = f"a group of {fewest} rows, the fewest that recipe.min_rows lets through once the newest are held out,"
    rows = case.rows.iloc[:fewest]
    if case.recipe.task == "classification" and fewest > 1:
        known = label_classes(case.config.record_schema.target_type)
        rows = rows.assign(label=[known[row % 2] for row in range(fewest)])
    case.answers(case.model(rows, what), case.columns, what)


def _weights(case: EstimatorCase) -> None:
    if case.recipe.weight_half_life is None:
        return
    if not all(weight_arguments(template, np.ones(1)) for template in case.templates):
        raise PointFailed(
            "recipe.weight_half_life is set, but fit of the last step takes no sample_weight: all rows weigh the same",
            "Take an estimator that weighs rows, or remove weight_half_life and let the window forget",
        )


def _time(case: EstimatorCase) -> None:
    ms, seconds = fit_ms(case), case.config.budget.seconds
    if timedelta(milliseconds=ms) > timedelta(seconds=seconds):
        raise PointFailed(
            f"one fit of {len(case.rows)} rows takes {ms / 1e3:.1f} s, more than a whole round may (budget.seconds = "
            f"{seconds:g})",
            "Make it cheaper (fewer trees or iterations), or raise budget.seconds: as it is, a round fits one group",
        )


POINTS: Mapping[str, Callable[[EstimatorCase], None]] = {
    "clone": _clone,
    "fit": _fit,
    "answers": _answers,
    "payload": _payload,
    "same bytes": _same_bytes,
    "row order": _row_order,
    "missing values": _missing,
    "one label": _one_label,
    "classes": _classes,
    "fewest rows": _fewest_rows,
    "weights": _weights,
    "time": _time,
}
REQUIRED_POINTS = frozenset({"clone", "fit", "answers"})
"""Points that all others depend on: if one fails, the others are not checked."""


def _dumped(model: Model) -> tuple[str, bytes]:
    try:
        return codec.dump(model)
    except ContractError as error:
        raise PointFailed(
            f"the fitted model cannot be stored: {_describe(error)}",
            "Build it from scikit-learn's own estimators: what is stored must be read back without running your code",
        ) from error


def _describe(error: Exception | None) -> str:
    return f"{type(error).__name__}: {error}"[:MAX_ERROR_CHARACTERS]
