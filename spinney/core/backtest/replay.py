"""Replay a history in steps: predict, then learn, then judge and refit.

At the end t of each step, in this order:

1. The events of the step, those in (t - step, t], are answered by the champions that the groups had at its beginning.
2. The judge gets the losses whose label became known in the step. They count once their rows are mature.
3. The judge says which groups are stale, a round takes some of them, fits on mature rows whose label is known, and the
   gate decides. Models that it promotes, and those that a withdrawal brings back, answer from the next step on. If the
   brake acts, a first round fits a random sample, and a second one the other groups if most of its challengers are
   better.

So every event is evaluated by a model that knew nothing later than the beginning of its step: prequential evaluation
with delayed labels (Gama, Sebastião and Rodrigues, "On evaluating stream learning algorithms", Machine Learning 90,
2013). The functions are those of a running fleet: of the judge, the budget, the brake, the fits and the gate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from schemas.vocabulary import PREDECESSOR, ModelStatus, Staleness
from spinney.core.backtest.history import History
from spinney.core.backtest.simulated_round import FittedModel, RoundResult, choose_sample, first_request, run_round
from spinney.core.backtest.strategy import Strategy
from spinney.core.features.encoding import Floats, Integers
from spinney.core.models.batch_scoring import NO_MODEL
from spinney.core.planning.brake import Brake, BrakeAction, decide_brake
from spinney.core.planning.budget import FIRST_POLICY, Candidate
from spinney.core.staleness.group_state import NEVER
from spinney.core.staleness.health_rows import HealthRows
from spinney.core.staleness.judge import DueLimits, JudgeInput, ShardState, advance, report
from spinney.core.training.comparisons.held_out_loss import RowsToPredict, measure_rows
from spinney.core.training.fit_request import FitRequest
from spinney.core.training.loss import loss_named

_CANDIDATE = tuple(field.name for field in fields(Candidate))


@dataclass(frozen=True)
class Steps:
    """The steps of a replay. begin: of the first one; length: of each, microseconds. count: their number."""

    begin: int
    length: int
    count: int

    @classmethod
    def covering(cls, history: History, length: int) -> Steps:
        """Return the steps that contain all events. They begin at multiples of the length: for days, at midnight."""
        times = history.rows.times
        begin = (int(times.min()) - 1) // length * length
        return cls(begin, length, -(-(int(times.max()) - begin) // length))

    def end_of(self, step: int) -> int:
        """Return the end of a step, microseconds."""
        return self.begin + (step + 1) * self.length


@dataclass(frozen=True)
class StepCounts:
    """The results of the round of a step.

    end: of the step, microseconds. fits: models fitted, by the policy that asked for them. decisions: of the gate, and
    attempts without a model, by name. predicted_ms, measured_ms: of the fits. deferred: due groups that were not taken.
    overdue: positions of the groups whose last attempt is longer ago than the limit although new rows have come.
    is_braked: whether the brake acted, so that a sample was refitted first.
    """

    end: int
    fits: Mapping[str, int]
    decisions: Mapping[str, int]
    predicted_ms: float
    measured_ms: float
    deferred: int
    overdue: frozenset[int]
    is_braked: bool = False


@dataclass(frozen=True)
class Replay:
    """The result of a strategy.

    losses: shape (n_rows,): the loss of each row of the history, NaN where the group had no model or the model gave no
    finite prediction. steps: of the rounds, in order.
    """

    strategy: str
    losses: Floats
    steps: tuple[StepCounts, ...]

    @property
    def fits(self) -> int:
        """Models fitted, first ones too."""
        return sum(sum(step.fits.values()) for step in self.steps)

    @property
    def refits(self) -> int:
        """Models fitted for groups that had one."""
        return self.fits - sum(step.fits.get(FIRST_POLICY, 0) for step in self.steps)


@dataclass(frozen=True)
class ReplaySettings:
    """steps: of the replay. max_age: age above which a group is counted as overdue, microseconds."""

    steps: Steps
    max_age: int


def replay(
    history: History, strategy: Strategy, settings: ReplaySettings, on_step: Callable[[int], None] = lambda _: None
) -> Replay:
    """Replay the history under a strategy. on_step: called with the number of finished steps."""
    run = _Run(history, strategy, settings)
    steps = settings.steps
    counts = []
    for step in range(steps.count):
        run.answer(steps.end_of(step))
        run.learn(steps.end_of(step))
        if step < steps.count - 1:  # models of the last round would answer nothing
            counts.append(run.retrain(step))
        on_step(step + 1)
    return Replay(strategy.name, run.losses, tuple(counts))


class _Run:
    """The state of a replay: the judge's, the champion of each group, and the loss of each answered row.

    Models are numbered. `_ids` has the model_id of every one, `_champions` those that still answer, `_predecessors` by
    group the model that its champion has replaced.
    """

    def __init__(self, history: History, strategy: Strategy, settings: ReplaySettings) -> None:
        rows = len(history.rows.times)
        self.losses = np.full(rows, np.nan)
        self._predictions = np.full(rows, np.nan)
        self._history, self._strategy, self._settings = history, strategy, settings
        self._loss = loss_named(strategy.recipe.loss)
        self._shard = ShardState.empty()
        self._refits = 0
        self._position_of = {key: n for n, key in enumerate(history.rows.keys)}
        self._ids: list[str] = []
        self._champions: dict[int, FittedModel] = {}
        self._predecessors: dict[int, FittedModel] = {}
        self._watched_since: dict[str, int] = {}
        self._held_since: dict[str, int | None] = {}
        self._model_of_group = np.full(history.n_groups, NO_MODEL, dtype=np.int64)
        self._model_of_row = np.full(rows, NO_MODEL, dtype=np.int64)

    def answer(self, end: int) -> None:
        """Answer the events of a step by the current champions, and keep the losses. end: of the step, microseconds."""
        history = self._history
        places = history.answered_within(end - self._settings.steps.length, end)
        models = self._model_of_group[history.group_of_row[places]]
        places, models = places[models != NO_MODEL], models[models != NO_MODEL]
        distinct, index = np.unique(models, return_inverse=True)
        if len(distinct):
            rows = RowsToPredict(places, index.astype(np.int64))
            champions = [self._champions[n].model for n in distinct.tolist()]
            measured = measure_rows(history.rows, champions, rows, self._loss, lambda _: None)
            self.losses[places], self._predictions[places] = measured.losses, measured.values
            self._model_of_row[places] = models

    def learn(self, end: int) -> None:
        """Give the judge the losses whose label became known in a step, the time, and for drift the predictions."""
        history, begin = self._history, end - self._settings.steps.length
        tick = HealthRows.of_columns({"last_event_time": np.array([end])}, 1)
        parts = [self._health_of(history.known_within(begin, end)), tick]
        if self._strategy.judge.drift_patience is not None:
            answered = history.answered_within(begin, end)
            answered = answered[np.isfinite(self._predictions[answered])]
            parts.append(self._health_of(answered, self._predictions[answered]))
        self._advance(JudgeInput((), (), HealthRows.concatenated(parts)), end)

    def _health_of(self, places: Integers, predictions: Floats | None = None) -> HealthRows:
        """A row of health for each of these events, with its label and loss, or else with its prediction."""
        keys, owners = self._history.rows.keys, self._history.group_of_row[places].tolist()
        ids = [None if n == NO_MODEL else self._ids[n] for n in self._model_of_row[places].tolist()]
        columns = {
            "group_key": np.array([keys[group] for group in owners], dtype=object),
            "model_id": np.array(ids, dtype=object),
            "last_event_time": self._history.rows.times[places],
        }
        if predictions is None:
            columns |= {"labelled": np.ones(len(places), dtype=np.int64), "loss": self.losses[places]}
        else:
            columns["drift"] = np.empty(len(places), dtype=object)
            columns["drift"][:] = [[value] for value in predictions.tolist()]
        return HealthRows.of_columns(columns, len(places))

    def retrain(self, step: int) -> StepCounts:
        """Judge all groups, fit some of the stale ones and apply the gate."""
        end = self._settings.steps.end_of(step)
        limits = DueLimits(len(self._shard.groups), 0, 0, "")
        found = report(self._shard, self._strategy.judge, end, limits)
        due = [_candidate(row) for row in found.rows if row["decision"] == Staleness.FIT]
        self._watched_since = _watched_since(found.rows)
        brake = decide_brake(found.errors, self._strategy.brake_share, None)
        results = [self._round(choose_sample(due, brake, step) if brake.is_on else self._choose(due, step), end)]
        if brake.is_on:
            brake = decide_brake(found.errors, self._strategy.brake_share, results[0].outcome)
            if not brake.is_on:
                rest = [candidate for candidate in due if candidate.group_key not in results[0].statuses]
                results.append(self._round(self._choose(rest, step), end))
        return self._count(end, {candidate.group_key: candidate for candidate in due}, results, brake)

    def _choose(self, due: Sequence[Candidate], step: int) -> list[str]:
        return self._strategy.selection.choose(due, step, self._refits)

    def _round(self, taken: Sequence[str], end: int) -> RoundResult:
        """Fit these groups, apply the gate, and let the promoted models answer from now on."""
        requests = self._requests({key: self._position_of[key] for key in taken})
        result = run_round(self._history, self._strategy, requests, end, self._watched_since, self._held_since)
        self._held_since |= result.held_since
        if taken:
            self._apply(result, end)
        return result

    def _requests(self, taken: Mapping[str, int]) -> dict[int, FitRequest]:
        return {group: self._request(key, group) for key, group in taken.items()}

    def _request(self, key: str, group: int) -> FitRequest:
        champion = self._champions.get(int(self._model_of_group[group]))
        if champion is None:
            return first_request(key)
        predecessor = self._predecessors.get(group) if key in self._watched_since else None
        return replace(champion.request, predecessor=predecessor.stored) if predecessor else champion.request

    def _apply(self, result: RoundResult, end: int) -> None:
        self._advance(JudgeInput(result.decided, result.unfitted, HealthRows.empty()), end)
        groups = self._shard.groups
        at = groups.positions_of(result.statuses)
        for key, champion_id in zip(result.statuses, groups["champion_id"][at].tolist(), strict=True):
            group = self._position_of[key]
            predecessor = self._predecessors.get(group)
            if champion_id in result.models:
                replaced = self._answer_by(group, champion_id, result.models[champion_id])
                if replaced is not None:
                    self._predecessors[group] = replaced
            elif predecessor is not None and predecessor.request.champion_id == champion_id:  # withdrawn
                self._answer_by(group, champion_id, predecessor)
                del self._predecessors[group]

    def _answer_by(self, group: int, model_id: str, model: FittedModel) -> FittedModel | None:
        """Let a model answer from now on. Returns the one that it replaces."""
        replaced = self._champions.pop(int(self._model_of_group[group]), None)
        self._champions[len(self._ids)] = model
        self._model_of_group[group] = len(self._ids)
        self._ids.append(model_id)
        return replaced

    def _advance(self, inputs: JudgeInput, end: int) -> None:
        self._shard = advance(self._shard, inputs, self._strategy.judge, end)

    def _count(
        self, end: int, due: Mapping[str, Candidate], results: Sequence[RoundResult], brake: Brake
    ) -> StepCounts:
        statuses = {key: status for result in results for key, status in result.statuses.items()}
        fitted = [key for key, status in statuses.items() if status == ModelStatus.FITTED]
        fits = Counter(due[key].policy for key in fitted)
        self._refits += len(fitted) - fits[FIRST_POLICY]
        attempts = [row.promotion.decision for result in results for row in result.decided]
        attempts += [row.status for result in results for row in result.unfitted]
        return StepCounts(
            end=end,
            fits=dict(fits),
            decisions=dict(Counter(map(str, attempts))),
            predicted_ms=sum(due[key].predicted_ms for key in fitted),
            measured_ms=sum(result.fit_ms for result in results),
            deferred=len(due) - len(statuses),
            overdue=self._overdue(end),
            is_braked=brake.action is not BrakeAction.OFF,
        )

    def _overdue(self, end: int) -> frozenset[int]:
        groups = self._shard.groups
        is_old = (groups["champion_id"] != "") & (end - groups["attempted_at"] > self._settings.max_age)
        is_old &= (groups["attempted_at"] != NEVER) & (groups["rows_since"] > 0)
        return frozenset(self._position_of[groups.keys[n]] for n in np.flatnonzero(is_old).tolist())


def _watched_since(verdicts: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """group_key -> time of the last attempt, of the verdicts that name a predecessor."""
    named = ((row["group_key"], row["numbers"].get(PREDECESSOR)) for row in verdicts)
    return {key: predecessor["since"] for key, predecessor in named if predecessor is not None}


def _candidate(verdict: Mapping[str, Any]) -> Candidate:
    return Candidate(**{name: verdict[name] for name in _CANDIDATE})
