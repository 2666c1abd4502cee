"""Simulate the round of one step of a backtest: fit, gate, and the results for the judge."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np

from schemas.vocabulary import Decision, ModelStatus
from spinney.core.backtest.history import History
from spinney.core.backtest.strategy import Strategy
from spinney.core.champions import held_out_loss_codec
from spinney.core.champions.gate import decide, is_shown_worse
from spinney.core.champions.jump_holds import PastDecision, held_since_after
from spinney.core.champions.predecessor_watch import level_of_look, reason_to_withdraw
from spinney.core.champions.promotion import PROMOTING_DECISIONS, Promotion
from spinney.core.champions.round_halt_rule import AttemptTally
from spinney.core.features.encoding import NULL_TIME
from spinney.core.models import codec
from spinney.core.models.model import Model
from spinney.core.models.signing import Claim, Signer
from spinney.core.planning.brake import Brake, SampleOutcome, choose_with_brake, sample_size
from spinney.core.planning.budget import Candidate, RoundAllowance
from spinney.core.staleness.attempt_outcomes import SAMPLE_COLUMNS
from spinney.core.staleness.judge import DecisionRecord, UnfittedAttempt
from spinney.core.timestamps import to_microseconds
from spinney.core.training.fit_request import FitRequest, StoredModel
from spinney.core.training.fitting import fit_training_set

_SIGNER = Signer(b"a backtest's key: nothing it signs is kept")


@dataclass(frozen=True)
class FittedModel:
    """A model, and the request by which a later fit is compared with it."""

    model: Model
    request: FitRequest

    @property
    def stored(self) -> StoredModel:
        """The model as a predecessor in a request."""
        request = self.request
        return StoredModel(str(request.champion_id), request.codec, request.payload, request.signature)


@dataclass(frozen=True)
class RoundResult:
    """The results of a round.

    decided, unfitted: inputs of the judge. models: model_id -> model that was fitted. statuses: group_key -> status of
    its attempt. fit_ms: measured, sum over the fits. outcome: of the groups in which both models were compared.
    held_since: group_key -> time since when its challengers are held by their jump, None if the last one was not.
    """

    decided: Sequence[DecisionRecord]
    unfitted: Sequence[UnfittedAttempt]
    models: Mapping[str, FittedModel]
    statuses: Mapping[str, str]
    fit_ms: float
    outcome: SampleOutcome
    held_since: Mapping[str, int | None]


def choose_sample(due: Sequence[Candidate], brake: Brake, step: int) -> list[str]:
    """Return the groups that a round takes while the brake is on: those without a model, and a random sample."""
    queues = choose_with_brake(due, RoundAllowance(None), str(step), brake, sample_size(len(due)))
    return list(queues)


def run_round(
    history: History,
    strategy: Strategy,
    requests: Mapping[int, FitRequest],
    clock: int,
    watched_since: Mapping[str, int],
    held_since: Mapping[str, int | None],
) -> RoundResult:
    """Fit and gate groups at a clock, microseconds. requests: position of a group in the history -> its request.

    watched_since: group_key -> time of the last attempt, of groups whose champion has a predecessor.
    held_since: group_key -> time since when its challengers are held by their jump.
    """
    groups = sorted(requests)
    training_set = history.training_set(np.array(groups, dtype=np.int64), clock, strategy.recipe)
    ordered = [requests[group] for group in groups]
    fitted = fit_training_set(training_set, ordered, strategy.recipe, _SIGNER)
    patience = strategy.judge.patience
    levels = [level_of_look(clock - watched_since.get(request.group_key, clock), patience) for request in ordered]
    holds = [held_since.get(request.group_key) for request in ordered]
    attempts = list(map(_Attempt.of, fitted.to_dict("records"), ordered, levels, holds))
    gated = [_decide(attempt, strategy, clock) for attempt in attempts if attempt.is_fitted or attempt.is_kept]
    decided, about_jump = [record for record, _ in gated], {record.group_key: jumps for record, jumps in gated}
    if _tally(attempts, decided).reason_to_halt(strategy.halt_share) is not None:
        decided = _hold_replacements(attempts, decided)
    else:
        decided += _withdrawals(attempts, decided, clock)
    unfitted = [attempt.unfitted(clock) for attempt in attempts if not attempt.is_fitted and not attempt.is_kept]
    return RoundResult(
        decided=decided,
        unfitted=unfitted,
        models={str(attempt.row["model_id"]): _load(attempt.row) for attempt in attempts if attempt.is_fitted},
        statuses={attempt.request.group_key: attempt.status for attempt in attempts},
        fit_ms=float(fitted["fit_ms"].sum()),
        outcome=_outcome(attempts),
        held_since=_held_since(held_since, decided, about_jump, clock),
    )


@dataclass(frozen=True)
class _Attempt:
    """A group's row of the fits, its metrics, its request, the level of the test of its champion against the
    predecessor, and since when its challengers are held by their jump.
    """

    row: Mapping[Any, Any]
    request: FitRequest
    metrics: Mapping[str, Any]
    watch_level: float
    held_since: int | None

    @classmethod
    def of(cls, row: Mapping[Any, Any], request: FitRequest, watch_level: float, held_since: int | None) -> _Attempt:
        return cls(row, request, json.loads(row["metrics"]), watch_level, held_since)

    @property
    def status(self) -> str:
        return str(self.row["status"])

    @property
    def is_fitted(self) -> bool:
        return self.status == ModelStatus.FITTED

    @property
    def is_kept(self) -> bool:
        return self.status == Decision.KEPT

    def unfitted(self, clock: int) -> UnfittedAttempt:
        return UnfittedAttempt(self.request.group_key, self.status, int(self.row["rows"]), clock, clock)


def first_request(group_key: str) -> FitRequest:
    """Return the request of a group without a champion."""
    return FitRequest(group_key, None, None, None, None, NULL_TIME)


def _outcome(attempts: Sequence[_Attempt]) -> SampleOutcome:
    """Count the groups in which both models were compared, and those in which the challenger was better."""
    pairs = [[attempt.metrics.get(name) for name in ("challenger_loss", "champion_loss")] for attempt in attempts]
    losses = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    compared = losses[np.isfinite(losses).all(axis=1)]
    return SampleOutcome(len(compared), int((compared[:, 0] < compared[:, 1]).sum()))


def _tally(attempts: Sequence[_Attempt], decided: Sequence[DecisionRecord]) -> AttemptTally:
    refused = {row.group_key for row in decided if row.promotion.decision == Decision.REFUSED}
    worse = [
        attempt for attempt in attempts if attempt.request.group_key in refused and is_shown_worse(attempt.metrics)
    ]
    failed = sum(attempt.status in (ModelStatus.FAILED, ModelStatus.TIMED_OUT) for attempt in attempts)
    return AttemptTally(sum(attempt.is_fitted for attempt in attempts) + failed, failed, len(worse))


def _hold_replacements(attempts: Sequence[_Attempt], decided: Sequence[DecisionRecord]) -> list[DecisionRecord]:
    """The decisions of a halted round: no champion is replaced; groups without one are exempt."""
    with_champion = {attempt.request.group_key for attempt in attempts if attempt.request.champion_id is not None}
    return [
        replace(row, promotion=replace(row.promotion, decision=Decision.HELD))
        if row.promotion.decision in PROMOTING_DECISIONS and row.group_key in with_champion
        else row
        for row in decided
    ]


def _decide(attempt: _Attempt, strategy: Strategy, clock: int) -> tuple[DecisionRecord, bool]:
    """The decision about a challenger, and whether it is about a jump."""
    row, request, unknown = attempt.row, attempt.request, float("nan")
    if attempt.is_kept:
        promotion = Promotion(0, str(request.champion_id), Decision.KEPT, request.trained_through, clock, clock)
        return DecisionRecord(request.group_key, promotion, True, clock, unknown, unknown), False
    held_for = None if attempt.held_since is None else timedelta(microseconds=clock - attempt.held_since)
    decision, _, about_jump = decide(attempt.metrics, strategy.gate, watch_level=attempt.watch_level, held_for=held_for)
    promotion = Promotion(0, row["model_id"], decision, _trained_through(row), clock, clock)
    loss = attempt.metrics["challenger_loss"]
    samples = {name: tuple(row[name] or ()) for name in SAMPLE_COLUMNS}
    loss = unknown if loss is None else loss
    ms, rows = float(row["fit_ms"]), int(row["rows"])
    return DecisionRecord(request.group_key, promotion, True, clock, loss, ms, rows=rows, **samples), about_jump


def _held_since(
    before: Mapping[str, int | None], decided: Sequence[DecisionRecord], about_jump: Mapping[str, bool], clock: int
) -> dict[str, int | None]:
    """group_key -> time since when its challengers are held by their jump, of the groups of a round.

    before: the same before the round. about_jump: group_key -> the value of a `PastDecision` about its challenger.
    """
    after: dict[str, int | None] = {}
    for row in decided:
        key, decision = row.group_key, row.promotion.decision
        is_about_challenger = decision != Decision.WITHDRAWN
        past = PastDecision(decision, clock, clock, about_jump=is_about_challenger and about_jump[key])
        after[key] = held_since_after(after.get(key, before.get(key)), past)
    return after


def _withdrawals(attempts: Sequence[_Attempt], decided: Sequence[DecisionRecord], clock: int) -> list[DecisionRecord]:
    """Return the withdrawals of the champions that stayed although they are clearly worse than their predecessors."""
    staying = {row.group_key for row in decided if row.promotion.decision in (Decision.REFUSED, Decision.HELD)}
    withdrawn, unknown = [], float("nan")
    for attempt in attempts:
        request = attempt.request
        if request.group_key in staying and reason_to_withdraw(attempt.metrics, attempt.watch_level) is not None:
            through = request.trained_through
            promotion = Promotion(0, str(request.champion_id), Decision.WITHDRAWN, through, clock, clock)
            withdrawn.append(DecisionRecord(request.group_key, promotion, True, clock, unknown, unknown))
    return withdrawn


def _load(row: Mapping[Any, Any]) -> FittedModel:
    key, name, payload = str(row["group_key"]), str(row["codec"]), row["payload"]
    claim = Claim(key, str(row["model_id"]), name)
    model = codec.load_signed(_SIGNER, claim, payload, row["signature"])
    request = FitRequest(
        group_key=key,
        champion_id=claim.model_id,
        codec=name,
        payload=payload,
        signature=row["signature"],
        trained_through=_trained_through(row),
        recipe_id=str(row["recipe_id"]),
        heldout_losses=held_out_loss_codec.pack(row["heldout_losses"]),
        heldout_predictions=held_out_loss_codec.pack(row["heldout_predictions"]),
    )
    return FittedModel(model, request)


def _trained_through(row: Mapping[Any, Any]) -> int:
    return to_microseconds(row["trained_through"].to_pydatetime())
