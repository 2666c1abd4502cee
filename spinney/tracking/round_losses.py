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
from spinney.tables import delta
from spinney.tables.lookup import MAX_LOOKUP_GROUPS, RowFilter
from spinney.tables.readers import random_draws

_COLUMNS = ["round_id", "model_id", "challenger_loss"]
_ABOUT_CHALLENGERS = ds.field("decision") != Decision.WITHDRAWN.value
_HAS_COMPARISON = pc.match_substring(ds.field("metrics"), retraining_gain.COMPARED)


def losses_of_rounds(store: FleetStore, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return round_id -> mean_loss and measured. rows: rows of `rounds`, all of one kind.

    mean_loss: mean over the models that the round decided about, each measured by its evaluation fit; a kept champion
    counts with its own loss. measured: number of these models.
    """
    wanted = _of_rounds(rows) & _ABOUT_CHALLENGERS
    decided = _dataset(store, tables.PROMOTIONS, rows).to_table(_COLUMNS, filter=wanted).to_pylist()
    known = _losses_of_kept(store, {row["model_id"] for row in decided if row["challenger_loss"] is None})
    losses: dict[str, list[float]] = defaultdict(list)
    for row in decided:
        loss = row["challenger_loss"] if row["challenger_loss"] is not None else known.get(row["model_id"])
        if loss is not None:
            losses[row["round_id"]].append(loss)
    return {
        name: {"mean_loss": sum(values) / len(values), "measured": float(len(values))}
        for name, values in losses.items()
    }


def gains_of_rounds(store: FleetStore, rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return round_id -> gain and gain_groups, for rounds that compared new champions of drawn groups.

    rows: rows of `rounds`, all of one run. gain: as in RetrainingGain, for draws from WINDOW before the day of the run
    on. gain_groups: number of groups.
    """
    attempts, compared = _dataset(store, tables.MODELS, rows), _of_rounds(rows) & _HAS_COMPARISON
    keys = attempts.to_table(["group_key"], filter=compared).column("group_key").unique().to_pylist()
    if not keys:
        return {}
    wanted = RowFilter.of_groups(keys) if len(keys) <= MAX_LOOKUP_GROUPS else None
    began = min(row["started_at"] for row in rows)
    day = began.replace(hour=0, minute=0, second=0, microsecond=0)  # the same in each delivery to a run
    champions = random_draws.read_drawn_champions(store, day - random_draws.WINDOW, wanted=wanted)
    if not champions.num_rows:
        return {}
    columns = ["round_id", "group_key", "metrics"]
    found = [*random_draws.watched_of(champions, attempts.to_batches(columns, filter=compared, batch_readahead=2))]
    if not found:
        return {}
    measures, measured = pa.concat_tables(found), {}
    for name in measures.column("round_id").unique().to_pylist():
        gain = retraining_gain.measure_gain(champions, measures.filter(pc.equal(measures.column("round_id"), name)))
        if gain is not None:
            measured[name] = {"gain": gain.gain, "gain_groups": float(gain.groups)}
    return measured


def _losses_of_kept(store: FleetStore, model_ids: set[str]) -> dict[str, float]:
    if not model_ids:
        return {}
    wanted = ds.field("model_id").isin(pa.array(sorted(model_ids), pa.string()))
    found = delta.read_table(store, tables.PROMOTIONS, _COLUMNS, wanted & ds.field("challenger_loss").is_valid())
    return {row["model_id"]: row["challenger_loss"] for row in found.to_pylist()}


def _of_rounds(rows: Sequence[Mapping[str, Any]]) -> ds.Expression:
    """Return the condition that a row of a table belongs to these rounds, all of one kind."""
    batches, names = ([row[name] for row in rows] for name in ("batch_id", "round_id"))
    condition = (ds.field("batch_id") >= min(batches)) & (ds.field("batch_id") <= max(batches))
    return condition & ds.field("round_id").isin(pa.array(names, pa.string()))


def _dataset(store: FleetStore, base: Contract, rows: Sequence[Mapping[str, Any]]) -> ds.Dataset:
    """The directory of a table that these rounds wrote, all of one kind."""
    stored = delta.open_table(store.directory(base, str(rows[0]["kind"])))
    assert stored is not None, "made before any round"
    return delta.open_dataset(stored)
