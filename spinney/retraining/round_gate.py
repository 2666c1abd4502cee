"""The gate over a round's models: rows of `models` in, rows of `promotions` out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from schemas import tables
from schemas.vocabulary import Decision, ModelStatus, RoundKind
from spinney.core import timestamps
from spinney.core.champions.gate import UncomparedPolicy, decide
from spinney.core.champions.predecessor_watch import level_of_look, reason_to_withdraw
from spinney.core.champions.promotion import PROMOTING_DECISIONS
from spinney.core.champions.routing import is_last_rung
from spinney.core.config import Gate
from spinney.core.keys import is_parent
from spinney.serving.model_cache import CARRIED_BYTES
from spinney.storage.layout import FleetStore
from spinney.tables import delta

_ROUND_COLUMNS = ("round_id", "decided_at", "clock", "by", "batch_id")
COLUMNS = tuple(name for name in tables.PROMOTIONS.names if name not in _ROUND_COLUMNS)
PLAN_COLUMNS = ("shard", "group_key", "champion_id", "predecessor_id", "watched_since", "epoch", "pinned")
"""The columns of the plan that fits and the gate use. champion_id: the champion when the round was planned.
predecessor_id: the model that would answer if it were withdrawn. watched_since: the fleet's clock at the last attempt,
microseconds. Both are null where no machine may withdraw it."""

OTHER_PATH_EPOCH = "epoch_elsewhere"
"""The greatest epoch in which the other path (stream or batch) has promoted the same model; null if it has not."""

_DECIDING_COLUMNS = ("group_key", "model_id", "metrics", OTHER_PATH_EPOCH)
"""The columns of `models` that a decision depends on."""
_DECIDED_COLUMNS = ("epoch", "decision", "reason", "challenger_loss", "champion_loss", "rows_compared")
"""The columns of `promotions` that a decision determines; the others are the model's."""


def with_other_path_epoch(models: pd.DataFrame, store: FleetStore, kind: RoundKind) -> pd.DataFrame:
    """The rows of `models` with the column OTHER_PATH_EPOCH.

    Both paths fit the same model on the same rows, so the second one may find it promoted already. This is read without
    a lock: if both decide at the same time, both promote it, which the order of champions resolves.
    """
    through = models["trained_through"].dropna()
    if not len(through):
        return models.assign(**{OTHER_PATH_EPOCH: None})
    # The same model was trained through the same time, so promotions of other times need not be read.
    is_of_same_time = (ds.field("trained_through") >= through.min()) & (ds.field("trained_through") <= through.max())
    is_of_models = ds.field("model_id").isin(pa.array(models["model_id"].dropna(), pa.string()))
    promoted = _promotions(
        store, _other_path(kind), is_of_models & is_of_same_time & ds.field("decision").isin(_PROMOTING)
    )
    is_withdrawal = is_of_models & (ds.field("decision") == Decision.WITHDRAWN.value)
    for part in tables.PROMOTIONS.directories:
        withdrawn = _promotions(store, part, is_withdrawal)
        promoted = promoted[~promoted["model_id"].isin(withdrawn["model_id"])]
    epochs = promoted.groupby(list(_MODEL))["epoch"].max().rename(OTHER_PATH_EPOCH).reset_index()
    return models.merge(epochs, on=list(_MODEL), how="left")


def _promotions(store: FleetStore, part: str, where: ds.Expression) -> pd.DataFrame:
    table = delta.open_table(store.directory(tables.PROMOTIONS, part))
    assert table is not None, "promotions were made before any round"
    promotions: pd.DataFrame = delta.open_dataset(table).to_table([*_MODEL, "epoch"], filter=where).to_pandas()
    return promotions


_MODEL = ("group_key", "model_id")
_STAYING = (Decision.REFUSED.value, Decision.HELD.value)
"""Decisions about a challenger after which the champion answers."""
_PROMOTING = [decision.value for decision in PROMOTING_DECISIONS]


def _other_path(kind: RoundKind) -> str:
    return (RoundKind.STREAM if kind == RoundKind.BATCH else RoundKind.BATCH).value


@dataclass(frozen=True)
class Watch:
    """How champions are compared with their predecessors. clock: the fleet's, of the round. Both in microseconds."""

    clock: int
    patience: int

    @classmethod
    def of(cls, patience: timedelta, clock: datetime) -> Watch:
        """The watch of a round. Champions may be withdrawn falsely as often as `error_rise` may raise false alarms.

        Like all of `[gate]`, `patience` is that of the configuration when the gate runs, not when the round was
        planned: an edit before a restart changes what is allowed, but no row of evidence and not the time of the look.
        """
        return cls(timestamps.to_microseconds(clock), patience // timedelta(microseconds=1))

    def level(self, since: Any) -> float:
        """The level of a look after the last attempt at `since`; 0 if that is not known."""
        return 0.0 if pd.isna(since) else level_of_look(self.clock - int(since), self.patience)


@dataclass(frozen=True)
class RoundGate:
    """Applies the gate to the models of a round, and withdraws champions that are worse than their predecessors.

    uncompared: which models may be promoted without a comparison. watch: None: no champion is withdrawn.
    parents: the fleet's, nearest first.
    """

    gate: Gate
    uncompared: UncomparedPolicy = UncomparedPolicy.FORESEEN
    watch: Watch | None = None
    parents: tuple[tuple[str, ...], ...] = ()

    def decide_all(self, models: pd.DataFrame, plan: pd.DataFrame) -> pd.DataFrame:
        """Columns COLUMNS: one row per group of the plan that was fitted or kept, and one per withdrawn champion.

        models: rows of `models`, with OTHER_PATH_EPOCH or without. plan: PLAN_COLUMNS, one row per group. A group
        without a row in `models` was kept: its rows and recipe are its champion's.
        """
        plan_rows = {row["group_key"]: row for row in plan[list(PLAN_COLUMNS)].to_dict("records")}
        fitted = models[models["status"] == ModelStatus.FITTED.value]
        # Dictionaries of the columns that decide only: those of times cost more than all decisions together.
        candidates = fitted[[name for name in _DECIDING_COLUMNS if name in fitted]].to_dict("records")
        decided, champions = [], []
        for model in candidates:
            planned = plan_rows[model["group_key"]]
            metrics = json.loads(model["metrics"] or "{}")
            decided.append(self._decide(model, metrics, planned))
            champions += self._withdrawals(metrics, planned, decided[-1]["decision"])
        champions += [_kept_row(row) for row in plan[~plan["group_key"].isin(models["group_key"])].to_dict("records")]
        challengers = _challenger_rows(fitted, pd.DataFrame(decided, columns=list(_DECIDED_COLUMNS)))
        if not champions:
            return challengers
        rows = pd.DataFrame(champions, columns=list(COLUMNS))
        return pd.concat([challengers, rows], ignore_index=True) if len(challengers) else rows

    def _uncompared(self, group_key: str) -> UncomparedPolicy:
        """What may be promoted uncompared. The estimate does not count parents, so FORESEEN does not cover them."""
        if self.uncompared is UncomparedPolicy.FORESEEN and is_parent(group_key):
            return UncomparedPolicy.NONE
        return self.uncompared

    def _withdrawals(self, metrics: dict[str, Any], plan: dict[Any, Any], decision: str) -> list[dict[str, Any]]:
        """The row that withdraws a champion that is surely worse than its predecessor, unless it is replaced anyway."""
        if plan["pinned"] or decision not in _STAYING:
            return []
        why = reason_to_withdraw(metrics, self._watch_level(plan))
        return [] if why is None else [_champion_row(plan, Decision.WITHDRAWN, why)]

    def _watch_level(self, plan: dict[Any, Any]) -> float:
        return 0.0 if self.watch is None else self.watch.level(plan["watched_since"])

    def _decide(self, model: dict[Any, Any], metrics: dict[str, Any], plan: dict[Any, Any]) -> dict[str, Any]:
        """The decision about one challenger: _DECIDED_COLUMNS. model: _DECIDING_COLUMNS."""
        is_last = is_last_rung(model["group_key"], self.parents)
        uncompared, level = self._uncompared(model["group_key"]), self._watch_level(plan)
        decision, reason = decide(metrics, self.gate, uncompared, is_last_rung=is_last, watch_level=level)
        # The plan's champion is only fitted again if its signature does not verify: then the new one must replace it.
        elsewhere = model.get(OTHER_PATH_EPOCH)
        is_promoted_already = pd.notna(elsewhere) and elsewhere >= _epoch(plan["epoch"])
        if is_promoted_already and model["model_id"] != plan["champion_id"]:
            decision, reason = Decision.KEPT, "the very same model was promoted meanwhile by the other path"
        if plan["pinned"]:
            decision, reason = Decision.HELD, f"pinned by a person; without the pin: {decision.value}, {reason}"
        return {
            "epoch": _epoch(plan["epoch"]),
            "decision": decision.value,
            "reason": reason,
            "challenger_loss": metrics.get("challenger_loss"),
            "champion_loss": metrics.get("champion_loss"),
            "rows_compared": metrics.get("heldout_rows"),
        }


def _challenger_rows(fitted: pd.DataFrame, decided: pd.DataFrame) -> pd.DataFrame:
    """Rows of COLUMNS. decided: _DECIDED_COLUMNS, in the order of `fitted`. Large payloads stay in `models`."""
    of_model = [name for name in COLUMNS if name not in _DECIDED_COLUMNS]
    rows = fitted.assign(**{name: None for name in of_model if name not in fitted})[of_model].reset_index(drop=True)
    is_large = ~rows["payload"].map(lambda payload: payload is not None and len(payload) <= CARRIED_BYTES).astype(bool)
    if is_large.any():
        carried = ["codec", "payload", "signature"]
        rows[carried] = rows[carried].astype(object).mask(is_large, None)
    return rows.join(decided)[list(COLUMNS)]


def _kept_row(plan: dict[Any, Any]) -> dict[str, Any]:
    return _champion_row(plan, Decision.KEPT, "the training rows and the recipe are the champion's own")


def _champion_row(plan: dict[Any, Any], decision: Decision, reason: str) -> dict[str, Any]:
    """A decision about the champion of the plan."""
    return {
        "shard": plan["shard"],
        "group_key": plan["group_key"],
        "epoch": _epoch(plan["epoch"]),
        "model_id": plan["champion_id"],
        "decision": decision.value,
        "reason": reason,
        # Typed nulls: a round that keeps every champion has no other row to take them from.
        **dict.fromkeys(("trained_through", "fitted_at"), pd.NaT),
        **dict.fromkeys(("codec", "payload", "signature", "heldout_losses", "loss_name", "training_predictions")),
    }


def _epoch(value: Any) -> int:
    return 0 if value is None or pd.isna(value) else int(value)
