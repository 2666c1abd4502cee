"""Fit many groups: rows and champions in, one result per group out.

For each group: select and order its rows; compute the model's id; fit a challenger on all but the newest rows; compare
it with the champion on those; fit on all rows; sign; compare the shadow recipe, if there is one. An error of one group
is a row of the result, never an exception.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pandas as pd

from spinney.core.errors import MAX_ERROR_CHARACTERS, GroupError, SpinneyError
from spinney.core.features.encoding import NULL_TIME, Floats, Integers
from spinney.core.models.batch_scoring import NOBODY
from spinney.core.models.model import Model
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Feature, Recipe
from spinney.core.training import champion_model, current_group, shadow_recipe
from spinney.core.training.baseline import constant_losses
from spinney.core.training.estimators import kernel_for
from spinney.core.training.fit_attempt import Attempt, attempt_of, is_open, results, seal, seen_through, take_fit
from spinney.core.training.fit_request import Ask, asks_of
from spinney.core.training.held_out_loss import Rows, any_of, losses, means, no_answer
from spinney.core.training.kernels import Kernel, Timer, on_one_thread
from spinney.core.training.loss import Loss, loss_named
from spinney.core.training.recipe_comparison import Refit, as_metrics, refitted
from spinney.core.training.training_rows import History, ranges, select

OLDER_ROWS = 100
"""Newest rows before the held-out ones that a champion is tried on if it predicts none of the held-out ones."""


def fit_groups(
    rows: pd.DataFrame,
    asks: pd.DataFrame,
    recipe: Recipe,
    clock: datetime,
    signer: Signer,
    timer: Timer = time.perf_counter,
) -> pd.DataFrame:
    """Fit each requested group.

    rows: group_key, event_id, event_time (UTC), the features and `label`; in any order, may have other columns and
    groups. requests: one row per group: group_key and, nullable or absent, champion_id, champion_codec,
    champion_payload, champion_signature, champion_trained_through, champion_recipe_id. Neither is changed. clock: end
    of `recipe.window`. timer: seconds, for fit_ms only, which includes the shadow: a round's budget pays for both.

    Returns exactly one row per request, in their order, with COLUMNS. status: fitted, failed, too_few_rows, or kept if
    the rows and the recipe are the champion's own and its signature verifies. metrics is a JSON object:

    heldout_rows     rows compared; with a champion only those newer than its trained_through and predicted by both
    challenger_loss  mean loss on them of a model fitted on the older rows; null if there are none
    constant_loss    loss on them of a constant made from the older rows: see `spinney.core.training.baseline`
    champion_loss    the champion's loss on them; champion_id: its id; champion_error: why it was not compared
    changed_from     the champion's recipe_id, if it is known and not this recipe's
    uncompared       if such a champion can be served and no row was compared: why, and refit_failed: whether a
                     comparison was possible and failed (its recipe could have been fitted again, or it predicted none
                     of the newer rows). Absent for an imported model that may have seen all rows
    refitted         if the champion was fitted by one of `recipe.earlier` and has seen some of the held-out rows or
                     predicts none of them: that recipe's estimator and recipe_id. It was fitted on the older rows too,
                     and champion_loss is that model's, on all held-out rows
    train_loss       mean loss of the final model on all its rows
    chosen           of `best_of`: the candidate that was fitted; candidates: each one's mean loss when it was chosen
    shadow           of groups in the share of `recipe.shadow`: estimator, recipe_id, and loss and rows, or error

    Raises ContractError (invalid data or parameters) and ConfigError (no such estimator).
    """
    kernel, loss = kernel_for(recipe.estimator, recipe.task, recipe.arguments), loss_named(recipe.loss)
    asked = asks_of(asks)
    history = select(rows, [ask.group_key for ask in asked], recipe, clock)
    attempts = [attempt_of(ask, g, history, recipe, signer) for g, ask in enumerate(asked)]
    work = _Work(history, recipe, kernel, loss, timer)
    with on_one_thread():
        work.compare([attempt for attempt in attempts if is_open(attempt)], signer)
        work.fit([attempt for attempt in attempts if is_open(attempt)])
    for attempt in attempts:
        if is_open(attempt):
            seal(attempt, signer)
    with on_one_thread():
        work.watch([attempt for attempt in attempts if is_open(attempt)])
    return results(attempts, history, recipe)


def failed(rows: pd.DataFrame, error: GroupError, recipe: Recipe, clock: datetime, ms: float) -> pd.DataFrame:
    """The row of a group whose fit killed its process. rows: as of `fit_groups`."""
    history = select(rows, [error.group_key], recipe, clock)
    attempt = Attempt(Ask(error.group_key, None, None, None, None, NULL_TIME), 0, len(history.times), ms=ms)
    attempt.fail(error)
    return results([attempt], history, recipe)


@dataclass(frozen=True)
class _Work:
    """The fits of one call of `fit_groups`, for the groups that have not failed yet."""

    history: History
    recipe: Recipe
    kernel: Kernel
    loss: Loss
    timer: Timer

    def compare(self, attempts: Sequence[Attempt], signer: Signer) -> None:
        """Fit challengers on the older rows, and measure them and the champions on the held-out rows."""
        self._note_too_short(attempts)
        attempts = [attempt for attempt in attempts if attempt.heldout < attempt.rows]
        fitted = self._fitted(attempts, self._stops(attempts, leave_out=True))
        rows, which = self._newest(fitted)
        mine, errors = self._losses(_models(fitted), Rows(rows, which), _turns(fitted, current_group.ASK))
        theirs = self._their_losses(fitted, which, rows, signer)
        alone = np.array([attempt.ask.champion_id is None for attempt in fitted], dtype=np.bool_)
        both = np.flatnonzero(np.isfinite(theirs) | alone[which])
        counts = np.bincount(which[both], minlength=len(fitted))
        own, other = means(mine[both], counts), means(theirs[both], counts)
        plain = means(self._constant_losses(fitted, Rows(rows[both], which[both])), counts)
        silent = any_of(np.isnan(mine), which, len(fitted))
        for at, attempt in enumerate(fitted):
            if silent[at]:
                attempt.fail(no_answer(attempt.ask.group_key, errors.get(at)))
                continue
            if counts[at]:
                attempt.metrics.pop("uncompared", None)
            attempt.metrics["champion_loss"] = other[at]  # null without a champion
            attempt.metrics |= {"heldout_rows": int(counts[at]), "challenger_loss": own[at], "constant_loss": plain[at]}
        if fitted and self.recipe.shadow is not None:
            for attempt, places in zip(fitted, np.split(rows[both], np.cumsum(counts)[:-1]), strict=True):
                attempt.compared = places

    def fit(self, attempts: Sequence[Attempt]) -> None:
        """Fit on all rows."""
        stops = self._stops(attempts, leave_out=False)
        fitted = self._fitted(attempts, stops)
        begins = self.history.starts[[attempt.g for attempt in fitted]]
        sizes = np.array([attempt.rows for attempt in fitted], dtype=np.int64)
        which = np.repeat(np.arange(len(fitted)), sizes)
        rows = Rows(ranges(begins, begins + sizes), which)
        of_all, errors = self._losses(_models(fitted), rows, _turns(fitted, current_group.ASK))
        silent = any_of(np.isnan(of_all), which, len(fitted))
        for at, (attempt, own) in enumerate(zip(fitted, means(of_all, sizes), strict=True)):
            attempt.metrics["train_loss"] = own
            if silent[at]:
                attempt.fail(no_answer(attempt.ask.group_key, errors.get(at)))

    def watch(self, attempts: Sequence[Attempt]) -> None:
        """Measure the shadow recipe on the rows the challengers were measured on, in its share of the groups."""
        asked = self.recipe.shadow
        if asked is None:
            return
        watched = [
            (each, shadow_recipe.Watched(each.g, int(self._stops([each], leave_out=True)[0]), each.compared))
            for each in attempts
            if each.compared is not None and len(each.compared) and asked.watches(each.ask.group_key)
        ]
        said = shadow_recipe.measure(self.history, [rows for _, rows in watched], asked, self.timer)
        for (attempt, _), (found, ms) in zip(watched, said, strict=True):
            attempt.metrics["shadow"] = found
            attempt.ms += ms

    def _stops(self, attempts: Sequence[Attempt], *, leave_out: bool) -> Integers:
        held = [attempt.heldout if leave_out else 0 for attempt in attempts]
        return self.history.starts[[attempt.g + 1 for attempt in attempts]] - np.array(held, dtype=np.int64)

    def _fitted(self, attempts: Sequence[Attempt], stops: Integers) -> list[Attempt]:
        """Fit the rows up to `stops` of each attempt. Return the attempts that have a model; the others have failed."""
        if not attempts:
            return []
        stack = self.history.stack([attempt.g for attempt in attempts], stops, self.recipe)
        current_group.begin(None, current_group.FIT)
        fits = self.kernel.fit(stack, self.timer)
        for attempt, fit in zip(attempts, fits, strict=True):
            take_fit(attempt, fit)
        return [attempt for attempt in attempts if attempt.model is not None]

    def _newest(self, attempts: Sequence[Attempt]) -> tuple[Integers, Integers]:
        """Positions of the held-out rows, and the index of each one's attempt."""
        stops = self.history.starts[[attempt.g + 1 for attempt in attempts]]
        held = np.array([attempt.heldout for attempt in attempts], dtype=np.int64)
        return ranges(stops - held, stops), np.repeat(np.arange(len(attempts)), held)

    def _constant_losses(self, attempts: Sequence[Attempt], rows: Rows) -> Floats:
        begins = self.history.starts[[attempt.g for attempt in attempts]]
        return constant_losses(self.history, begins, self._stops(attempts, leave_out=True), rows, self.loss)

    def _note_too_short(self, attempts: Sequence[Attempt]) -> None:
        """Record that a group with a single row, which is held out, is not compared."""
        earlier = dict(self.recipe.earlier)
        for attempt in attempts:
            if attempt.heldout >= attempt.rows and attempt.ask.recipe_id in earlier:
                attempt.refuse_comparison("its recipe: no row lies before the held-out row", refit_failed=True)

    def _their_losses(self, attempts: Sequence[Attempt], which: Integers, rows: Integers, signer: Signer) -> Floats:
        """The losses that challengers are compared with; NaN if there is none.

        They are the champion's, unless it has seen some of these rows or predicts none of them and its recipe is known:
        then those of its recipe, fitted again without these rows.
        """
        earlier = dict(self.recipe.earlier)
        able = [at for at, attempt in enumerate(attempts) if attempt.ask.recipe_id in earlier]
        starts = np.searchsorted(which, np.arange(len(attempts) + 1))
        oldest = self.history.times[rows[starts[:-1]]] if len(rows) else np.empty(0, dtype=np.int64)
        seen = [at for at in able if oldest[at] <= seen_through(attempts[at].ask)]
        out, known = self._refitted_losses(attempts, seen, which, rows)
        out[~known], silent = self._champion_losses(attempts, which[~known], rows[~known], signer)
        untried = sorted(silent.keys() & set(able) - set(seen))
        again, known = self._refitted_losses(attempts, untried, which, rows)
        out[known] = again[known]
        for at, model in silent.items():
            if "refitted" not in attempts[at].metrics:
                self._note_silent(attempts[at], model)
        return out

    def _refitted_losses(
        self, attempts: Sequence[Attempt], wanted: Sequence[int], which: Integers, rows: Integers
    ) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Losses of champions' own recipes, fitted again without these rows; and which rows have one.

        wanted: indices of attempts whose champion was fitted by one of `recipe.earlier`.
        """
        out, known, earlier = np.full(len(rows), np.nan), np.zeros(len(rows), dtype=np.bool_), dict(self.recipe.earlier)
        starts = np.searchsorted(which, np.arange(len(attempts) + 1)).tolist()
        refits, asked = [], []
        for at in wanted:
            attempt, places = attempts[at], rows[starts[at] : starts[at + 1]]
            refits.append(Refit(attempt.g, str(attempt.ask.recipe_id), int(places[0]), places))
            asked.append((attempt, slice(starts[at], starts[at + 1])))
        found = refitted(self.history, refits, earlier, self.timer, self.recipe.refit_error)
        for refit, each, (attempt, mine) in zip(refits, found, asked, strict=True):
            attempt.ms += each.ms
            if each.losses is None:
                attempt.refuse_comparison(f"its recipe: {each.error}", refit_failed=True)
                continue
            attempt.metrics["refitted"] = as_metrics(refit, each)
            out[mine], known[mine] = each.losses, True
        return out, known

    def _champion_losses(
        self, attempts: Sequence[Attempt], which: Integers, rows: Integers, signer: Signer
    ) -> tuple[Floats, dict[int, Model | None]]:
        """The champions' losses; NaN if there is no champion, it has seen the row, or has no finite prediction.

        Also the champions that predicted none of their rows, by the attempt's index; None for one that is not called.
        """
        out = np.full(len(rows), np.nan)
        through = np.array([seen_through(attempt.ask) for attempt in attempts], dtype=np.int64)
        fresh = np.flatnonzero(self.history.times[rows] > through[which])
        wanted = np.unique(which[fresh]).tolist()
        if self.recipe.champion_error is not None:
            for at in wanted:
                attempts[at].metrics["champion_error"] = self.recipe.champion_error[:MAX_ERROR_CHARACTERS]
            return out, dict.fromkeys(wanted)
        silent: dict[int, Model | None] = {}
        for features, found in self._champions(attempts, wanted, signer).items():
            place = np.full(len(attempts), NOBODY, dtype=np.int64)
            place[list(found)] = np.arange(len(found))
            mine = fresh[place[which[fresh]] != NOBODY]
            owners, own = [attempts[at] for at in found], self.history.with_features(features)
            of_rows, asked = Rows(rows[mine], place[which[mine]]), _turns(owners, current_group.ASK_CHAMPION)
            out[mine], errors = losses(own, list(found.values()), of_rows, self.loss, asked)
            for at, raised in errors.items():
                owners[at].metrics["champion_error"] = f"{type(raised).__name__}: {raised}"[:MAX_ERROR_CHARACTERS]
            answered = np.bincount(of_rows.which[np.isfinite(out[mine])], minlength=len(owners))
            places = list(found)
            silent |= {places[at]: found[places[at]] for at in np.flatnonzero(answered == 0).tolist()}
        return out, silent

    def _note_silent(self, attempt: Attempt, model: Model | None) -> None:
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

    def _answers_older_rows(self, attempt: Attempt, model: Model) -> bool:
        begin, stop = int(self.history.starts[attempt.g]), int(self._stops([attempt], leave_out=True)[0])
        places = np.arange(max(begin, stop - OLDER_ROWS), stop)
        own = self.history.with_features(model.encoder.features)
        of_rows = Rows(places, np.zeros(len(places), dtype=np.int64))
        answered, _ = losses(own, [model], of_rows, self.loss, _turns([attempt], current_group.ASK_CHAMPION))
        return bool(np.isfinite(answered).any())

    def _champions(
        self, attempts: Sequence[Attempt], wanted: Sequence[int], signer: Signer
    ) -> dict[tuple[Feature, ...], dict[int, Model]]:
        """Load the champions of the wanted attempts: by their features, then by the attempt's index."""
        found: dict[tuple[Feature, ...], dict[int, Model]] = {}
        for at in wanted:
            current_group.begin(attempts[at].ask.group_key, current_group.READ_CHAMPION)
            try:
                model = champion_model.opened(attempts[at].ask, self.recipe, signer)
            except SpinneyError as error:
                attempts[at].refuse_comparison(str(error), refit_failed=False)
                continue
            found.setdefault(model.encoder.features, {})[at] = model
        return found

    def _losses(
        self, models: Sequence[Model], rows: Rows, begin: Callable[[int], None]
    ) -> tuple[Floats, dict[int, Exception]]:
        return losses(self.history, models, rows, self.loss, begin)


def _models(attempts: Sequence[Attempt]) -> list[Model]:
    return [attempt.model for attempt in attempts if attempt.model is not None]


def _turns(attempts: Sequence[Attempt], doing: str) -> Callable[[int], None]:
    return lambda at: current_group.begin(attempts[at].ask.group_key, doing)
