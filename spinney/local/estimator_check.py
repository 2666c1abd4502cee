"""What a recipe's estimator must do to serve a fleet: each point tried on toy groups, by the code that fits real ones.

A point that does not hold is said in a sentence with what to do. `spinney check` goes through them, and
`spinney.testing` hands them to your own tests.
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
from spinney.core.training.estimators import kernel_for
from spinney.core.training.estimators.best_of import BestOf
from spinney.core.training.fit_attempt import HELD_OUT_ONE_IN
from spinney.core.training.kernels import Kernel, KernelResult, PerGroupKernel, Timer, single_threaded, weight_arguments
from spinney.core.training.training_set import TrainingSet, label_text, select_training_set
from spinney.local.toy_group import NEWEST, classes, toy_rows

ROUNDING = 1e-9
"""Relative: an answer may differ by so much when a row is asked alone; BLAS adds up long and short matrices apart."""


@dataclass(frozen=True)
class Broken:
    """A point that does not hold. said: what was seen; remedy: what to do."""

    point: str
    said: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.point}: {self.said}. {self.remedy}"


class DoesNotHold(Exception):  # noqa: N818 - what it says of a point
    """A point's sentence and remedy, on their way to a `Broken`."""


@dataclass(frozen=True)
class Case:
    """An estimator on its toy group. Each fit starts anew."""

    config: Config
    recipe: Recipe
    rows: pd.DataFrame
    kernel: Kernel
    timer: Timer

    @classmethod
    def of(cls, config: Config, timer: Timer = time.perf_counter) -> Case:
        """Raises ConfigError: no such estimator. ContractError: parameters it does not take."""
        recipe = Recipe.of(config)
        return cls(config, recipe, toy_rows(config), kernel_for(recipe.estimator, recipe.task, recipe.arguments), timer)

    @property
    def columns(self) -> Columns:
        """The toy group's features."""
        return to_columns(self.rows, self.recipe.features)

    @property
    def templates(self) -> list[Any]:
        """The unfitted estimators of scikit-learn among what is fitted."""
        kernels = self.kernel.kernels if isinstance(self.kernel, BestOf) else (self.kernel,)
        return [kernel.template for kernel in kernels if isinstance(kernel, PerGroupKernel)]

    def texts(self, labels: Iterable[object]) -> set[str]:
        """The labels as an estimator sees them."""
        return {label_text(label, self.recipe.target) for label in labels}

    def history(self, rows: pd.DataFrame) -> TrainingSet:
        """The rows as the fleet would choose and order them."""
        return select_training_set(rows, [str(self.rows["group_key"].iloc[0])], self.recipe, NEWEST)

    def attempt(self, rows: pd.DataFrame) -> KernelResult:
        """One fit, as in a round."""
        history = self.history(rows)
        stack = history.kernel_input([0], history.starts[1:], self.recipe)
        with single_threaded():
            return self.kernel.fit(stack, self.timer)[0]

    def model(self, rows: pd.DataFrame, what: str = "the toy group") -> Model:
        """The fitted model. Raises DoesNotHold where there is none."""
        fit = self.attempt(rows)
        if fit.model is None:
            raise DoesNotHold(
                f"fitting {what} raised {_words(fit.error)}",
                "Correct recipe.estimator or recipe.params, or let min_rows keep such groups out",
            )
        return fit.model

    def identity(self, model: Model) -> bytes:
        """Its payload; its answers where it has none, which is another point's trouble."""
        try:
            return codec.dump(model)[1]
        except ContractError:
            return model.raw_predictions(self.columns).tobytes()

    def answers(self, model: Model, columns: Columns, what: str) -> Floats:
        """The model's answers, all finite. Raises DoesNotHold."""
        try:
            raw = model.raw_predictions(columns)
        except Exception as error:
            verb = (
                "predict" if model.classes is None or not hasattr(model.estimator, "predict_proba") else "predict_proba"
            )
            raise DoesNotHold(
                f"{verb} for {what} raised {_words(error)}",
                f"{verb} takes a matrix of rows and gives one answer for each",
            ) from error
        if not np.isfinite(raw).all():
            raise DoesNotHold(
                f"{int((~np.isfinite(raw).all(axis=1)).sum())} of {len(raw)} answers for {what} are NaN or infinite",
                "Every row needs a finite answer: a row without one is answered by another model",
            )
        return raw


def broken(case: Case) -> list[Broken]:
    """Return the points that do not hold; no other is asked where it cannot be cloned, fitted or asked at all."""
    found = []
    for name in POINTS:
        wrong = why_broken(case, name)
        if wrong is not None:
            found.append(wrong)
            if name in NEEDED:
                break
    return found


def why_broken(case: Case, point: str) -> Broken | None:
    """What is wrong with one of POINTS; None: nothing."""
    try:
        POINTS[point](case)
    except DoesNotHold as error:
        said, remedy = error.args
        return Broken(point, said, remedy)
    except Exception as error:  # the estimator's own, at a place that no point foresees
        return Broken(point, f"raised {_words(error)}", "Mend the estimator, or take another")
    return None


def fit_ms(case: Case) -> float:
    """Milliseconds that one fit of the toy group takes: the shorter of two, since the first imports and warms up."""
    return min(case.attempt(case.rows).ms for _ in range(2))


def _clone(case: Case) -> None:
    for template in case.templates:
        try:
            clone(template)
        except Exception as error:
            raise DoesNotHold(
                f"sklearn.base.clone raised {_words(error)}",
                "Let __init__ keep each argument under its own name, unchanged, and derive nothing before fit",
            ) from error


def _fit(case: Case) -> None:
    case.model(case.rows)


def _answers(case: Case) -> None:
    model = case.model(case.rows)
    raw = case.answers(model, case.columns, "the rows it was fitted on")
    if model.classes is None:
        return
    strange = sorted(set(model.classes) - case.texts(case.rows["label"]))
    if strange:
        raise DoesNotHold(f"classes_ has {strange}, which no label is", "Keep the labels as they come to fit: as text")
    if raw.min() < 0 or not np.allclose(raw.sum(axis=1), 1, atol=1e-6):
        raise DoesNotHold(
            "predict_proba gives numbers that are no probabilities",
            "Each row needs one number from 0 to 1 per class, in the order of classes_, that add up to 1",
        )


def _payload(case: Case) -> None:
    model = case.model(case.rows)
    name, payload = _dumped(model)
    back = case.answers(codec.load(name, payload), case.columns, "a model that was stored and read")
    if not np.array_equal(back, model.raw_predictions(case.columns)):
        raise DoesNotHold(
            f"a model stored with codec {name} and read again answers otherwise",
            "Keep all that predict needs in attributes set by fit: numbers, arrays, texts, scikit-learn's objects",
        )


def _same_bytes(case: Case) -> None:
    one, other = (case.identity(case.model(case.rows)) for _ in range(2))
    if one != other:
        raise DoesNotHold(
            "the same rows fitted twice give another model",
            "Draw from a random_state that is a parameter and None by default: it is seeded from the group's key",
        )


def _row_order(case: Case) -> None:
    shuffled = case.rows.sample(frac=1, random_state=1)
    model = case.model(case.rows)
    if case.identity(model) != case.identity(case.model(shuffled)):
        raise DoesNotHold(
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
            raise DoesNotHold(
                "a row asked alone, or in another order, is answered otherwise than among others",
                "predict must look at each row by itself: a stream asks for few at a time, a batch for many",
            )


def _missing(case: Case) -> None:
    names = [feature.name for feature in case.recipe.features]
    gaps = case.rows.copy()
    for at, name in enumerate(names):
        gaps[name] = gaps[name].astype(object).where(np.arange(len(gaps)) % 5 != at % 5, None)
    case.answers(case.model(gaps, "rows with gaps"), to_columns(gaps, case.recipe.features), "rows with gaps")
    empty = case.rows.assign(**{name: pd.Series([None] * len(gaps), dtype=object) for name in names})
    columns = to_columns(empty, case.recipe.features)
    case.answers(case.model(case.rows), columns, "rows of which nothing is known")
    case.answers(case.model(empty, "rows of which nothing is known"), columns, "rows of which nothing is known")


def _one_label(case: Case) -> None:
    label = case.rows["label"].iloc[0]
    of_one = case.rows.assign(label=label)
    raw = case.answers(case.model(of_one, "a group with one label"), case.columns, "a group with one label")
    if case.recipe.task == "regression" and not np.allclose(raw, float(label), rtol=1e-3, atol=1e-3):
        raise DoesNotHold(
            f"a group whose labels are all {float(label):.4g} is answered with {raw.min():.4g} to {raw.max():.4g}",
            "Correct predict, or the parameters that draw it away from what it was fitted on",
        )


def _classes(case: Case) -> None:
    if case.recipe.task == "regression":
        return
    known = classes(case.config.target_type)
    rare = [known[-1], *(known[row % 2] for row in range(1, len(case.rows)))]
    two = rare[1:] + rare[1:2]
    for labels, what in ((rare, "a group with a class that came once"), (two, "a group with two classes")):
        of_these = case.rows.assign(label=pd.Series(labels, dtype=object))
        model = case.model(of_these, what)
        case.answers(model, case.columns, what)
        theirs = sorted(case.texts(labels))
        if sorted(model.classes or ()) != theirs:
            raise DoesNotHold(
                f"{what} has {theirs}, but classes_ is {list(model.classes or ())}",
                "Let fit learn classes_ from the labels it is given: they differ between groups",
            )


def _fewest_rows(case: Case) -> None:
    least = max(1, case.recipe.min_rows)
    fewest = max(1, least - max(1, least // HELD_OUT_ONE_IN))
    what = f"a group of {fewest} rows, the fewest that recipe.min_rows lets through once the newest are held out,"
    rows = case.rows.iloc[:fewest]
    if case.recipe.task == "classification" and fewest > 1:
        known = classes(case.config.target_type)
        rows = rows.assign(label=[known[row % 2] for row in range(fewest)])
    case.answers(case.model(rows, what), case.columns, what)


def _weights(case: Case) -> None:
    if case.recipe.weight_half_life is None:
        return
    if not all(weight_arguments(template, np.ones(1)) for template in case.templates):
        raise DoesNotHold(
            "recipe.weight_half_life is set, but fit of the last step takes no sample_weight: all rows weigh the same",
            "Take an estimator that weighs rows, or remove weight_half_life and let the window forget",
        )


def _time(case: Case) -> None:
    ms, seconds = fit_ms(case), case.config.budget.seconds
    if timedelta(milliseconds=ms) > timedelta(seconds=seconds):
        raise DoesNotHold(
            f"one fit of {len(case.rows)} rows takes {ms / 1e3:.1f} s, more than a whole round may (budget.seconds = "
            f"{seconds:g})",
            "Make it cheaper (fewer trees or iterations), or raise budget.seconds: as it is, a round fits one group",
        )


POINTS: Mapping[str, Callable[[Case], None]] = {
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
NEEDED = frozenset({"clone", "fit", "answers"})
"""Without these no other point means anything."""


def _dumped(model: Model) -> tuple[str, bytes]:
    try:
        return codec.dump(model)
    except ContractError as error:
        raise DoesNotHold(
            f"the fitted model cannot be stored: {_words(error)}",
            "Build it from scikit-learn's own estimators: what is stored must be read back without running your code",
        ) from error


def _words(error: Exception | None) -> str:
    return f"{type(error).__name__}: {error}"[:MAX_ERROR_CHARACTERS]
