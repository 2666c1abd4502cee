"""The gate over a round's models: rows of `models` in, rows of `promotions` out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from schemas import tables
from schemas.vocabulary import Decision, ModelStatus
from spinney.core import timestamps
from spinney.core.champions.gate import UncomparedPolicy, decide
from spinney.core.champions.predecessor_watch import level_of_look, reason_to_withdraw
from spinney.core.champions.routing import is_last_rung
from spinney.core.config import Gate
from spinney.core.keys import is_parent
from spinney.serving.model_cache import CARRIED_BYTES
from spinney.tables.arrow_schemas import arrow_schema

_ROUND_COLUMNS = ("round_id", "decided_at", "clock", "by", "batch_id")
SCHEMA = pa.schema([field for field in arrow_schema(tables.PROMOTIONS) if field.name not in _ROUND_COLUMNS])
"""The columns of `promotions` that the gate fills in."""

PLAN_COLUMNS = ("shard", "group_key", "champion_id", "predecessor_id", "watched_since", "epoch", "pinned")
"""The columns of the plan that fits and the gate use.

champion_id: the champion when the round was planned. predecessor_id: the model that would answer if it were withdrawn.
watched_since: the fleet's clock at the last attempt, microseconds. The latter two are null if no machine may withdraw
the champion.
"""

OTHER_PATH_EPOCH = "epoch_elsewhere"
"""The greatest epoch in which the other path (stream or batch) has promoted the same model; null if it has not."""

HELD_SINCE = "held_since"
"""The fleet's clock, microseconds, since when the group's challengers have been held by their jump; null if the last
one was not, or if it was not looked up."""

_CARRIED = ("codec", "payload", "signature")
"""Columns that are null for a payload above CARRIED_BYTES: it stays in `models`."""

_STAYING = (Decision.REFUSED.value, Decision.HELD.value)
"""Decisions about a challenger after which the champion answers."""


class _PlannedGroup(NamedTuple):
    """A row of the plan: PLAN_COLUMNS."""

    shard: int
    group_key: str
    champion_id: str | None
    predecessor_id: str | None
    watched_since: Any
    epoch: Any
    pinned: bool


class _Decided(NamedTuple):
    """The columns of `promotions` that a decision about a challenger determines; the others are the model's."""

    epoch: int
    decision: str
    reason: str
    about_jump: bool
    challenger_loss: float | None
    champion_loss: float | None
    rows_compared: int | None


class _Candidate(NamedTuple):
    """The properties of a fitted model that a decision depends on.

    metrics: from `fit_groups`. elsewhere, held_since: values of OTHER_PATH_EPOCH and HELD_SINCE.
    """

    group_key: str
    model_id: str
    metrics: dict[str, Any]
    elsewhere: int | None
    held_since: int | None


@dataclass(frozen=True)
class Watch:
    """Settings of the comparison of champions with their predecessors.

    patience: mean time between false withdrawals. clock: the fleet's clock of the round. Both in microseconds.
    """

    clock: int
    patience: int

    @classmethod
    def of(cls, patience: timedelta, clock: datetime) -> Watch:
        """Return the watch of a round. False withdrawals may be as frequent as false alarms of `error_rise`.

        As with all keys of `[gate]`, `patience` is read when the gate runs, not when the round is planned. An edit
        before a restart changes the limit, but neither the rows of evidence nor the time of the comparison.
        """
        return cls(timestamps.to_microseconds(clock), patience // timedelta(microseconds=1))

    def level(self, since: Any) -> float:
        """Return the significance level at which a champion is compared with its predecessor now.

        since: the group's last attempt, microseconds. If it is not known, the level is 0: no champion is withdrawn.
        """
        return 0.0 if pd.isna(since) else level_of_look(self.clock - int(since), self.patience)

    def time_since(self, since: int | None) -> timedelta | None:
        """Return the time from `since`, microseconds since 1970, to the round; None if `since` is None."""
        return None if since is None else timedelta(microseconds=self.clock - since)


@dataclass(frozen=True)
class RoundGate:
    """Applies the gate to the models of a round, and withdraws champions that are worse than their predecessors.

    uncompared: which models may be promoted without a comparison. watch: None if no champion may be withdrawn. parents:
    the fleet's, nearest first.
    """

    gate: Gate
    uncompared: UncomparedPolicy = UncomparedPolicy.FORESEEN
    watch: Watch | None = None
    parents: tuple[tuple[str, ...], ...] = ()

    def decide_all(self, models: pa.Table, plan: pd.DataFrame) -> pa.Table:
        """Return a row of SCHEMA for each group of the plan that was fitted or kept, and for each withdrawn champion.

        models: rows of `models`, with OTHER_PATH_EPOCH or without. plan: PLAN_COLUMNS, one row per group. A group
        without a row in `models` was kept: its rows and recipe are its champion's.
        """
        planned = {group.group_key: group for group in _planned_groups(plan)}
        fitted = models.filter(pc.equal(models.column("status"), ModelStatus.FITTED.value))
        decided, withdrawn, reasons = [], [], []
        for model in _candidates(fitted):
            group = planned[model.group_key]
            decided.append(self._decide(model, group))
            why = self._reason_to_withdraw(model.metrics, group, decided[-1].decision)
            if why is not None:
                withdrawn.append(group)
                reasons.append(why)
        attempted = set(models.column("group_key").to_pylist())
        kept = [group for key, group in planned.items() if key not in attempted]
        own = "the training rows and the recipe are the champion's own"
        return pa.concat_tables(
            [
                _challenger_rows(fitted, decided),
                _champion_rows(withdrawn, Decision.WITHDRAWN, reasons),
                _champion_rows(kept, Decision.KEPT, [own] * len(kept)),
            ]
        )

    def _uncompared(self, group_key: str) -> UncomparedPolicy:
        """Return which challengers of a group or parent may be promoted without a comparison.

        For parents it is never FORESEEN, since the estimate before the batch does not count them.
        """
        if self.uncompared is UncomparedPolicy.FORESEEN and is_parent(group_key):
            return UncomparedPolicy.NONE
        return self.uncompared

    def _reason_to_withdraw(self, metrics: dict[str, Any], plan: _PlannedGroup, decision: str) -> str | None:
        """Return why a champion is withdrawn; None if it is not.

        It is withdrawn if it is clearly worse than its predecessor and the challenger does not replace it anyway.
        """
        if plan.pinned or decision not in _STAYING:
            return None
        return reason_to_withdraw(metrics, self._watch_level(plan))

    def _watch_level(self, plan: _PlannedGroup) -> float:
        return 0.0 if self.watch is None else self.watch.level(plan.watched_since)

    def _decide(self, model: _Candidate, plan: _PlannedGroup) -> _Decided:
        metrics, is_last = model.metrics, is_last_rung(model.group_key, self.parents)
        uncompared, level = self._uncompared(model.group_key), self._watch_level(plan)
        held_for = None if self.watch is None else self.watch.time_since(model.held_since)
        decision, reason, about_jump = decide(
            metrics, self.gate, uncompared, is_last_rung=is_last, watch_level=level, held_for=held_for
        )
        # The plan's champion is only fitted again if its signature does not verify: then the new one must replace it.
        epoch = _epoch(plan.epoch)
        is_promoted_already = model.elsewhere is not None and model.elsewhere >= epoch
        if is_promoted_already and model.model_id != plan.champion_id:
            decision, about_jump = Decision.KEPT, False
            reason = "the very same model was promoted meanwhile by the other path"
        if plan.pinned:
            reason = f"pinned by a person; without the pin: {decision.value}, {reason}"
            decision, about_jump = Decision.HELD, False
        losses = metrics.get("challenger_loss"), metrics.get("champion_loss")
        return _Decided(epoch, decision.value, reason, about_jump, *losses, metrics.get("heldout_rows"))


def _planned_groups(plan: pd.DataFrame) -> Iterator[_PlannedGroup]:
    return map(_PlannedGroup._make, zip(*(plan[name].tolist() for name in PLAN_COLUMNS), strict=True))


def _candidates(fitted: pa.Table) -> Iterator[_Candidate]:
    """The fitted models. All metrics are parsed in one call, which takes half the time of one call each."""
    names = ("group_key", "model_id", "metrics")
    keys, model_ids, texts = (fitted.column(name).to_pylist() for name in names)
    metrics = json.loads(f"[{','.join(text or '{}' for text in texts)}]")
    optional = [
        fitted.column(name).to_pylist() if name in fitted.column_names else [None] * len(keys)
        for name in (OTHER_PATH_EPOCH, HELD_SINCE)
    ]
    return map(_Candidate._make, zip(keys, model_ids, metrics, *optional, strict=True))


def _challenger_rows(fitted: pa.Table, decided: Sequence[_Decided]) -> pa.Table:
    """Rows of SCHEMA. decided: in the order of `fitted`. The models' columns are passed on without leaving Arrow."""
    columns: dict[str, pa.ChunkedArray] = {}
    values = dict(zip(_Decided._fields, zip(*decided, strict=True), strict=True)) if decided else {}
    for field in SCHEMA:
        if field.name in _Decided._fields:
            columns[field.name] = pa.chunked_array([pa.array(values.get(field.name, ()), field.type)])
        elif field.name in fitted.column_names:
            columns[field.name] = fitted.column(field.name).cast(field.type)
        else:
            columns[field.name] = pa.chunked_array([pa.nulls(fitted.num_rows, field.type)])
    is_carried = pc.fill_null(pc.less_equal(pc.binary_length(columns["payload"]), CARRIED_BYTES), False)
    for name in _CARRIED:
        columns[name] = pc.if_else(is_carried, columns[name], pa.scalar(None, SCHEMA.field(name).type))
    return pa.table(columns, schema=SCHEMA)


def _champion_rows(groups: Sequence[_PlannedGroup], decision: Decision, reasons: Iterable[str]) -> pa.Table:
    """Return rows of SCHEMA with a decision about each plan's champion; the columns about a challenger are null."""
    values: dict[str, Any] = {
        "shard": [group.shard for group in groups],
        "group_key": [group.group_key for group in groups],
        "epoch": [_epoch(group.epoch) for group in groups],
        "model_id": [group.champion_id for group in groups],
        "decision": [decision.value] * len(groups),
        "reason": list(reasons),
        "about_jump": [False] * len(groups),
    }
    nulls = [None] * len(groups)
    return pa.table([pa.array(values.get(field.name, nulls), field.type) for field in SCHEMA], schema=SCHEMA)


def _epoch(value: Any) -> int:
    return 0 if value is None or pd.isna(value) else int(value)
