"""Mean held-out losses of the models of each round, and the gain from refits on later rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from schemas import tables
from schemas.contract import Contract
from schemas.vocabulary import Decision
from spinney.core.reporting import retraining_gain
from spinney.storage.layout import FleetStore
from spinney.tables import delta, lookup
from spinney.tables.fit_metrics import parse_watched
from spinney.tables.lookup import RowFilter

_COLUMNS = ["round_id", "model_id", "challenger_loss"]
_ABOUT_CHALLENGERS = ds.field("decision") != Decision.WITHDRAWN.value


def losses_of_rounds(store: FleetStore, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return round_id -> mean_loss and measured. rows: of `rounds`, all of one kind.

    mean_loss: mean over the models that the round decided about, each measured by its evaluation fit; a kept champion
    counts with its own loss. measured: number of these models.
    """
    decided = _read(store, tables.PROMOTIONS, rows, _COLUMNS, _ABOUT_CHALLENGERS).to_pylist()
    known = _losses_of_kept(store, {row["model_id"] for row in decided if row["challenger_loss"] is None})
    losses: dict[str, list[float]] = defaultdict(list)
    for row in decided:
        loss = row["challenger_loss"] if row["challenger_loss"] is not None else known.get(row["model_id"])
        if loss is not None:
            losses[row["round_id"]].append(loss)
    return {name: {"mean_loss": sum(each) / len(each), "measured": float(len(each))} for name, each in losses.items()}


def gains_of_rounds(store: FleetStore, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return round_id -> gain and gain_groups, for rounds that compared new champions of drawn groups.

    rows: of `rounds`, all of one kind. gain: as in RetrainingGain. gain_groups: number of groups.
    """
    attempts = _read(store, tables.MODELS, rows, ("round_id", "group_key", "metrics"))
    is_compared = pc.match_substring(attempts.column("metrics"), '"watched_rows"')
    attempts = attempts.filter(pc.fill_null(is_compared, False))
    if not attempts.num_rows:
        return {}
    wanted = RowFilter.of_groups(attempts.column("group_key").to_pylist())
    verdicts = lookup.read_rows(store, tables.VERDICTS, retraining_gain.VERDICT_COLUMNS, wanted)
    promotions = lookup.read_rows(store, tables.PROMOTIONS, retraining_gain.PROMOTION_COLUMNS, wanted)
    measured = {}
    for name in attempts.column("round_id").unique().to_pylist():
        of_round = attempts.filter(pc.equal(attempts.column("round_id"), name))
        gain = retraining_gain.measure_gain(verdicts, promotions, parse_watched(of_round))
        if gain is not None:
            measured[name] = {"gain": gain.gain, "gain_groups": float(gain.groups)}
    return measured


def _losses_of_kept(store: FleetStore, model_ids: set[str]) -> dict[str, float]:
    if not model_ids:
        return {}
    wanted = ds.field("model_id").isin(pa.array(sorted(model_ids), pa.string()))
    found = delta.read_table(store, tables.PROMOTIONS, _COLUMNS, wanted & ds.field("challenger_loss").is_valid())
    return {row["model_id"]: row["challenger_loss"] for row in found.to_pylist()}


def _read(
    store: FleetStore,
    base: Contract,
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    where: ds.Expression | None = None,
) -> pa.Table:
    """The rows of a table that belong to these rounds, all of one kind, those of them for which `where` holds."""
    batches, names = ([row[name] for row in rows] for name in ("batch_id", "round_id"))
    condition = (ds.field("batch_id") >= min(batches)) & (ds.field("batch_id") <= max(batches))
    condition &= ds.field("round_id").isin(pa.array(names, pa.string()))
    stored = delta.open_table(store.directory(base, str(rows[0]["kind"])))
    assert stored is not None, "made before any round"
    wanted = condition if where is None else condition & where
    return delta.open_dataset(stored).to_table([*columns], filter=wanted)
