"""The round of one step: fit, gate, and what the judge is told of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.vocabulary import Decision, ModelStatus
from spinney.core.backtest.history import History
from spinney.core.backtest.strategy import Strategy
from spinney.core.champions.gate import decide
from spinney.core.champions.promotion import Promotion
from spinney.core.features.encoding import NULL_TIME
from spinney.core.models import codec
from spinney.core.models.model import Model
from spinney.core.models.signing import Claim, Signer
from spinney.core.planning.brake import Brake, SampleOutcome, choose_with_brake, sample_size
from spinney.core.planning.budget import Candidate, RoundAllowance
from spinney.core.staleness.judge import DecisionRecord, UnfittedAttempt
from spinney.core.timestamps import to_microseconds
from spinney.core.training.fit_request import FitRequest
from spinney.core.training.fitting import fit_training_set

_SIGNER = Signer(b"a backtest's key: nothing it signs is kept")


@dataclass(frozen=True)
class FittedModel:
    """A model, and the request by which a later fit is compared with it."""

    model: Model
    request: FitRequest


@dataclass(frozen=True)
class RoundResult:
    """What became of the groups of a round.

    decided, unfitted: for the judge. models: model_id -> model that was fitted. statuses: group_key -> status of its
    attempt. fit_ms: measured, sum over the fits. outcome: of the groups in which both models were compared.
    """

    decided: Sequence[DecisionRecord]
    unfitted: Sequence[UnfittedAttempt]
    models: Mapping[str, FittedModel]
    statuses: Mapping[str, str]
    fit_ms: float
    outcome: SampleOutcome


def choose_sample(due: Sequence[Candidate], brake: Brake, step: int) -> list[str]:
    """Return the groups that a round takes while the brake is on: those without a model, and a random sample."""
    queues = choose_with_brake(due, RoundAllowance(None), str(step), brake, sample_size(len(due)))
    return list(queues)


def run_round(history: History, strategy: Strategy, requests: Mapping[int, FitRequest], clock: int) -> RoundResult:
    """Fit and gate groups at a clock, microseconds. requests: position of a group in the history -> its request."""
    groups = sorted(requests)
    training_set = history.training_set(np.array(groups, dtype=np.int64), clock, strategy.recipe)
    ordered = [requests[group] for group in groups]
    fitted = fit_training_set(training_set, ordered, strategy.recipe, _SIGNER)
    decided, unfitted, models, outcome = [], [], {}, SampleOutcome(0, 0)
    rows = fitted.to_dict("records")
    for row, request in zip(rows, ordered, strict=True):
        if row["status"] == Decision.KEPT:
            decided.append(_kept(request, clock))
        elif row["status"] == ModelStatus.FITTED:
            models[str(row["model_id"])] = _load(row)
            decided.append(_decide(row, strategy, clock))
            outcome = _with_comparison(outcome, json.loads(row["metrics"]))
        else:
            unfitted.append(UnfittedAttempt(request.group_key, str(row["status"]), int(row["rows"]), clock, clock))
    statuses = {request.group_key: str(row["status"]) for row, request in zip(rows, ordered, strict=True)}
    return RoundResult(decided, unfitted, models, statuses, float(fitted["fit_ms"].sum()), outcome)


def first_request(group_key: str) -> FitRequest:
    """Return the request of a group without a champion."""
    return FitRequest(group_key, None, None, None, None, NULL_TIME)


def _with_comparison(outcome: SampleOutcome, metrics: Mapping[str, Any]) -> SampleOutcome:
    challenger, champion = metrics["challenger_loss"], metrics["champion_loss"]
    if challenger is None or champion is None:
        return outcome
    return SampleOutcome(outcome.compared + 1, outcome.better + (challenger < champion))


def _decide(row: Mapping[Any, Any], strategy: Strategy, clock: int) -> DecisionRecord:
    metrics = json.loads(row["metrics"])
    decision, _ = decide(metrics, strategy.gate)
    promotion = Promotion(0, row["model_id"], decision, _trained_through(row), clock, clock)
    loss = float("nan") if metrics["challenger_loss"] is None else metrics["challenger_loss"]
    heldout = () if row["heldout_losses"] is None else tuple(row["heldout_losses"])
    return DecisionRecord(row["group_key"], promotion, True, clock, loss, float(row["fit_ms"]), heldout)


def _kept(request: FitRequest, clock: int) -> DecisionRecord:
    promotion = Promotion(0, str(request.champion_id), Decision.KEPT, request.trained_through, clock, clock)
    return DecisionRecord(request.group_key, promotion, True, clock, float("nan"), float("nan"))


def _load(row: Mapping[Any, Any]) -> FittedModel:
    key, name, payload = str(row["group_key"]), str(row["codec"]), row["payload"]
    claim = Claim(key, str(row["model_id"]), name)
    model = codec.load_signed(_SIGNER, claim, payload, row["signature"])
    through, recipe = _trained_through(row), str(row["recipe_id"])
    return FittedModel(model, FitRequest(key, claim.model_id, name, payload, row["signature"], through, recipe))


def _trained_through(row: Mapping[Any, Any]) -> int:
    return to_microseconds(row["trained_through"].to_pydatetime())
