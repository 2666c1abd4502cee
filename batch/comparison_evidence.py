"""Count the held-out rows on which a batch can compare each champion: labelled, and newer than the champion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batch.group_selection import BatchView
from schemas import tables
from spinney.core.config import Config
from spinney.core.errors import SpinneyError
from spinney.core.keys import is_parent
from spinney.core.models.signing import Signer
from spinney.core.recipes.recipe import Recipe
from spinney.core.training.champion_model import load_champion
from spinney.core.training.comparisons.held_out_rows import held_out_counts, recent_counts
from spinney.core.training.fit_request import requests_of_frame
from spinney.retraining.fitting import fit_request_table, training_row_reader
from spinney.retraining.fitting.champion_reader import StoredChampions
from spinney.retraining.fitting.training_row_reader import TrainingTables
from spinney.storage.layout import FleetStore
from spinney.tables.snapshot import filter_of_groups, take_snapshots

EVENTS_AT_ONCE = 5_000_000
"""Number of events whose ids, times and labels are held in memory together."""

Integers = npt.NDArray[np.int64]

CHAMPIONS_TRIED = 3
"""Number of champions of a recipe that are opened to find out whether its models can predict at all."""


@dataclass(frozen=True)
class Evidence:
    """Number of groups with at least `gate.evidence` rows to compare on, with fewer rows, and with none.

    why: the reason why no group has any, if it is not a lack of newer rows; else None.
    """

    with_enough_rows: int
    with_few_rows: int
    without_rows: int
    why: str | None = None


def count_evidence(config: Config, signer: Signer, view: BatchView, candidates: pa.Table, current: Recipe) -> Evidence:
    """Return the evidence for groups of one recipe.

    candidates: shard, group_key, model_id and trained_through of groups and parents. Parents are not counted: a parent
    has the rows of all its groups, and the gate keeps a parent's champion if nothing was compared. current: the current
    recipe, which knows earlier names of its features.
    """
    groups = candidates.filter(
        pa.array([not is_parent(key) for key in candidates.column("group_key").to_pylist()], pa.bool_())
    )
    if not groups.num_rows:
        return Evidence(0, 0, 0)
    store = FleetStore.of(config)
    why = _why_none(store, signer, view, groups.slice(0, CHAMPIONS_TRIED), current)
    if why is not None:
        return Evidence(0, 0, groups.num_rows, why)
    source = TrainingTables.of(store, config.recipe, view.pins, view.clock)
    found = np.concatenate(list(_rows_to_compare(source, groups, config.recipe.weight_half_life)))
    enough, some = int((found >= config.gate.evidence).sum()), int((found > 0).sum())
    return Evidence(enough, some - enough, groups.num_rows - some)


def _why_none(store: FleetStore, signer: Signer, view: BatchView, groups: pa.Table, current: Recipe) -> str | None:
    """Return why the models of these groups cannot predict rows with the current features; None if one of them can."""
    requests = groups.rename_columns({"model_id": "champion_id"}).select(["shard", "group_key", "champion_id"])
    requests = requests.append_column("predecessor_id", pa.nulls(requests.num_rows, pa.string()))
    wanted = fit_request_table.shards_of(requests, store.fleet.shards)
    files = [path for table in take_snapshots(store, tables.MODELS, view.pins) for path in table.files_for(wanted)]
    why = None
    for request in requests_of_frame(StoredChampions(files, requests).of(0, requests.num_rows).to_pandas()):
        try:
            load_champion(request, current, signer)
        except SpinneyError as error:
            why = str(error)
        else:
            return None
    return why


def _rows_to_compare(source: TrainingTables, groups: pa.Table, half_life: timedelta | None) -> Iterator[Integers]:
    """Yield the number of rows to compare on for each group, in batches; not in the order of `groups`."""
    source = replace(source, features={})  # they are not needed
    shards = np.asarray(groups.column("shard").to_numpy())
    for shard_range in training_row_reader.shard_ranges(source.shards, 1 + source.events.rows // EVENTS_AT_ONCE):
        candidates = groups.filter(pa.array((shards >= shard_range.first) & (shards <= shard_range.last)))
        if candidates.num_rows:
            keys = candidates.column("group_key").combine_chunks()
            wanted = filter_of_groups(keys.to_pylist(), source.shards)
            rows = training_row_reader.read_group_rows(source, keys, wanted)
            yield _counts(rows, candidates.column("trained_through"), half_life)


def _counts(rows: training_row_reader.GroupRows, through: pa.ChunkedArray, half_life: timedelta | None) -> Integers:
    """Return, for each group, the number of rows that are both held out and newer than its champion.

    Both sets are the newest rows of a group, so this is the smaller of their sizes.
    """
    label = rows.table.column("label")
    counts = pc.is_finite(label) if pa.types.is_floating(label.type) else pc.is_valid(label)
    of_row = np.repeat(np.arange(len(through)), np.diff(rows.starts))
    # Without its time a champion may have seen every row.
    newer = pc.fill_null(pc.greater(rows.table.column("event_time"), through.take(pa.array(of_row))), False)
    labelled, is_unseen = (np.asarray(mask.to_numpy(), dtype=np.bool_) for mask in (counts, pc.and_(counts, newer)))
    total, unseen = (np.bincount(of_row[marked], minlength=len(through)) for marked in (labelled, is_unseen))
    times = np.asarray(rows.table.column("event_time").cast(pa.int64()))
    recent = recent_counts(of_row[labelled], times[labelled], len(through), half_life)
    return np.minimum(unseen, held_out_counts(total, unseen, recent))
