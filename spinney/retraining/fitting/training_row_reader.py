"""Read training rows from tables: mature events with their labels, of the groups that a round fits.

Read with Arrow in the process that fits them, so that no shuffle can separate a group's rows from its fit request.
`spinney.core.training.training_set` selects and orders them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from schemas import tables
from spinney.core.arrow_types import arrow_type
from spinney.core.config import Recipe
from spinney.core.internal_column_names import internal_name
from spinney.core.keys import ancestors, is_parent
from spinney.retraining.fitting.first_rows_per_group import Integers, Selection, newest, rows_per_group, to_int64
from spinney.storage.layout import FleetStore, feature_sources
from spinney.tables.snapshot import GroupFilter, ShardRange, Snapshot, filter_of_groups, take_snapshot

GROUP = internal_name("group")
"""Column: a group's position among the requested keys."""

_PLACE = internal_name("place")
_TIME = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class TrainingTables:
    """The tables that a round's rows are read from, and which rows are used. It is pickled into tasks.

    outcomes: None if labels are inside the events. features: name -> column of `events`. Events from `oldest` to
    `newest` are used, and labels observed until `clock`. window_rows: number of newest rows that are used of a group.
    max_rows: number of rows in a parent's sample. group: key columns. parents: key columns of each rung of parents.
    shards: the fleet's number of shards.
    """

    events: Snapshot
    outcomes: Snapshot | None
    features: Mapping[str, str]
    label: str
    clock: datetime
    oldest: datetime
    newest: datetime
    window_rows: int
    max_rows: int
    group: tuple[str, ...]
    parents: tuple[tuple[str, ...], ...]
    shards: int

    @classmethod
    def of(cls, store: FleetStore, recipe: Recipe, pins: Mapping[str, int], clock: datetime) -> TrainingTables:
        """Return the tables at the pinned versions.

        recipe: the section `[recipe]`. clock: the fleet's; rows are `label_delay` to `recipe.window` older.
        """
        events, outcomes = store.directory(tables.EVENTS), store.directory(tables.OUTCOMES)
        return cls(
            events=take_snapshot(events, pins.get(events.name)),
            outcomes=None if store.has_label_in_event else take_snapshot(outcomes, pins.get(outcomes.name)),
            features=feature_sources(store.fleet),
            label=store.fleet.target,
            clock=clock,
            oldest=clock - recipe.window,
            newest=clock - store.fleet.label_delay,
            window_rows=recipe.window_rows,
            max_rows=recipe.parents.max_rows,
            group=tuple(store.fleet.group),
            parents=tuple(map(tuple, store.fleet.parents)),
            shards=store.fleet.shards,
        )

    @property
    def types(self) -> dict[str, str]:
        """The columns of training rows and their Spark SQL types: event_id, event_time, the features, label."""
        of_event = self.events.contract.column
        features = {name: of_event(of).type for name, of in self.features.items()}
        label = of_event(self.label) if self.outcomes is None else self.outcomes.contract.column("label")
        return {"event_id": "string", "event_time": "timestamp", **features, "label": label.type}

    @property
    def schema(self) -> pa.Schema:
        """`types` as an Arrow schema."""
        return pa.schema([(name, arrow_type(kind)) for name, kind in self.types.items()])


@dataclass(frozen=True)
class GroupRows:
    """The training rows of some groups.

    table: TrainingTables.schema, sorted by (group, event_time). starts: shape (n_groups + 1,): the rows of group g are
    starts[g] to starts[g + 1]. events: shape (n_groups,): number of events in the window that were read, labelled or
    not.
    """

    table: pa.Table
    starts: Integers
    events: Integers


def read_group_rows(source: TrainingTables, group_keys: pa.Array, wanted: GroupFilter) -> GroupRows:
    """Read the newest `window_rows` mature, labelled rows of each group. Memory does not grow with a group's size.

    group_keys: distinct. wanted: the filter that finds their rows in the tables.
    """
    groups, schema = len(group_keys), pa.schema([(GROUP, pa.int32()), *source.schema])
    selection = Selection(schema, GROUP, groups, newest(GROUP, groups, source.window_rows))
    if source.outcomes is None:
        events_read = np.zeros(groups, dtype=np.int64)
        for events in event_batches(source, wanted, _group_numbering(group_keys)):
            events_read += rows_per_group(events, GROUP, groups)
            selection.add(with_inline_label(events).select(schema.names))
    else:
        events_read = _add_labelled_late(source, group_keys, wanted, selection)
    table = selection.table()
    starts = np.concatenate([[0], np.cumsum(rows_per_group(table, GROUP, groups))]).astype(np.int64)
    return GroupRows(table.select(source.schema.names), starts, events_read)


LOOKUP_FACTOR = 2
"""Labels are first looked up for this multiple of the wanted rows, which is enough if most events have a label."""


def _add_labelled_late(
    source: TrainingTables, group_keys: pa.Array, wanted: GroupFilter, selection: Selection
) -> Integers:
    """Add rows with a label in `outcomes` until each group has its window. Return the number of events read per group.

    Both tables may be many times the window. So labels of the newest events are looked up first, and those of older
    events only for groups of which too few had a label.
    """
    groups, max_candidates = len(group_keys), LOOKUP_FACTOR * source.window_rows
    events_read, labelled_events = (np.zeros(groups, dtype=np.int64) for _ in range(2))
    processed: _OlderEvents | None = None
    while processed is None or processed.numbers:
        numbered = _group_numbering(group_keys, None if processed is None else processed.numbers)
        candidates = Selection(
            event_schema(source), GROUP, groups, newest(GROUP, groups, max_candidates), max_candidates
        )
        for events in event_batches(source, wanted, numbered, None if processed is None else processed.newest):
            if processed is None:
                events_read += rows_per_group(events, GROUP, groups)
            candidates.add(events if processed is None else processed.of(events))
        rows = candidates.table()
        labelled = with_labels(rows, first_labels(source, wanted, numbered, rows))
        selection.add(labelled.select([GROUP, *source.schema.names]))
        if candidates.dropped.any():
            labelled_events += rows_per_group(without_copies(labelled), GROUP, groups)
        incomplete = np.flatnonzero(candidates.dropped & (labelled_events < source.window_rows)).tolist()
        processed = _OlderEvents.oldest_of(rows, incomplete)
        if incomplete:
            wanted = filter_of_groups(group_keys.take(pa.array(incomplete)).to_pylist(), source.shards)
    return events_read


def without_copies(events: pa.Table) -> pa.Table:
    """Return the events without copies: the distinct rows of GROUP, event_time and event_id."""
    return events.group_by([GROUP, "event_time", "event_id"]).aggregate([])


@dataclass(frozen=True)
class _OlderEvents:
    """Selects events that are older than those already processed.

    times, ids: for each group in `numbers`, the time and id of the oldest processed event.
    """

    numbers: tuple[int, ...]
    times: pa.Array
    ids: pa.Array

    @classmethod
    def oldest_of(cls, rows: pa.Table, numbers: Sequence[int]) -> _OlderEvents:
        """Return the filter for events older than these rows.

        rows: with the columns GROUP, event_time and event_id; each of `numbers` has some.
        """
        names = [GROUP, "event_time", "event_id"]
        processed = rows.select(names).filter(pc.is_in(rows.column(GROUP), pa.array(numbers, pa.int32())))
        in_order = processed.sort_by([(name, "ascending") for name in names])
        first = in_order.take(pa.array(np.searchsorted(to_int64(in_order.column(GROUP)), numbers), pa.int64()))
        return cls(tuple(numbers), *(first.column(name).combine_chunks() for name in names[1:]))

    @property
    def newest(self) -> datetime:
        newest: datetime = pc.max(self.times).as_py()
        return newest

    def of(self, events: pa.Table) -> pa.Table:
        """Return the events that are older than those already processed. events: of groups in `numbers`."""
        place = pc.index_in(events.column(GROUP), value_set=pa.array(self.numbers, pa.int32())).combine_chunks()
        time, at = events.column("event_time"), self.times.take(place)
        same = pc.and_(pc.equal(time, at), pc.less(events.column("event_id"), self.ids.take(place)))
        return events.filter(pc.or_(pc.less(time, at), same))


NumberGroups = Callable[[pa.Array], pa.Array]
"""Maps group keys to numbers, int32; null for a group that is not wanted."""


def _group_numbering(group_keys: pa.Array, only: Sequence[int] | None = None) -> NumberGroups:
    """Number groups by their position in `group_keys`. only: the positions that are wanted; None: all."""

    def numbered(keys: pa.Array) -> pa.Array:
        places = pc.index_in(keys, value_set=group_keys)
        return places if only is None else pc.if_else(pc.is_in(places, pa.array(only, pa.int32())), places, None)

    return numbered


def _event_columns(source: TrainingTables) -> dict[str, str]:
    """The columns read of an event: GROUP and those of `source.schema`, without the label if it comes late."""
    label = {"label": source.label} if source.outcomes is None else {}
    return {GROUP: "group_key", "event_id": "event_id", "event_time": "event_time", **source.features, **label}


def event_schema(source: TrainingTables) -> pa.Schema:
    """Return the schema of `event_batches`."""
    return _numbered_schema(source.events, _event_columns(source))


def event_batches(
    source: TrainingTables, wanted: GroupFilter, numbered: NumberGroups, until: datetime | None = None
) -> Iterator[pa.Table]:
    """Read the events of the window that are not newer than `until`, batch by batch, in `event_schema`."""
    within = _between("event_time", source.oldest, source.newest if until is None else min(until, source.newest))
    return _numbered(source.events, _event_columns(source), wanted, within, numbered)


def _numbered(
    table: Snapshot, columns: Mapping[str, str], wanted: GroupFilter, where: ds.Expression, numbered: NumberGroups
) -> Iterator[pa.Table]:
    """Read the rows of the groups that `numbered` knows, batch by batch, with their number as GROUP."""
    schema = _numbered_schema(table, columns)
    for batch in table.batches(columns, wanted, where):
        groups = numbered(batch.column(GROUP))
        rows = batch.set_column(batch.schema.get_field_index(GROUP), GROUP, groups)
        known = (rows.filter(groups.is_valid()) if groups.null_count else rows).cast(schema)
        yield pa.Table.from_batches([known], schema)


def _numbered_schema(table: Snapshot, columns: Mapping[str, str]) -> pa.Schema:
    kinds = {name: arrow_type(table.contract.column(of).type) for name, of in columns.items()}
    return pa.schema(list((kinds | {GROUP: pa.int32()}).items()))


def with_inline_label(events: pa.Table) -> pa.Table:
    """Return the events that have a label, in a fleet whose labels are inside the events."""
    return events.filter(pc.is_valid(events.column("label")))


def first_labels(source: TrainingTables, wanted: GroupFilter, numbered: NumberGroups, events: pa.Table) -> pa.Table:
    """Return the first label in `outcomes` of each of these events: GROUP, event_id, label. The result may contain
    other events too.

    An id may have several labels if its copies are further apart than `duplicates_within`. The label observed first is
    used, and the smallest one if several were observed at the same time. events: with the columns GROUP and event_id.
    """
    assert source.outcomes is not None, "labels come late"
    columns = {GROUP: "group_key", "event_id": "event_id", "observed_at": "observed_at", "label": "label"}
    # A label is never observed before its event, so files older than the window need not be opened.
    known = _between("observed_at", source.oldest, source.clock)
    wanted_events = events.select([GROUP, "event_id"])
    owners = 1 + (pc.max(wanted_events[GROUP]).as_py() or 0)
    selected = Selection(
        _numbered_schema(source.outcomes, columns), GROUP, owners, lambda rows: _firsts(rows, wanted_events)
    )
    for outcomes in _numbered(source.outcomes, columns, wanted, known, numbered):
        selected.add(outcomes.filter(pc.less(outcomes[GROUP], owners)))
    return selected.table().select([GROUP, "event_id", "label"])


def _firsts(outcomes: pa.Table, wanted_events: pa.Table) -> Integers:
    """Return the positions of the first label of each wanted event; also of other events, if there are few of them.

    wanted_events: GROUP and event_id.
    """
    candidates, places = outcomes, np.arange(outcomes.num_rows)
    if outcomes.num_rows > 2 * wanted_events.num_rows:  # else filtering costs more than it saves
        placed = outcomes.select([GROUP, "event_id"]).append_column(_PLACE, pa.array(places))
        places = to_int64(placed.join(wanted_events, [GROUP, "event_id"], join_type="left semi").column(_PLACE))
        candidates = outcomes.take(pa.array(places))
    order = pc.sort_indices(candidates, sort_keys=[("observed_at", "ascending"), ("label", "ascending")])
    in_order = (
        candidates.select([GROUP, "event_id"]).take(order).append_column(_PLACE, pa.array(np.arange(len(places))))
    )
    # By position, as Arrow has no "first" of decimals.
    first = in_order.group_by([GROUP, "event_id"]).aggregate([(_PLACE, "min")]).column(f"{_PLACE}_min")
    chosen: Integers = places[np.asarray(order)[to_int64(first)]]
    return chosen


def with_labels(events: pa.Table, labels: pa.Table) -> pa.Table:
    """Join the events with their labels, without events that have none. labels: from `first_labels`."""
    return events.join(labels, [GROUP, "event_id"], join_type="inner").combine_chunks()


def events_per_group(source: TrainingTables, wanted: GroupFilter, where: ds.Expression | None = None) -> pa.Table:
    """Count events in the window: shard, group_key and events, for every wanted group that has rows.

    where: a further condition.
    """
    columns = {"shard": "shard", "group_key": "group_key", "at": "event_time"}
    parts: list[pa.Table] = [_COUNTS.empty_table()]
    inside = [pa.scalar(time, _TIME) for time in (source.oldest, source.newest)]
    waiting = 0
    for batch in source.events.batches(columns, wanted, where):
        counts = pc.and_(pc.greater_equal(batch["at"], inside[0]), pc.less_equal(batch["at"], inside[1]))
        rows = pa.table({**{name: batch[name] for name in ("shard", "group_key")}, "events": counts.cast(pa.int64())})
        parts.append(_sum_counts(rows))
        waiting += parts[-1].num_rows
        if waiting > MAX_HELD_COUNTS:
            parts = [_sum_counts(pa.concat_tables(parts))]
            waiting = 0
    return _sum_counts(pa.concat_tables(parts))


MAX_HELD_COUNTS = 4_000_000
"""Counts of batches that are held before they are summed."""

_COUNTS = pa.schema([("shard", pa.int32()), ("group_key", pa.string()), ("events", pa.int64())])


def _sum_counts(rows: pa.Table) -> pa.Table:
    summed = rows.group_by(["shard", "group_key"]).aggregate([("events", "sum")])
    return summed.select(["shard", "group_key", "events_sum"]).rename_columns(_COUNTS.names).cast(_COUNTS)


def events_per_key(source: TrainingTables, keys: Sequence[str]) -> dict[str, int]:
    """Return the number of events in the window of each of these groups and parents."""
    parents = {key for key in keys if is_parent(key)}
    # A parent has groups in all shards.
    wanted = ShardRange(0, source.shards - 1) if parents else filter_of_groups(keys, source.shards)
    counts = events_per_group(source, wanted, _between("event_time", source.oldest, source.newest))
    of_groups = dict(zip(counts.column("group_key").to_pylist(), counts.column("events").to_pylist(), strict=True))
    of_parents = events_per_parent(source, counts) if parents else {}
    return {key: (of_parents if key in parents else of_groups).get(key, 0) for key in keys}


def events_per_parent(source: TrainingTables, counts: pa.Table) -> dict[str, int]:
    """Return, for every parent of these groups, the number of events of its groups in the window.

    counts: from `events_per_group`.
    """
    totals: dict[str, int] = {}
    for key, events in zip(counts.column("group_key").to_pylist(), counts.column("events").to_pylist(), strict=True):
        for parent in ancestors(source.group, source.parents, key):
            totals[parent] = totals.get(parent, 0) + events
    return totals


def _between(column: str, first: datetime, last: datetime) -> ds.Expression:
    return (ds.field(column) >= pa.scalar(first, _TIME)) & (ds.field(column) <= pa.scalar(last, _TIME))


def shard_ranges(shards: int, count: int) -> Iterator[ShardRange]:
    """All shards, as `count` ranges of about the same length."""
    edges = [shards * at // count for at in range(count + 1)]
    return (ShardRange(first, stop - 1) for first, stop in pairwise(edges) if stop > first)
