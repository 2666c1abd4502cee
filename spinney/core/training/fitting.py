"""Fit many groups: rows and champions in, one result per group out.

For each group: select and order its rows; compute the model's id; fit a challenger on all but the newest rows; compare
it with the champion on those; fit on all rows; sign; compare the shadow recipe, if there is one. An error of one group
is a row of the result, never an exception.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinney.core.errors import MAX_ERROR_CHARACTERS, SpinneyError
from spinney.core.even_spacing import is_evenly_spaced
from spinney.core.features.encoding import Floats, Integers
from spinney.core.models.batch_scoring import NO_MODEL
from spinney.core.models.model import Model
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Feature, Recipe
from spinney.core.training import champion_model, current_group, shadow_recipe
from spinney.core.training.estimators import kernel_for
from spinney.core.training.fit_attempt import (
    MAX_HELDOUT_LOSSES,
    FitAttempt,
    apply_kernel_result,
    is_pending,
    results_frame,
    rows_behind,
    seen_through,
    sign_model,
    start_attempt,
)
from spinney.core.training.fit_kernels import Kernel, Pooling, Timer, single_threaded
from spinney.core.training.fit_request import FitRequest, requests_of_frame
from spinney.core.training.held_out_comparison import ComparedRows, OlderRows, comparison_metrics
from spinney.core.training.held_out_loss import (
    MeasuredRows,
    RowsToPredict,
    any_per_group,
    mean_per_group,
    measure_rows,
    not_finite_error,
    row_losses,
    split_by_group,
)
from spinney.core.training.loss import Loss, loss_named
from spinney.core.training.parent_comparison import compare_with_parents
from spinney.core.training.parent_models import ParentModels
from spinney.core.training.predecessor_comparison import compare_predecessors
from spinney.core.training.recipe_comparison import RefitRequest, as_metrics, refit_and_measure
from spinney.core.training.training_predictions import spread_predictions
from spinney.core.training.training_set import TrainingSet, concatenated_ranges, select_training_set

OLDER_ROWS = 100
"""Newest rows before the held-out ones that a champion is tried on if it predicts none of the held-out ones."""


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
                     newer than the champion's trained_through that it predicts
    challenger_loss  mean loss on them of a model fitted on the older rows; null if there are none
    constant_loss    loss on them of a constant made from the older rows: see `spinney.core.training.baseline`
    champion_loss    the champion's loss on them; champion_id: its id; champion_error: why it was not compared
    champion_difference, constant_difference
                     winsorised mean of challenger_loss − champion_loss (− constant_loss) over the rows
    champion_difference_se, constant_difference_se
                     its standard error, null for fewer than two rows: see `spinney.core.champions.paired_test`
    jump             how far its predictions are from the champion's: see `spinney.core.training.prediction_jump`; null
                     for classes and if the champion itself was not compared
    rows_behind      held-out rows that the compared champion was fitted on and the measured challenger was not; absent
                     if there are none
    changed_from     the champion's recipe_id, if it is known and not this recipe's
    uncompared       if changed_from is set, the champion can answer and no row was compared: why, and refit_failed:
                     whether a comparison was possible and failed (its recipe could have been fitted again, or it
                     predicted none of the newer rows). Absent for an imported model that may have seen all rows
    refitted         if the champion was fitted by one of `recipe.earlier` and has seen some of the held-out rows or
                     predicts none of them: that recipe's estimator and recipe_id. It was fitted on the older rows too,
                     and champion_loss is that model's, on all held-out rows
    predecessor_id, watched_rows and others
                     the champion against its predecessor: see `spinney.core.training.predecessor_comparison`
    parent           of a first model whose parent has one: see `spinney.core.training.parent_comparison`
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
    fitting = _Fitting(training_set, recipe, kernel, loss, timer)
    with single_threaded():
        fitting.compare([attempt for attempt in attempts if is_pending(attempt)], signer)
        pending = [attempt for attempt in attempts if is_pending(attempt)]
        compare_predecessors(training_set, pending, recipe, signer)
        compare_with_parents(training_set, pending, parents, loss)
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
        """Fit challengers on the older rows, and measure them and the champions on the held-out rows."""
        self._refuse_single_rows(attempts)
        attempts = [attempt for attempt in attempts if attempt.heldout_rows < attempt.rows]
        fitted = self._fit(attempts, self._stops(attempts, leave_out=True))
        rows, attempt_index = self._held_out(fitted)
        held = RowsToPredict(rows, attempt_index)
        challenger = measure_rows(
            self.training_set, _models(fitted), held, self.loss, _reporter(fitted, current_group.PREDICT)
        )
        reference = self._reference(fitted, attempt_index, rows, signer)
        has_no_champion = np.array([attempt.request.champion_id is None for attempt in fitted], dtype=np.bool_)
        compared = np.flatnonzero(np.isfinite(reference.losses) | has_no_champion[attempt_index])
        counts = np.bincount(attempt_index[compared], minlength=len(fitted))
        older = OlderRows(self.training_set, *self._older_rows(fitted))
        compared_metrics = comparison_metrics(
            older, ComparedRows(rows[compared], counts, challenger.at(compared), reference.at(compared)), self.loss
        )
        has_failed = any_per_group(np.isnan(challenger.losses), attempt_index, len(fitted))
        for index, (attempt, losses) in enumerate(
            zip(fitted, split_by_group(challenger.losses, attempt_index), strict=True)
        ):
            if has_failed[index]:
                attempt.fail(not_finite_error(attempt.request.group_key, challenger.errors.get(index)))
                continue
            attempt.heldout_losses = losses[is_evenly_spaced(np.arange(len(losses)), len(losses), MAX_HELDOUT_LOSSES)]
            if counts[index]:
                attempt.metrics.pop("uncompared", None)
            attempt.metrics |= compared_metrics[index]
            if counts[index] and (behind := rows_behind(attempt, self.training_set)):
                attempt.metrics["rows_behind"] = behind
        if fitted:
            of_groups = [np.split(values[compared], np.cumsum(counts)[:-1]) for values in (rows, challenger.losses)]
            for attempt, places, losses in zip(fitted, *of_groups, strict=True):
                attempt.compared_places, attempt.compared_losses = places, losses

    def fit_all_rows(self, attempts: Sequence[FitAttempt]) -> None:
        """Fit on all rows."""
        fitted = self._fit(attempts, self._stops(attempts, leave_out=False))
        begins = self.training_set.starts[[attempt.group_index for attempt in fitted]]
        sizes = np.array([attempt.rows for attempt in fitted], dtype=np.int64)
        attempt_index = np.repeat(np.arange(len(fitted)), sizes)
        rows = RowsToPredict(concatenated_ranges(begins, begins + sizes), attempt_index)
        begin = _reporter(fitted, current_group.PREDICT)
        measured = measure_rows(self.training_set, _models(fitted), rows, self.loss, begin)
        has_failed = any_per_group(np.isnan(measured.losses), attempt_index, len(fitted))
        mean_losses, predictions = mean_per_group(measured.losses, sizes), spread_predictions(measured.values, sizes)
        for index, attempt in enumerate(fitted):
            attempt.metrics["train_loss"], attempt.training_predictions = mean_losses[index], predictions[index]
            if has_failed[index]:
                attempt.fail(not_finite_error(attempt.request.group_key, measured.errors.get(index)))

    def compare_shadow(self, attempts: Sequence[FitAttempt]) -> None:
        """Measure the shadow recipe on the rows the challengers were measured on, in its share of the groups."""
        shadow = self.recipe.shadow
        if shadow is None:
            return
        watched = [
            (
                each,
                shadow_recipe.ShadowedGroup(
                    each.group_index, int(self._stops([each], leave_out=True)[0]), each.compared_places
                ),
            )
            for each in attempts
            if each.compared_places is not None
            and len(each.compared_places)
            and shadow.includes(each.request.group_key)
        ]
        measured = shadow_recipe.measure_shadow(self.training_set, [group for _, group in watched], shadow, self.timer)
        for (attempt, _), (entry, elapsed_ms) in zip(watched, measured, strict=True):
            attempt.metrics["shadow"] = entry
            attempt.elapsed_ms += elapsed_ms

    def _stops(self, attempts: Sequence[FitAttempt], *, leave_out: bool) -> Integers:
        held = [attempt.heldout_rows if leave_out else 0 for attempt in attempts]
        return self.training_set.starts[[attempt.group_index + 1 for attempt in attempts]] - np.array(
            held, dtype=np.int64
        )

    def _fit(self, attempts: Sequence[FitAttempt], stops: Integers) -> list[FitAttempt]:
        """Fit the rows up to `stops` of each attempt. Return the attempts that have a model; the others have failed."""
        if not attempts:
            return []
        stack = self.training_set.kernel_input([attempt.group_index for attempt in attempts], stops, self.recipe)
        if self.recipe.pooling_rows is not None:
            priors = tuple(attempt.prior for attempt in attempts)
            stack = replace(stack, pooling=Pooling(priors, self.recipe.pooling_rows))
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
        """Where each attempt's rows before the held-out ones begin and stop."""
        begins = self.training_set.starts[[attempt.group_index for attempt in attempts]]
        return begins, self._stops(attempts, leave_out=True)

    def _refuse_single_rows(self, attempts: Sequence[FitAttempt]) -> None:
        """Record that a group with a single row, which is held out, is not compared."""
        earlier = dict(self.recipe.earlier)
        for attempt in attempts:
            if attempt.heldout_rows >= attempt.rows and attempt.request.recipe_id in earlier:
                attempt.refuse_comparison("its recipe: no row lies before the held-out row", refit_failed=True)

    def _reference(
        self, attempts: Sequence[FitAttempt], attempt_index: Integers, rows: Integers, signer: Signer
    ) -> MeasuredRows:
        """The losses that challengers are compared with; NaN if there is none. Predictions are champions' own only.

        They are the champion's, unless it has seen some of these rows or predicts none of them and its recipe is known:
        then those of its recipe, fitted again without these rows.
        """
        earlier = dict(self.recipe.earlier)
        refittable = [index for index, attempt in enumerate(attempts) if attempt.request.recipe_id in earlier]
        starts = np.searchsorted(attempt_index, np.arange(len(attempts) + 1))
        oldest = self.training_set.times[rows[starts[:-1]]] if len(rows) else np.empty(0, dtype=np.int64)
        needs_refit = [index for index in refittable if oldest[index] <= seen_through(attempts[index].request)]
        out, has_loss = self._refit_losses(attempts, needs_refit, attempt_index, rows)
        champions, unanswered = self._measure_champions(attempts, attempt_index[~has_loss], rows[~has_loss], signer)
        predictions = np.full(len(rows), np.nan)
        out[~has_loss], predictions[~has_loss] = champions.losses, champions.predictions
        unanswered_refittable = sorted(unanswered.keys() & set(refittable) - set(needs_refit))
        refit_losses, has_loss = self._refit_losses(attempts, unanswered_refittable, attempt_index, rows)
        out[has_loss] = refit_losses[has_loss]
        for index, model in unanswered.items():
            if "refitted" not in attempts[index].metrics:
                self._note_unanswered(attempts[index], model)
        return MeasuredRows(out, predictions, predictions, {})

    def _refit_losses(
        self, attempts: Sequence[FitAttempt], wanted: Sequence[int], which: Integers, rows: Integers
    ) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Losses of champions' own recipes, fitted again without these rows; and which rows have one.

        wanted: indices of attempts whose champion was fitted by one of `recipe.earlier`.
        """
        out, has_loss = np.full(len(rows), np.nan), np.zeros(len(rows), dtype=np.bool_)
        earlier = dict(self.recipe.earlier)
        starts = np.searchsorted(which, np.arange(len(attempts) + 1)).tolist()
        refits, targets = [], []
        for at in wanted:
            attempt, places = attempts[at], rows[starts[at] : starts[at + 1]]
            refits.append(RefitRequest(attempt.group_index, str(attempt.request.recipe_id), int(places[0]), places))
            targets.append((attempt, slice(starts[at], starts[at + 1])))
        results = refit_and_measure(self.training_set, refits, earlier, self.timer, self.recipe.refit_error)
        for refit, result, (attempt, span) in zip(refits, results, targets, strict=True):
            attempt.elapsed_ms += result.elapsed_ms
            if result.losses is None:
                attempt.refuse_comparison(f"its recipe: {result.error}", refit_failed=True)
                continue
            attempt.metrics["refitted"] = as_metrics(refit, result)
            out[span], has_loss[span] = result.losses, True
        return out, has_loss

    def _measure_champions(
        self, attempts: Sequence[FitAttempt], attempt_index: Integers, rows: Integers, signer: Signer
    ) -> tuple[MeasuredRows, dict[int, Model | None]]:
        """The champions' losses and predictions; NaN without one, for rows it has seen or cannot predict.

        Also the champions that predicted none of their rows, by the attempt's index; None for one that is not called.
        """
        out = MeasuredRows.nothing(len(rows))
        seen_until = np.array([seen_through(attempt.request) for attempt in attempts], dtype=np.int64)
        fresh = np.flatnonzero(self.training_set.times[rows] > seen_until[attempt_index])
        wanted = np.unique(attempt_index[fresh]).tolist()
        if self.recipe.champion_error is not None:
            for index in wanted:
                attempts[index].metrics["champion_error"] = self.recipe.champion_error[:MAX_ERROR_CHARACTERS]
            return out, dict.fromkeys(wanted)
        unanswered: dict[int, Model | None] = {}
        for features, models in self._load_champions(attempts, wanted, signer).items():
            place = np.full(len(attempts), NO_MODEL, dtype=np.int64)
            place[list(models)] = np.arange(len(models))
            asked_rows = fresh[place[attempt_index[fresh]] != NO_MODEL]
            owners, own = [attempts[index] for index in models], self.training_set.with_features(features)
            of_rows = RowsToPredict(rows[asked_rows], place[attempt_index[asked_rows]])
            reporter = _reporter(owners, current_group.PREDICT_CHAMPION)
            found = measure_rows(own, list(models.values()), of_rows, self.loss, reporter)
            out.losses[asked_rows], out.predictions[asked_rows] = found.losses, found.predictions
            for index, raised in found.errors.items():
                owners[index].metrics["champion_error"] = f"{type(raised).__name__}: {raised}"[:MAX_ERROR_CHARACTERS]
            n_predicted = np.bincount(of_rows.model_index[np.isfinite(found.losses)], minlength=len(owners))
            places = list(models)
            unanswered |= {places[index]: models[places[index]] for index in np.flatnonzero(n_predicted == 0).tolist()}
        return out, unanswered

    def _note_unanswered(self, attempt: FitAttempt, model: Model | None) -> None:
        """A champion that predicted none of the rows to compare on is kept only if it predicts older rows."""
        if "uncompared" not in attempt.metrics:
            return
        if model is None or not self._answers_older_rows(attempt, model):
            del attempt.metrics["uncompared"]
            return
        why = attempt.metrics.get("champion_error", "it gave no finite number")
        attempt.refuse_comparison(
            f"it answers older rows and none of the held-out rows to compare on: {why}", refit_failed=True
        )

    def _answers_older_rows(self, attempt: FitAttempt, model: Model) -> bool:
        begin, stop = int(self.training_set.starts[attempt.group_index]), int(self._stops([attempt], leave_out=True)[0])
        places = np.arange(max(begin, stop - OLDER_ROWS), stop)
        with_own_features = self.training_set.with_features(model.encoder.features)
        of_rows = RowsToPredict(places, np.zeros(len(places), dtype=np.int64))
        predicted_losses, _ = row_losses(
            with_own_features, [model], of_rows, self.loss, _reporter([attempt], current_group.PREDICT_CHAMPION)
        )
        return bool(np.isfinite(predicted_losses).any())

    def _load_champions(
        self, attempts: Sequence[FitAttempt], wanted: Sequence[int], signer: Signer
    ) -> dict[tuple[Feature, ...], dict[int, Model]]:
        """Load the champions of the wanted attempts: by their features, then by the attempt's index."""
        champions: dict[tuple[Feature, ...], dict[int, Model]] = {}
        for index in wanted:
            current_group.report(attempts[index].request.group_key, current_group.READ_CHAMPION)
            try:
                model = champion_model.load_champion(attempts[index].request, self.recipe, signer)
            except SpinneyError as error:
                attempts[index].refuse_comparison(str(error), refit_failed=False)
                continue
            champions.setdefault(model.encoder.features, {})[index] = model
        return champions


def _models(attempts: Sequence[FitAttempt]) -> list[Model]:
    return [attempt.model for attempt in attempts if attempt.model is not None]


def _reporter(attempts: Sequence[FitAttempt], activity: str) -> Callable[[int], None]:
    return lambda at: current_group.report(attempts[at].request.group_key, activity)
