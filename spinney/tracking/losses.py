"""Mean held-out losses of the models of each round, and the gain from refits, read from `promotions`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from schemas import tables
from schemas.contract import Contract
from schemas.vocabulary import RoundKind
from spinney.core.reporting import retraining_gain
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.fit_metrics import read_fit_measures

_COLUMNS = ["round_id", "model_id", "challenger_loss"]


def losses_of_rounds(store: FleetStore, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return round_id -> mean_loss and measured. rows: of `rounds`, all of one kind.

    mean_loss: mean over the models that the round decided about, each measured by its evaluation fit; a kept champion
    counts with its own loss. measured: number of these models.
    """
    decided = _read(store, tables.PROMOTIONS, rows, _COLUMNS).to_pylist()
    known = _losses_of_kept(store, {row["model_id"] for row in decided if row["challenger_loss"] is None})
    losses: dict[str, list[float]] = defaultdict(list)
    for row in decided:
        loss = row["challenger_loss"] if row["challenger_loss"] is not None else known.get(row["model_id"])
        if loss is not None:
            losses[row["round_id"]].append(loss)
    return {name: {"mean_loss": sum(each) / len(each), "measured": float(len(each))} for name, each in losses.items()}


def gains_of_rounds(store: FleetStore, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return round_id -> gain and gain_groups, for rounds that compared randomly drawn groups with their champions.

    rows: of `rounds`, all of one kind. gain: as in RetrainingGain. gain_groups: number of groups.
    """
    if str(rows[0]["kind"]) != RoundKind.STREAM.value:  # a batch draws no random groups
        return {}
    verdicts = _read(store, tables.VERDICTS, rows, retraining_gain.VERDICT_COLUMNS)
    promotions = _read(store, tables.PROMOTIONS, rows, retraining_gain.PROMOTION_COLUMNS)
    measures = read_fit_measures(store, promotions.column("model_id").combine_chunks())
    measured = {}
    for name in {row["round_id"] for row in rows}:
        judged, decided = (table.filter(ds.field("round_id") == name) for table in (verdicts, promotions))
        gain = retraining_gain.measure_gain(judged, decided, measures)
        if gain is not None:
            measured[name] = {"gain": gain.gain, "gain_groups": float(gain.groups)}
    return measured


def _losses_of_kept(store: FleetStore, model_ids: set[str]) -> dict[str, float]:
    if not model_ids:
        return {}
    wanted = ds.field("model_id").isin(pa.array(sorted(model_ids), pa.string()))
    found = delta.read_table(store, tables.PROMOTIONS, _COLUMNS, wanted & ds.field("challenger_loss").is_valid())
    return {row["model_id"]: row["challenger_loss"] for row in found.to_pylist()}


def _read(store: FleetStore, base: Contract, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pa.Table:
    """The rows of a table that belong to these rounds, all of one kind."""
    batches, names = ([row[name] for row in rows] for name in ("batch_id", "round_id"))
    condition = (ds.field("batch_id") >= min(batches)) & (ds.field("batch_id") <= max(batches))
    condition &= ds.field("round_id").isin(pa.array(names, pa.string()))
    stored = delta.open_table(store.directory(base, str(rows[0]["kind"])))
    assert stored is not None, "made before any round"
    return delta.open_dataset(stored).to_table([*columns], filter=condition)
