"""Fit many groups: rows and champions in, one result per group out.

For each group: select and order its rows; compute the model's id; fit a challenger on all but the newest rows; compare
it with the champion on those; fit on all rows; sign; compare the shadow recipe, if there is one. An error of one group
is a row of the result, never an exception.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pandas as pd

from spinney.core.features.encoding import Floats, Integers
from spinney.core.models.model import Model
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Recipe
from spinney.core.training import current_group
from spinney.core.training.comparisons import shadow_recipe
from spinney.core.training.comparisons.gate_rule_answers import ask_user_rule
from spinney.core.training.comparisons.held_out_comparison import (
    ComparedRows,
    OlderRows,
    champion_answers,
    comparison_metrics,
    greater_jumps,
)
from spinney.core.training.comparisons.held_out_loss import (
    RowsToPredict,
    any_per_group,
    mean_per_group,
    measure_rows,
    not_finite_error,
    split_by_count,
    split_by_group,
)
from spinney.core.training.comparisons.held_out_rows import sample_evenly
from spinney.core.training.comparisons.parent_comparison import compare_with_parents
from spinney.core.training.comparisons.predecessor_comparison import compare_predecessors
from spinney.core.training.comparisons.reference_losses import (
    ChampionReference,
    earlier_answers,
    prequential_losses,
)
from spinney.core.training.estimators import kernel_for
from spinney.core.training.fit_attempt import (
    FitAttempt,
    apply_kernel_result,
    heldout_begins,
    hold_out_rows,
    is_pending,
    reporter,
    results_frame,
    sign_model,
    start_attempt,
)
from spinney.core.training.fit_kernels import Kernel, Pooling, Timer, single_threaded
from spinney.core.training.fit_request import FitRequest, requests_of_frame
from spinney.core.training.loaded_parent_models import ParentModels
from spinney.core.training.loss import Loss, loss_named
from spinney.core.training.training_predictions import spread_predictions
from spinney.core.training.training_set import TrainingSet, concatenated_ranges, select_training_set


def fit_groups(
    rows: pd.DataFrame,
    requests: pd.DataFrame,
    recipe: Recipe,
    clock: datetime,
    signer: Signer,
    timer: Timer = time.perf_counter,
) -> pd.DataFrame:
    """Fit each requested group.

    rows: group_key, event_id, event_time (UTC), the features and `label`; in any order, may have other columns and
    groups. requests: one row per group: group_key and, nullable or absent, champion_id, champion_codec,
    champion_payload, champion_signature, champion_trained_through, champion_recipe_id, predecessor_id,
    predecessor_codec, predecessor_payload, predecessor_signature; of the nearest parent's champion
    parent_key, parent_id, parent_codec and so on, as of the champion. Neither is changed. clock: end of
    `recipe.window`. timer: seconds, for fit_ms only, which includes the shadow: a round's budget pays for both.

    Returns exactly one row per request, in their order, with COLUMNS. status: fitted, failed, too_few_rows, or kept if
    the rows and the recipe are the champion's own and its signature verifies. metrics is a JSON object:

    heldout_rows     number of held-out rows compared: all of them without a champion or if `refitted`, otherwise those
                     newer than the champion's trained_through that it predicts. See `held_out_counts`
    challenger_loss  mean loss on them of a model fitted on the older rows; null if there are none
    constant_loss    loss on them of a constant made from the older rows: see `comparisons.baseline`
    champion_loss    the champion's loss on them; champion_id: its id; champion_error: why it was not compared
    champion_difference, constant_difference
                     winsorised mean of challenger_loss − champion_loss (− constant_loss) over the rows
    champion_difference_se, constant_difference_se
                     its standard error, null for fewer than two rows: see `spinney.core.champions.paired_test`
    jump             how far predictions are from the champion's, those of the measured challenger or of the stored
                     model, whichever are farther: see `comparisons.prediction_jump`; null
                     for classes and if the champion itself was not compared
    changed_from     the champion's recipe_id, if it is known and not this recipe's
    uncompared       if changed_from is set, the champion can answer and no row was compared: why, and refit_failed:
                     whether a comparison was possible and failed (its recipe could have been fitted again, or it
                     predicted none of the newer rows). Absent for an imported model that may have seen all rows
    refitted         if the champion was fitted by one of `recipe.earlier` and has seen some of the held-out rows or
                     predicts none of them: that recipe's estimator and recipe_id. It was fitted on the older rows too,
                     and champion_loss is that model's, on all held-out rows
    predecessor_id, watched_rows and others
                     the champion against its predecessor: see `comparisons.predecessor_comparison`
    parent           of a first model whose parent has one: see `comparisons.parent_comparison`
    user_rule        if `recipe.user_rule` was asked: its name, promotes and reason
    train_loss       mean loss of the final model on all its rows
    chosen           of `best_of`: the candidate that was fitted; candidates: each one's mean loss when it was chosen
    shadow           of groups in the share of `recipe.shadow`: estimator, recipe_id, and loss and rows, or error

    Raises ContractError (invalid data or parameters) and ConfigError (no such estimator).
    """
    parsed = requests_of_frame(requests)
    training_set = select_training_set(rows, [request.group_key for request in parsed], recipe, clock)
    return fit_training_set(training_set, parsed, recipe, signer, timer)


def fit_training_set(
    training_set: TrainingSet,
    requests: Sequence[FitRequest],
    recipe: Recipe,
    signer: Signer,
    timer: Timer = time.perf_counter,
) -> pd.DataFrame:
    """Fit each requested group on its rows of a training set, as `fit_groups` does.

    requests: one per group of the training set, in its order.
    """
    kernel, loss = kernel_for(recipe.estimator, recipe.task, recipe.arguments), loss_named(recipe.loss)
    parents = ParentModels.load(requests, recipe, signer)
    attempts = [
        start_attempt(request, g, training_set, recipe, signer, parents.prior_of(request, recipe))
        for g, request in enumerate(requests)
    ]
    hold_out_rows(attempts, training_set, recipe)
    fitting = _Fitting(training_set, recipe, kernel, loss, timer)
    with single_threaded():
        fitting.compare([attempt for attempt in attempts if is_pending(attempt)], signer)
        pending = [attempt for attempt in attempts if is_pending(attempt)]
        compare_predecessors(training_set, pending, recipe, signer)
        compare_with_parents(training_set, pending, parents, loss)
        ask_user_rule(pending, recipe)
        fitting.fit_all_rows([attempt for attempt in attempts if is_pending(attempt)])
    for attempt in attempts:
        if is_pending(attempt):
            sign_model(attempt, signer)
    with single_threaded():
        fitting.compare_shadow([attempt for attempt in attempts if is_pending(attempt)])
    return results_frame(attempts, training_set, recipe)


@dataclass(frozen=True)
class _Fitting:
    """The fits of one call of `fit_groups`, for the groups that have not failed yet."""

    training_set: TrainingSet
    recipe: Recipe
    kernel: Kernel
    loss: Loss
    timer: Timer

    def compare(self, attempts: Sequence[FitAttempt], signer: Signer) -> None:
        """Fit challengers on the older rows. Measure them and the champions on the held-out rows."""
        self._refuse_single_rows(attempts)
        attempts = [attempt for attempt in attempts if attempt.heldout_rows < attempt.rows]
        fitted = self._fit(attempts, heldout_begins(attempts, self.training_set))
        rows, attempt_index = self._held_out(fitted)
        held = RowsToPredict(rows, attempt_index)
        challenger = measure_rows(
            self.training_set, _models(fitted), held, self.loss, reporter(fitted, current_group.PREDICT)
        )
        champions = ChampionReference(self.training_set, self.recipe, self.loss, self.timer, signer)
        reference, answers_before = champions.losses_of(fitted, attempt_index, rows)
        has_no_champion = np.array([attempt.request.champion_id is None for attempt in fitted], dtype=np.bool_)
        compared = np.flatnonzero(np.isfinite(reference.losses) | has_no_champion[attempt_index])
        counts = np.bincount(attempt_index[compared], minlength=len(fitted))
        older = OlderRows(self.training_set, *self._older_rows(fitted))
        compared_rows = ComparedRows(rows[compared], counts, challenger.at(compared), reference.at(compared))
        compared_metrics = comparison_metrics(older, compared_rows, self.loss)
        has_failed = any_per_group(np.isnan(challenger.losses), attempt_index, len(fitted))
        measured = (challenger.losses, challenger.values, reference.losses)
        own = (split_by_group(values, attempt_index) for values in measured)
        for index, (attempt, losses, predictions, champion_losses) in enumerate(zip(fitted, *own, strict=True)):
            if has_failed[index]:
                attempt.fail(not_finite_error(attempt.request.group_key, challenger.errors.get(index)))
                continue
            if counts[index]:
                attempt.metrics.pop("uncompared", None)
            attempt.metrics |= compared_metrics[index]
            earlier = earlier_answers(attempt, answers_before[index], self.loss.name)
            attempt.heldout_losses = sample_evenly(losses, earlier.losses, attempt.rows)
            attempt.heldout_predictions = sample_evenly(predictions, earlier.predictions, attempt.rows)
            if self.loss.task != "classification":
                unseen = np.concatenate([answers_before[index].losses, champion_losses])
                attempt.prequential_losses = prequential_losses(attempt, losses, unseen)
        kinds = (rows, challenger.losses, reference.losses)
        of_groups = [split_by_count(values[compared], counts) for values in kinds]
        for attempt, *compared_of in zip(fitted, *of_groups, strict=True):
            attempt.compared_places, attempt.compared_losses, attempt.reference_losses = compared_of
        if self.loss.task != "classification":
            for attempt, answers in zip(fitted, champion_answers(older, compared_rows), strict=True):
                attempt.champion_answers, attempt.metrics["jump"] = answers, answers.jump

    def fit_all_rows(self, attempts: Sequence[FitAttempt]) -> None:
        """Fit on all rows."""
        stops = self.training_set.starts[[attempt.group_index + 1 for attempt in attempts]]
        fitted = self._fit(attempts, stops)
        begins = self.training_set.starts[[attempt.group_index for attempt in fitted]]
        sizes = np.array([attempt.rows for attempt in fitted], dtype=np.int64)
        attempt_index = np.repeat(np.arange(len(fitted)), sizes)
        rows = RowsToPredict(concatenated_ranges(begins, begins + sizes), attempt_index)
        on_begin = reporter(fitted, current_group.PREDICT)
        measured = measure_rows(self.training_set, _models(fitted), rows, self.loss, on_begin)
        has_failed = any_per_group(np.isnan(measured.losses), attempt_index, len(fitted))
        mean_losses, predictions = mean_per_group(measured.losses, sizes), spread_predictions(measured.values, sizes)
        for index, attempt in enumerate(fitted):
            attempt.metrics["train_loss"], attempt.training_predictions = mean_losses[index], predictions[index]
            if has_failed[index]:
                attempt.fail(not_finite_error(attempt.request.group_key, measured.errors.get(index)))
        _note_jumps(fitted, split_by_count(measured.predictions, sizes), begins)

    def compare_shadow(self, attempts: Sequence[FitAttempt]) -> None:
        """Measure the shadow recipe on the rows the challengers were measured on, in its share of the groups."""
        shadow = self.recipe.shadow
        if shadow is None:
            return
        watched = [
            (
                attempt,
                shadow_recipe.ShadowedGroup(
                    attempt.group_index, int(heldout_begins([attempt], self.training_set)[0]), attempt.compared_places
                ),
            )
            for attempt in attempts
            if attempt.compared_places is not None
            and len(attempt.compared_places)
            and shadow.includes(attempt.request.group_key)
        ]
        measured = shadow_recipe.measure_shadow(self.training_set, [group for _, group in watched], shadow, self.timer)
        for (attempt, _), (entry, elapsed_ms) in zip(watched, measured, strict=True):
            attempt.metrics["shadow"] = entry
            attempt.elapsed_ms += elapsed_ms

    def _fit(self, attempts: Sequence[FitAttempt], stops: Integers) -> list[FitAttempt]:
        """Fit the rows up to `stops` of each attempt. Return the attempts that have a model; the others have failed."""
        if not attempts:
            return []
        stack = self.training_set.kernel_input([attempt.group_index for attempt in attempts], stops, self.recipe)
        if self.recipe.pooling_rows is not None:
            priors = tuple(attempt.prior for attempt in attempts)
            rows = self.recipe.pooling_rows
            stack = replace(stack, pooling=Pooling(priors, rows if isinstance(rows, float | int) else None))
        current_group.report(None, current_group.FIT)
        fits = self.kernel.fit(stack, self.timer)
        for attempt, fit in zip(attempts, fits, strict=True):
            apply_kernel_result(attempt, fit)
        return [attempt for attempt in attempts if attempt.model is not None]

    def _held_out(self, attempts: Sequence[FitAttempt]) -> tuple[Integers, Integers]:
        """Positions of the held-out rows, and the index of each one's attempt."""
        stops = self.training_set.starts[[attempt.group_index + 1 for attempt in attempts]]
        held = np.array([attempt.heldout_rows for attempt in attempts], dtype=np.int64)
        return concatenated_ranges(stops - held, stops), np.repeat(np.arange(len(attempts)), held)

    def _older_rows(self, attempts: Sequence[FitAttempt]) -> tuple[Integers, Integers]:
        """Start and stop of each attempt's rows before the held-out ones."""
        begins = self.training_set.starts[[attempt.group_index for attempt in attempts]]
        return begins, heldout_begins(attempts, self.training_set)

    def _refuse_single_rows(self, attempts: Sequence[FitAttempt]) -> None:
        """Record that a group with a single row, which is held out, is not compared."""
        earlier = dict(self.recipe.earlier)
        for attempt in attempts:
            if attempt.heldout_rows >= attempt.rows and attempt.request.recipe_id in earlier:
                attempt.refuse_comparison("its recipe: no row lies before the held-out row", refit_failed=True)


def _note_jumps(attempts: Sequence[FitAttempt], predictions: Sequence[Floats], begins: Integers) -> None:
    """Raise the metric `jump` to that of the models fitted on all rows, where it is greater.

    predictions: of each attempt's model for the rows of its group. begins: position of each group's first row.
    """
    known = [(index, attempt.champion_answers) for index, attempt in enumerate(attempts)]
    compared = [(index, answers) for index, answers in known if answers is not None and len(answers.places)]
    of_rows = [predictions[index][answers.places - begins[index]] for index, answers in compared]
    jumps = greater_jumps([answers for _, answers in compared], of_rows)
    for (index, _), jump in zip(compared, jumps, strict=True):
        attempts[index].metrics["jump"] = jump


def _models(attempts: Sequence[FitAttempt]) -> list[Model]:
    return [attempt.model for attempt in attempts if attempt.model is not None]
