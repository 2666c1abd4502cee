"""Durations of past rounds, and the outcome of a brake's sample."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from schemas import tables
from schemas.vocabulary import RoundKind
from spinney.core.planning.brake import SampleOutcome
from spinney.core.planning.round_cost import PastRound
from spinney.storage.layout import FleetStore
from spinney.tables import delta

MAX_ROUNDS = 200
"""Largest number of rounds that are read at the start of a query."""

PLAN_STAGE = "plan"
"""Name of a round's first stage. A resumed round has only the seconds of its last run, which does not include this
stage.
"""


def past_rounds(store: FleetStore, kind: RoundKind) -> list[PastRound]:
    """Return the last rounds of the stream or of batches that no crash or restart interrupted, oldest first."""
    table = delta.open_table(store.directory(tables.ROUNDS, kind.value))
    if table is None:
        return []
    columns = ["batch_id", "groups_in", "deferred", "seconds"]
    rows = delta.open_dataset(table).to_table(columns).sort_by("batch_id")
    last = rows.slice(max(0, rows.num_rows - MAX_ROUNDS)).to_pylist()
    times_of_batch = fit_times(store, kind, [row["batch_id"] for row in last])
    rounds = []
    for row in last:
        seconds = json.loads(row["seconds"] or "{}")
        fits = times_of_batch.get(row["batch_id"])
        if PLAN_STAGE in seconds and fits is not None:
            groups = row["groups_in"] - row["deferred"]
            rounds.append(PastRound(groups, *fits, sum(seconds.values())))
    return rounds


def largest_round_groups(store: FleetStore, kind: RoundKind) -> int:
    """Number of groups of the largest round of a path; 0 before the first."""
    table = delta.open_table(store.directory(tables.ROUNDS, kind.value))
    if table is None:
        return 0
    return int(pc.max(delta.open_dataset(table).to_table(["groups_in"])["groups_in"]).as_py() or 0)


def fit_times(store: FleetStore, kind: RoundKind, batch_ids: Sequence[int]) -> dict[int, tuple[float, float]]:
    """Return, for each batch with fits, the sum of its fit times and the longest one, in milliseconds."""
    table = delta.open_table(store.directory(tables.MODELS, kind.value))
    if table is None or not batch_ids:
        return {}
    of_them = (ds.field("batch_id") >= min(batch_ids)) & (ds.field("batch_id") <= max(batch_ids))
    rows = delta.open_dataset(table).to_table(["batch_id", "fit_ms"], filter=of_them)
    times = pa.table({"batch_id": rows["batch_id"], "fit_ms": pc.fill_null(rows["fit_ms"], 0.0)})
    sums = times.group_by("batch_id").aggregate([("fit_ms", "sum"), ("fit_ms", "max")])
    return {row["batch_id"]: (row["fit_ms_sum"], row["fit_ms_max"]) for row in sums.to_pylist()}


def sample_outcome(store: FleetStore, round_id: str) -> SampleOutcome:
    """Return in how many groups of a streaming round the models were compared, and in how many the challenger was
    better.
    """
    directory = store.directory(tables.PROMOTIONS, RoundKind.STREAM.value)
    is_compared = ds.field("champion_loss").is_valid() & ds.field("challenger_loss").is_valid()
    rows = delta.open_dataset(delta.open_existing(directory)).to_table(
        ["champion_loss", "challenger_loss"], filter=(ds.field("round_id") == round_id) & is_compared
    )
    better = pc.sum(pc.less(rows["challenger_loss"], rows["champion_loss"])).as_py()
    return SampleOutcome(rows.num_rows, int(better or 0))
