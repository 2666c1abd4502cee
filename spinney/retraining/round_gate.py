"""The gate over a round's models: rows of `models` in, rows of `promotions` out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from schemas import tables
from schemas.vocabulary import Decision, ModelStatus, RoundKind
from spinney.core.champions.gate import UncomparedPolicy, decide
from spinney.core.champions.promotion import PEOPLE, PROMOTING_DECISIONS
from spinney.core.champions.routing import is_last_rung
from spinney.core.config import Gate
from spinney.core.keys import is_parent
from spinney.serving.model_cache import CARRIED_BYTES
from spinney.storage.layout import FleetStore
from spinney.tables import delta

_ROUND_COLUMNS = ("round_id", "decided_at", "clock", "by", "batch_id")
COLUMNS = tuple(name for name in tables.PROMOTIONS.names if name not in _ROUND_COLUMNS)
PLAN_COLUMNS = ("shard", "group_key", "champion_id", "epoch", "pinned")
"""The columns of the plan that the gate uses. champion_id: the champion when the round was planned."""

OTHER_PATH_EPOCH = "epoch_elsewhere"
"""The greatest epoch in which the other path (stream or batch) has promoted the same model; null if it has not."""


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
    withdrawn = _promotions(store, PEOPLE, is_of_models & (ds.field("decision") == Decision.WITHDRAWN.value))
    promoted = promoted[~promoted["model_id"].isin(withdrawn["model_id"])]
    epochs = promoted.groupby(list(_MODEL))["epoch"].max().rename(OTHER_PATH_EPOCH).reset_index()
    return models.merge(epochs, on=list(_MODEL), how="left")


def _promotions(store: FleetStore, part: str, where: ds.Expression) -> pd.DataFrame:
    table = delta.open_table(store.directory(tables.PROMOTIONS, part))
    assert table is not None, "promotions were made before any round"
    promotions: pd.DataFrame = delta.open_dataset(table).to_table([*_MODEL, "epoch"], filter=where).to_pandas()
    return promotions


_MODEL = ("group_key", "model_id")
_PROMOTING = [each.value for each in PROMOTING_DECISIONS]


def _other_path(kind: RoundKind) -> str:
    return (RoundKind.STREAM if kind == RoundKind.BATCH else RoundKind.BATCH).value


@dataclass(frozen=True)
class RoundGate:
    """Applies the gate to the models of a round.

    uncompared: which models may be promoted without a comparison. parents: the fleet's, nearest first.
    """

    gate: Gate
    uncompared: UncomparedPolicy = UncomparedPolicy.FORESEEN
    parents: tuple[tuple[str, ...], ...] = ()

    def decide_all(self, models: pd.DataFrame, plan: pd.DataFrame) -> pd.DataFrame:
        """Columns COLUMNS, one row per group of the plan that was fitted or kept.

        models: rows of `models`, with OTHER_PATH_EPOCH or without. plan: PLAN_COLUMNS, one row per group. A group
        without a row in `models` was kept: its rows and recipe are its champion's.
        """
        plan_rows = {row["group_key"]: row for row in plan[list(PLAN_COLUMNS)].to_dict("records")}
        fitted = models[models["status"] == ModelStatus.FITTED.value]
        rows = [self._row(row, plan_rows[row["group_key"]]) for row in fitted.to_dict("records")]
        rows += [_kept_row(row) for row in plan[~plan["group_key"].isin(models["group_key"])].to_dict("records")]
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def _uncompared(self, group_key: str) -> UncomparedPolicy:
        """What may be promoted uncompared. The estimate does not count parents, so FORESEEN does not cover them."""
        if self.uncompared is UncomparedPolicy.FORESEEN and is_parent(group_key):
            return UncomparedPolicy.NONE
        return self.uncompared

    def _row(self, model: dict[Any, Any], plan: dict[Any, Any]) -> dict[str, Any]:
        metrics = json.loads(model["metrics"] or "{}")
        is_last = is_last_rung(model["group_key"], self.parents)
        decision, reason = decide(metrics, self.gate, self._uncompared(model["group_key"]), is_last_rung=is_last)
        # The plan's champion is only fitted again if its signature does not verify: then the new one must replace it.
        elsewhere = model.get(OTHER_PATH_EPOCH)
        is_promoted_already = pd.notna(elsewhere) and elsewhere >= _epoch(plan["epoch"])
        if is_promoted_already and model["model_id"] != plan["champion_id"]:
            decision, reason = Decision.KEPT, "the very same model was promoted meanwhile by the other path"
        if plan["pinned"]:
            decision, reason = Decision.HELD, f"pinned by a person; without the pin: {decision.value}, {reason}"
        small = model["payload"] is not None and len(model["payload"]) <= CARRIED_BYTES
        carried = {name: model[name] if small else None for name in ("codec", "payload", "signature")}
        same = ("shard", "group_key", "model_id", "trained_through", "fitted_at", "rows", "fit_ms")
        return {
            **{name: model[name] for name in same},
            **carried,
            "epoch": _epoch(plan["epoch"]),
            "decision": decision.value,
            "reason": reason,
            "challenger_loss": metrics.get("challenger_loss"),
            "champion_loss": metrics.get("champion_loss"),
            "rows_compared": metrics.get("heldout_rows"),
            "heldout_losses": model.get("heldout_losses"),
        }


def _kept_row(plan: dict[Any, Any]) -> dict[str, Any]:
    return {
        "shard": plan["shard"],
        "group_key": plan["group_key"],
        "epoch": _epoch(plan["epoch"]),
        "model_id": plan["champion_id"],
        "decision": Decision.KEPT.value,
        "reason": "the training rows and the recipe are the champion's own",
        # Nulls of their own types: a round that keeps every champion has no other row to take them from.
        **dict.fromkeys(("trained_through", "fitted_at"), pd.NaT),
        **dict.fromkeys(("codec", "payload", "signature", "heldout_losses")),
    }


def _epoch(value: Any) -> int:
    return 0 if value is None or pd.isna(value) else int(value)
