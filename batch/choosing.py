"""Which groups a batch retrains, and why: the verdicts of its plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from schemas import tables
from schemas.vocabulary import Staleness
from spinney.core import keys
from spinney.core.config import Config
from spinney.core.errors import StoreError
from spinney.core.planning.chunks import Pace
from spinney.core.staleness.initial_state import hindsight
from spinney.core.staleness.judge import UNKNOWN_COST_MS, Terms, judge
from spinney.core.staleness.policies import NewGroup, configured
from spinney.core.timestamps import to_microseconds
from spinney.retraining import judge_input, training_tables
from spinney.retraining.round_order import READ
from spinney.retraining.row_counts import EVENTS
from spinney.retraining.training_tables import TrainingTables
from spinney.spark.session import Start
from spinney.storage.layout import FleetStore
from spinney.tables import current_champions, delta
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.fleet_clock import fleet_clock
from spinney.tables.snapshot import Shards, wanted_of
from spinney.tables.table_files import GroupIndex

ALL, STALE, NAMED = "all", "stale", "asked"


@dataclass(frozen=True)
class Scope:
    """What is asked for: every group, the stale ones, or those named. groups: keys, as `keys.typed` has them."""

    which: str = ALL
    groups: tuple[str, ...] = ()

    @classmethod
    def of(cls, groups: Sequence[str] | None, *, stale: bool = False) -> Scope:
        """groups: keys with spaces in their JSON or without; None: all, or all that are stale."""
        if groups is None:
            return cls(STALE if stale else ALL)
        return cls(NAMED, tuple(dict.fromkeys(map(keys.parse_key_arguments, groups))))


@dataclass(frozen=True)
class View:
    """The tables as a batch sees them. clock: the fleet's; now: the wall's."""

    pins: Mapping[str, int]
    clock: datetime
    now: datetime

    @classmethod
    def now_of(cls, config: Config) -> View:
        """Raises StoreError for a fleet without events."""
        store = FleetStore.of(config)
        pins = delta.pins(store, *READ, tables.PROMOTIONS)
        clock = fleet_clock(store)
        if clock is None:
            raise StoreError(
                f"fleet {config.fleet.name}: no events in {config.storage.root}; load or ingest some first"
            )
        return cls(pins, clock, datetime.now(UTC))


def verdicts(start: Start, config: Config, scope: Scope, view: View) -> pa.Table:
    """The rows of a plan: columns of `verdicts` but for round_id, pins and batch_id.

    Raises StoreError when a group is named of which no event was ever stored.
    """
    if scope.which == STALE:
        return _stale(start(), config, view)
    groups = every_group(config, view) if scope.which == ALL else _named(config, view, scope.groups)
    said = "the batch refits every group" if scope.which == ALL else "asked for by name"
    if not groups.num_rows:
        raise StoreError(f"fleet {config.fleet.name}: no events in {config.storage.root}; load or ingest some first")
    known = _champions(FleetStore.of(config), view, groups)
    pinned = ["true" if value else "false" for value in known.column("pinned").to_pylist()]
    counted = groups.column(EVENTS).to_pylist()
    numbers = [f'{{"pinned":{pin},"{EVENTS}":{events}}}' for pin, events in zip(pinned, counted, strict=True)]
    rows = groups.num_rows
    return _planned(
        {
            "shard": groups.column("shard"),
            "group_key": groups.column("group_key"),
            "policy": pa.repeat(scope.which, rows),
            "reason": pa.repeat(said, rows),
            "numbers": pa.array(numbers, pa.string()),
            "model_id": known.column("model_id"),
            "epoch": known.column("epoch").fill_null(0),
            "predicted_ms": known.column("fit_ms"),
        },
        view,
        stale_since=None,
    )


def _planned(columns: Mapping[str, Any], view: View, *, stale_since: datetime | None) -> pa.Table:
    """columns: shard, group_key, policy, reason, numbers, model_id, epoch and predicted_ms."""
    names = [name for name in tables.VERDICTS.names if name not in ("round_id", "pins", "batch_id")]
    schema = pa.schema([arrow_schema(tables.VERDICTS).field(name) for name in names])
    rows = len(columns["group_key"])
    constant = {"decision": Staleness.FIT.value, "stale_since": stale_since, "clock": view.clock, "judged_at": view.now}
    constants = {name: pa.repeat(pa.scalar(value, schema.field(name).type), rows) for name, value in constant.items()}
    whole = {**columns, **constants}
    return pa.table([whole.get(name, pa.nulls(rows, schema.field(name).type)) for name in names], names).cast(schema)


def _champions(store: FleetStore, view: View, groups: pa.Table) -> pa.Table:
    """Of each of these groups: model_id, epoch, pinned and fit_ms; null where no promotion names it."""
    wanted = wanted_of(groups.column("group_key").to_pylist(), store.fleet.shards)
    known = current_champions.current(store, view.pins, wanted)
    place = pc.index_in(groups.column("group_key"), value_set=known.column("group_key").combine_chunks())
    return known.take(place)


def _stale(spark: SparkSession, config: Config, view: View) -> pa.Table:
    """Whom the judge finds due, by all that is stored; and groups that nobody has ever tried to fit."""
    terms = Terms.of(config, configured(config))
    clock, now = to_microseconds(view.clock), to_microseconds(view.now)

    def judged(frame: pd.DataFrame) -> pd.DataFrame:
        shard = hindsight(judge_input.of_frames([frame]), terms, clock, now)
        return judge_input.verdict_rows(int(frame["shard"].iloc[0]), judge(shard, terms, now))

    seen = judge_input.frame(FleetStore.of(config), partial(delta.frame, spark)).filter(F.col("group_key").isNotNull())
    due = (
        seen.groupBy("shard")
        .applyInPandas(judged, judge_input.VERDICTS)
        .filter(F.col("decision") == Staleness.FIT.value)
    )
    found = due.select(*_OF_THE_JUDGE).toArrow()
    # That its events were answered by a parent says nothing of a group's own rows, which may have been loaded.
    tried = seen.filter(F.col("kind") != "health").select("group_key").distinct().toArrow()
    groups = every_group(config, view)
    known = pa.concat_arrays([*tried.column("group_key").chunks, *found.column("group_key").chunks])
    untried = groups.filter(pc.invert(pc.is_in(groups.column("group_key"), value_set=known)))
    new = {"policy": NewGroup.name, "reason": "nobody has tried to fit it yet", "numbers": "{}"}
    rows = {name: pa.repeat(text, untried.num_rows) for name, text in new.items()}
    of_new = pa.table({name: untried.column(name) for name in ("shard", "group_key")} | rows)
    both = pa.concat_tables([found, of_new], promote_options="default")
    columns = {name: both.column(name) for name in _OF_THE_JUDGE}
    return _planned({**columns, "epoch": columns["epoch"].fill_null(0)}, view, stale_since=view.now)


_OF_THE_JUDGE = ("shard", "group_key", "policy", "reason", "numbers", "model_id", "epoch", "predicted_ms")


def every_group(config: Config, view: View) -> pa.Table:
    """Every group that has an event, and every parent of theirs: shard, group_key, and EVENTS in the window."""
    source = TrainingTables.of(config, view.pins, view.clock)
    groups = training_tables.event_counts(source, Shards(0, source.shards - 1))
    return pa.concat_tables([groups, _of_parents(source, groups)])


def _of_parents(source: TrainingTables, groups: pa.Table) -> pa.Table:
    """The parents of these groups, as `every_group` has them."""
    found = training_tables.parent_counts(source, groups)
    shards = [keys.shard_of(key, source.shards) for key in found]
    return pa.table([pa.array(each) for each in (shards, list(found), list(found.values()))], groups.column_names).cast(
        groups.schema
    )


def _named(config: Config, view: View, groups: Sequence[str]) -> pa.Table:
    """The named groups and parents, as `every_group` has them. Reads no others' events, unless a parent is named."""
    source = TrainingTables.of(config, view.pins, view.clock)
    if any(map(keys.is_parent, groups)):
        found = every_group(config, view)
    else:
        found = training_tables.event_counts(source, GroupIndex(groups, source.shards))
    place = pc.index_in(pa.array(groups, pa.string()), value_set=found.column("group_key").combine_chunks())
    unknown = [key for key, at in zip(groups, place.to_pylist(), strict=True) if at is None]
    if unknown:
        raise StoreError(f'group {unknown[0]}: no event of it was ever stored; expected a key like ["a","b"]')
    return found.take(place)


def pace_of(cores: int, config: Config, mean_ms: float | None) -> Pace:
    """How fast a batch should go. mean_ms: of a group's last fit; None when none was ever fitted."""
    cost = UNKNOWN_COST_MS if mean_ms is None else mean_ms
    return Pace(config.budget.part_seconds, cost / 1000 / cores, known=mean_ms is not None)
