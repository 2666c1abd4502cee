"""Reference losses for challengers: those of their champions, or of the champions' recipes fitted again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spinney.core.champions import held_out_loss_codec
from spinney.core.champions.held_out_evidence import HeldOutEvidence
from spinney.core.errors import MAX_ERROR_CHARACTERS, SpinneyError
from spinney.core.features.encoding import Floats, Integers
from spinney.core.models.model import Model
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Recipe
from spinney.core.training import champion_model, current_group
from spinney.core.training.comparisons.held_out_loss import (
    MeasuredRows,
    RowsToPredict,
    measure_models,
    row_losses,
    split_by_count,
)
from spinney.core.training.comparisons.held_out_rows import extend_sample, sample_evenly, seen_through
from spinney.core.training.comparisons.recipe_comparison import RefitRequest, as_metrics, refit_and_measure
from spinney.core.training.fit_attempt import FitAttempt, heldout_begins, reporter
from spinney.core.training.fit_kernels import Timer
from spinney.core.training.loss import Loss
from spinney.core.training.training_set import TrainingSet, concatenated_ranges

OLDER_ROWS = 100
"""If a champion predicts none of the held-out rows, it is tried on this many rows before them."""


@dataclass(frozen=True)
class UnseenRows:
    """A model's losses and predictions on rows that it had not seen, oldest first, each of shape (n_rows,).

    predictions: for classification the largest probability.
    """

    losses: Floats
    predictions: Floats


@dataclass(frozen=True)
class ChampionReference:
    """Measures the champions of attempts on held-out rows. signer: verifies the champions."""

    training_set: TrainingSet
    recipe: Recipe
    loss: Loss
    timer: Timer
    signer: Signer

    def losses_of(
        self, attempts: Sequence[FitAttempt], attempt_index: Integers, rows: Integers
    ) -> tuple[MeasuredRows, list[UnseenRows]]:
        """Return the reference losses of the held-out rows, and the champions' own losses and predictions on older
        unseen rows.

        The first result has the losses that challengers are compared with; NaN if there is none. They are the
        champion's. If the champion has seen some of these rows or predicts none of them, and its recipe is known, they
        are those of its recipe fitted again without these rows.

        The second result has one entry per attempt: the champion on rows before the held-out ones that it has not seen
        either.
        """
        earlier = dict(self.recipe.earlier)
        refittable = [index for index, attempt in enumerate(attempts) if attempt.request.recipe_id in earlier]
        starts = np.searchsorted(attempt_index, np.arange(len(attempts) + 1))
        oldest = self.training_set.times[rows[starts[:-1]]] if len(rows) else np.empty(0, dtype=np.int64)
        needs_refit = [index for index in refittable if oldest[index] <= seen_through(attempts[index].request)]
        out, has_loss = self._refit_losses(attempts, needs_refit, attempt_index, rows)
        asked = np.flatnonzero(~has_loss)
        before, index_before = self._rows_before(attempts)
        champions, unanswered = self._measure_champions(
            attempts,
            np.concatenate([attempt_index[asked], index_before]),
            np.concatenate([rows[asked], before]),
        )
        predictions = np.full(len(rows), np.nan)
        out[asked], predictions[asked] = champions.losses[: len(asked)], champions.predictions[: len(asked)]
        counts_before = np.bincount(index_before, minlength=len(attempts))
        of_before = (split_by_count(part[len(asked) :], counts_before) for part in (champions.losses, champions.values))
        answers_before = [UnseenRows(*parts) for parts in zip(*of_before, strict=True)]
        unanswered_refittable = sorted(unanswered.keys() & set(refittable) - set(needs_refit))
        refit_losses, has_loss = self._refit_losses(attempts, unanswered_refittable, attempt_index, rows)
        out[has_loss] = refit_losses[has_loss]
        for index, model in unanswered.items():
            if "refitted" not in attempts[index].metrics:
                self._note_unanswered(attempts[index], model)
        return MeasuredRows(out, predictions, predictions, {}), answers_before

    def _refit_losses(
        self, attempts: Sequence[FitAttempt], wanted: Sequence[int], which: Integers, rows: Integers
    ) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Losses of champions' own recipes, fitted again without these rows, and a mask of the rows that have such a
        loss.

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
        results = refit_and_measure(self.training_set, refits, earlier, self.loss, self.timer, self.recipe.refit_error)
        for refit, result, (attempt, span) in zip(refits, results, targets, strict=True):
            attempt.elapsed_ms += result.elapsed_ms
            if result.losses is None:
                attempt.refuse_comparison(f"its recipe: {result.error}", refit_failed=True)
                continue
            attempt.metrics["refitted"] = as_metrics(refit, result)
            out[span], has_loss[span] = result.losses, True
        return out, has_loss

    def _measure_champions(
        self, attempts: Sequence[FitAttempt], attempt_index: Integers, rows: Integers
    ) -> tuple[MeasuredRows, dict[int, Model | None]]:
        """The champions' losses and predictions; NaN without a champion, and for rows that it has seen or cannot
        predict.

        Also the champions that predicted none of their rows, by the attempt's index; None for a champion that is not
        called.
        """
        out = MeasuredRows.nothing(len(rows))
        seen_until = np.array([seen_through(attempt.request) for attempt in attempts], dtype=np.int64)
        fresh = np.flatnonzero(self.training_set.times[rows] > seen_until[attempt_index])
        wanted = np.unique(attempt_index[fresh]).tolist()
        if self.recipe.champion_error is not None:
            for index in wanted:
                attempts[index].metrics["champion_error"] = self.recipe.champion_error[:MAX_ERROR_CHARACTERS]
            return out, dict.fromkeys(wanted)
        champions = self._load_champions(attempts, wanted)
        asked = fresh[np.isin(attempt_index[fresh], list(champions))]
        of_rows = RowsToPredict(rows[asked], attempt_index[asked])
        on_begin = reporter(attempts, current_group.PREDICT_CHAMPION)
        found = measure_models(self.training_set, champions, of_rows, self.loss, on_begin)
        out.losses[asked], out.predictions[asked], out.values[asked] = found.losses, found.predictions, found.values
        for index, raised in found.errors.items():
            attempts[index].metrics["champion_error"] = f"{type(raised).__name__}: {raised}"[:MAX_ERROR_CHARACTERS]
        n_predicted = np.bincount(of_rows.model_index[np.isfinite(found.losses)], minlength=len(attempts))
        return out, {index: model for index, model in champions.items() if n_predicted[index] == 0}

    def _note_unanswered(self, attempt: FitAttempt, model: Model | None) -> None:
        """Note that a champion predicted none of the rows to compare on. It is kept only if it predicts older rows."""
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
        begin = int(self.training_set.starts[attempt.group_index])
        stop = int(heldout_begins([attempt], self.training_set)[0])
        places = np.arange(max(begin, stop - OLDER_ROWS), stop)
        with_own_features = self.training_set.with_features(model.encoder.features)
        of_rows = RowsToPredict(places, np.zeros(len(places), dtype=np.int64))
        predicted_losses, _ = row_losses(
            with_own_features, [model], of_rows, self.loss, reporter([attempt], current_group.PREDICT_CHAMPION)
        )
        return bool(np.isfinite(predicted_losses).any())

    def _load_champions(self, attempts: Sequence[FitAttempt], wanted: Sequence[int]) -> dict[int, Model]:
        """Load the champions of the wanted attempts, by the attempt's index."""
        champions: dict[int, Model] = {}
        for index in wanted:
            current_group.report(attempts[index].request.group_key, current_group.READ_CHAMPION)
            try:
                champions[index] = champion_model.load_champion(attempts[index].request, self.recipe, self.signer)
            except SpinneyError as error:
                attempts[index].refuse_comparison(str(error), refit_failed=False)
        return champions

    def _rows_before(self, attempts: Sequence[FitAttempt]) -> tuple[Integers, Integers]:
        """Positions of the rows before the held-out ones on which champions are measured, and each one's attempt."""
        stops = heldout_begins(attempts, self.training_set)
        counts = np.array([attempt.measured_rows - attempt.heldout_rows for attempt in attempts], dtype=np.int64)
        return concatenated_ranges(stops - counts, stops), np.repeat(np.arange(len(attempts)), counts)


def earlier_answers(attempt: FitAttempt, before: UnseenRows, loss_name: str) -> UnseenRows:
    """Return losses and predictions of the group's champions so far on rows that they had not seen, oldest first.

    before: the champion's losses and predictions on its unseen rows before the held-out ones, by the loss `loss_name`.
    They come after those that are stored with the champion. The result is empty if there is no champion, if it is of
    another recipe, or if it is shown to be worse than the challenger, since the challenger's errors will then differ.
    Losses that were stored by another function than `loss_name` are left out. An earlier version stored no predictions
    with a champion, so there may be fewer of them than losses.
    """
    nothing = UnseenRows(np.empty(0), np.empty(0))
    if attempt.request.champion_id is None:
        return nothing
    evidence = HeldOutEvidence.of_metrics(attempt.metrics, "champion")
    if "changed_from" in attempt.metrics or (evidence is not None and evidence.outcome == "better"):
        return nothing
    packed, is_answered = attempt.request.heldout_losses, np.isfinite(before.losses)
    is_same_loss = held_out_loss_codec.loss_of(packed) in (None, loss_name)
    return UnseenRows(
        np.concatenate([_unpacked(packed if is_same_loss else None), before.losses[is_answered]]),
        np.concatenate([_unpacked(attempt.request.heldout_predictions), before.predictions[is_answered]]),
    )


def prequential_losses(attempt: FitAttempt, own: Floats, unseen: Floats) -> Floats:
    """Return losses of the group's champions so far on rows that they had not seen, oldest first, as they are stored.

    own: the challenger's losses on its held-out rows. unseen: the champion's losses on all rows that it had not seen;
    NaN where it did not answer. All count, also those of a champion that is shown to be worse than the challenger:
    every champion is, once its data is old, and the next one will be. Prequential: Dawid 1984, "Present Position and
    Potential Developments: Some Personal Views: Statistical Theory: The Prequential Approach".

    The challenger's own losses are returned if there is no champion of this recipe with stored losses. They are those
    of a model whose newest rows are newer than those of a model in use are on average, so they are too small where
    models age fast.
    """
    request = attempt.request
    # Stored by an earlier version: the held-out losses take the place of the prequential ones.
    stored = _unpacked(request.heldout_losses if request.prequential_losses is None else request.prequential_losses)
    if request.champion_id is None or "changed_from" in attempt.metrics or not len(stored):
        return sample_evenly(own, np.empty(0), attempt.rows)
    return extend_sample(stored, unseen[np.isfinite(unseen)], attempt.rows)


def _unpacked(packed: bytes | None) -> Floats:
    return np.array(held_out_loss_codec.unpack(packed) or [], dtype=np.float64)
