"""Select the groups that a batch retrains, with the reason for each: the verdicts of its plan."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from schemas.vocabulary import Staleness
from spinney.core import keys
from spinney.core.config import Budget, Config
from spinney.core.errors import StoreError
from spinney.core.planning.batch_parts import PartPacing
from spinney.core.staleness.judge import UNKNOWN_COST_MS, JudgeSettings, judge
from spinney.core.staleness.policies import NewGroup
from spinney.core.staleness.reconstructed_state import reconstruct_state
from spinney.core.timestamps import to_microseconds
from spinney.retraining import judge_input
from spinney.retraining.event_counting import EVENTS
from spinney.retraining.fitting import training_row_reader
from spinney.retraining.fitting.training_row_reader import TrainingTables
from spinney.retraining.round_plan import PLANNED_SCHEMA, champion_numbers
from spinney.retraining.round_request import READ
from spinney.spark.session import SessionFactory
from spinney.storage import charter
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.readers import current_champions
from spinney.tables.readers.fleet_clock import read_fleet_clock
from spinney.tables.snapshot import ShardRange, filter_of_groups
from spinney.tables.table_files import GroupIndex

ALL, STALE, NAMED = "all", "stale", "asked"

_encode = json.JSONEncoder(separators=(",", ":")).encode
"""Encodes the numbers of a verdict in 2.3 µs. `json.dumps` with separators makes an encoder per call, which takes 4 µs.
"""


@dataclass(frozen=True)
class Scope:
    """The groups to retrain: all, the stale ones, or those that are named.

    groups: keys, as `keys.parse_key_arguments` returns them; None unless groups are named.
    """

    which: str = ALL
    groups: tuple[str, ...] = ()

    @classmethod
    def of(cls, groups: Sequence[str] | None, *, stale: bool = False) -> Scope:
        """Return the scope. groups: keys with or without spaces in their JSON; None: all groups, or all stale ones."""
        if groups is None:
            return cls(STALE if stale else ALL)
        return cls(NAMED, tuple(dict.fromkeys(map(keys.parse_key_arguments, groups))))


@dataclass(frozen=True)
class BatchView:
    """The state of the tables that a batch sees.

    pins: table versions. clock: the fleet's clock. now: the wall clock.
    """

    pins: Mapping[str, int]
    clock: datetime
    now: datetime

    @classmethod
    def now_of(cls, store: FleetStore) -> BatchView:
        """Return the current view of a fleet. Raises StoreError for a fleet without events."""
        pins = delta.pin_versions(store, *READ)
        clock = read_fleet_clock(store)
        if clock is None:
            raise StoreError(f"fleet {store.fleet.name}: no events in {store.root}; load or ingest some first")
        return cls(pins, clock, datetime.now(UTC))


def plan_verdicts(start: SessionFactory, config: Config, scope: Scope, view: BatchView) -> pa.Table:
    """Return the rows of a plan: the columns of `verdicts` except round_id, pins and batch_id.

    Raises StoreError if a named group has no stored event.
    """
    store = FleetStore.of(config)
    source = TrainingTables.of(store, config.recipe, view.pins, view.clock)
    if scope.which == STALE:
        settings = JudgeSettings.from_config(config, charter.losses_of(store))
        return _stale(start(), store, settings, source, view)
    groups = all_groups(source) if scope.which == ALL else _named(source, scope.groups)
    reason = "the batch refits every group" if scope.which == ALL else "asked for by name"
    if not groups.num_rows:
        raise StoreError(f"fleet {config.fleet.name}: no events in {store.root}; load or ingest some first")
    known = _champions_of(store, view, groups)
    rows = groups.num_rows
    return _verdict_table(
        {
            "shard": groups.column("shard"),
            "group_key": groups.column("group_key"),
            "policy": pa.repeat(scope.which, rows),
            "reason": pa.repeat(reason, rows),
            "numbers": pa.array(_numbers(known, groups), pa.string()),
            "model_id": known.column("model_id"),
            "epoch": known.column("epoch").fill_null(0),
            "predicted_ms": known.column("fit_ms"),
        },
        view,
        stale_since=None,
    )


def _numbers(known: pa.Table, groups: pa.Table) -> list[str]:
    """Return the numbers of each group's verdict as JSON. known: the groups' champions."""
    columns = [known.column(name).to_pylist() for name in ("pinned", "predecessor_id", "attempted_at")]
    return [
        _numbers_text(predecessor, None if predecessor is None else attempted_at, events, is_pinned=pinned)
        for pinned, predecessor, attempted_at, events in zip(*columns, groups.column(EVENTS).to_pylist(), strict=True)
    ]


@lru_cache(maxsize=1024)
def _numbers_text(predecessor: str | None, attempted_at: int | None, events: int, *, is_pinned: bool | None) -> str:
    """Return the numbers of a verdict as JSON.

    Cached, since most groups have no predecessor and then share the same text.
    """
    champion = {"pinned": is_pinned, "predecessor_id": predecessor, "attempted_at": attempted_at}
    return _encode(champion_numbers(champion, {EVENTS: events}))


def _verdict_table(columns: Mapping[str, Any], view: BatchView, *, stale_since: datetime | None) -> pa.Table:
    """Return the verdicts. columns: shard, group_key, policy, reason, numbers, model_id, epoch and predicted_ms."""
    rows = len(columns["group_key"])
    constant = {"decision": Staleness.FIT.value, "stale_since": stale_since, "clock": view.clock, "judged_at": view.now}
    types = {field.name: field.type for field in PLANNED_SCHEMA}
    constants = {name: pa.repeat(pa.scalar(value, types[name]), rows) for name, value in constant.items()}
    whole = {**columns, **constants}
    found = [whole.get(name, pa.nulls(rows, kind)) for name, kind in types.items()]
    return pa.table(found, list(types)).cast(PLANNED_SCHEMA)


def _champions_of(store: FleetStore, view: BatchView, groups: pa.Table) -> pa.Table:
    """Return model_id, epoch, pinned and fit_ms of each of these groups; null without a promotion."""
    wanted = filter_of_groups(groups.column("group_key").to_pylist(), store.fleet.shards)
    known = current_champions.read_champions(store, view.pins, wanted)
    place = pc.index_in(groups.column("group_key"), value_set=known.column("group_key").combine_chunks())
    return known.take(place)


def _stale(
    spark: SparkSession, store: FleetStore, settings: JudgeSettings, source: TrainingTables, view: BatchView
) -> pa.Table:
    """Return the groups that are due by the judge, from everything that is stored, and groups that were never
    attempted.
    """
    clock, now = to_microseconds(view.clock), to_microseconds(view.now)

    def judged(frame: pd.DataFrame) -> pd.DataFrame:
        shard = reconstruct_state(judge_input.parse_frames([frame]), settings, clock, now)
        return judge_input.verdict_rows(int(frame["shard"].iloc[0]), judge(shard, settings, now))

    inputs = judge_input.union_frame(store, partial(delta.spark_frame, spark)).filter(F.col("group_key").isNotNull())
    due = (
        inputs.groupBy("shard")
        .applyInPandas(judged, judge_input.VERDICTS)
        .filter(F.col("decision") == Staleness.FIT.value)
    )
    found = due.select(*_JUDGED_COLUMNS).toArrow()
    # Answers by a parent do not tell whether the group has rows of its own: they may have been loaded.
    tried = inputs.filter(F.col("kind") != "health").select("group_key").distinct().toArrow()
    groups = all_groups(source)
    known = pa.concat_arrays([*tried.column("group_key").chunks, *found.column("group_key").chunks])
    untried = groups.filter(pc.invert(pc.is_in(groups.column("group_key"), value_set=known)))
    new = {"policy": NewGroup.name, "reason": "nobody has tried to fit it yet", "numbers": "{}"}
    rows = {name: pa.repeat(text, untried.num_rows) for name, text in new.items()}
    new_rows = pa.table({name: untried.column(name) for name in ("shard", "group_key")} | rows)
    both = pa.concat_tables([found, new_rows], promote_options="default")
    columns = {name: both.column(name) for name in _JUDGED_COLUMNS}
    return _verdict_table({**columns, "epoch": columns["epoch"].fill_null(0)}, view, stale_since=view.now)


_JUDGED_COLUMNS = ("shard", "group_key", "policy", "reason", "numbers", "model_id", "epoch", "predicted_ms")


def all_groups(source: TrainingTables) -> pa.Table:
    """Return every group with an event, and every parent of these groups: shard, group_key, and
    EVENTS in the window.
    """
    groups = training_row_reader.events_per_group(source, ShardRange(0, source.shards - 1))
    return pa.concat_tables([groups, _parents_of(source, groups)])


def _parents_of(source: TrainingTables, groups: pa.Table) -> pa.Table:
    """Return the parents of these groups, as `all_groups` does."""
    found = training_row_reader.events_per_parent(source, groups)
    shards = [keys.shard_of(key, source.shards) for key in found]
    return pa.table(
        [pa.array(column) for column in (shards, list(found), list(found.values()))], groups.column_names
    ).cast(groups.schema)


def _named(source: TrainingTables, groups: Sequence[str]) -> pa.Table:
    """Return the named groups and parents, as `all_groups` does.

    Reads other groups' events only if a parent is named.
    """
    if any(map(keys.is_parent, groups)):
        found = all_groups(source)
    else:
        found = training_row_reader.events_per_group(source, GroupIndex(groups, source.shards))
    place = pc.index_in(pa.array(groups, pa.string()), value_set=found.column("group_key").combine_chunks())
    unknown = [key for key, at in zip(groups, place.to_pylist(), strict=True) if at is None]
    if unknown:
        raise StoreError(f'group {unknown[0]}: no event of it was ever stored; expected a key like ["a","b"]')
    return found.take(place)


def initial_pace(cores: int, budget: Budget, mean_ms: float | None) -> PartPacing:
    """Return the initial pacing of a batch.

    mean_ms: mean duration of the groups' last fits, milliseconds; None if none was ever fitted.
    """
    cost = UNKNOWN_COST_MS if mean_ms is None else mean_ms
    return PartPacing(budget.part_seconds, cost / 1000 / cores, is_measured=mean_ms is not None)
