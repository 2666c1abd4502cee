"""The rows to fit on: events with their labels, mature ones only, of the groups that a round asks for.

Read with Arrow, shard range by shard range, in the process that fits them: no shuffle can separate the rows of a group
from its fit request.
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
from spinney.core.column_names import internal_name
from spinney.core.config import Config
from spinney.core.keys import ancestors, is_parent
from spinney.retraining.row_selection import Integers, Selection, counts_by, integers, newest
from spinney.storage.layout import FleetStore, feature_sources
from spinney.tables.snapshot import Shards, Snapshot, Wanted, snapshot, wanted_of

GROUP = internal_name("group")
"""A group's place among the keys that were asked for."""

_PLACE = internal_name("place")
_TIME = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class TrainingTables:
    """What the rows of a round are read from, and which of them count. Picklable: it travels with a task.

    outcomes: None where labels are inside the events. features: name -> column of `events`. Events from `oldest` to
    `newest` count, and labels seen until `clock`. window_rows: newest rows kept of a group; max_rows: sampled of a
    parent's. group, parents: key columns, and those of each parent level. shards: how many the fleet has.
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
    def of(cls, config: Config, pins: Mapping[str, int], clock: datetime) -> TrainingTables:
        """clock: the fleet's: rows younger than `label_delay` are not mature, older than `recipe.window` not wanted."""
        store = FleetStore.of(config)
        events, outcomes = store.directory(tables.EVENTS), store.directory(tables.OUTCOMES)
        return cls(
            events=snapshot(events, pins.get(events.name)),
            outcomes=None if config.has_label_in_event else snapshot(outcomes, pins.get(outcomes.name)),
            features=feature_sources(config.fleet),
            label=config.fleet.target,
            clock=clock,
            oldest=clock - config.recipe.window,
            newest=clock - config.fleet.label_delay,
            window_rows=config.recipe.window_rows,
            max_rows=config.recipe.parents.max_rows,
            group=tuple(config.fleet.group),
            parents=tuple(map(tuple, config.fleet.parents)),
            shards=config.fleet.shards,
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
        return pa.schema([(name, arrow_type(kind)) for name, kind in self.types.items()])


@dataclass(frozen=True)
class GroupRows:
    """The training rows of some groups, each group's together.

    table: TrainingTables.schema, sorted by (group, event_time). starts: shape (n_groups + 1,): the rows of group g are
    starts[g] to starts[g + 1]. events: shape (n_groups,): events of the window that were read, labelled or not.
    """

    table: pa.Table
    starts: Integers
    events: Integers


def rows_of_groups(source: TrainingTables, group_keys: pa.Array, wanted: Wanted) -> GroupRows:
    """The newest `window_rows` mature, labelled rows of each group: a giant group costs no more than any other.

    group_keys: distinct. wanted: where their rows are.
    """
    groups, schema = len(group_keys), pa.schema([(GROUP, pa.int32()), *source.schema])
    kept = Selection(schema, GROUP, groups, newest(GROUP, groups, source.window_rows))
    if source.outcomes is None:
        read = np.zeros(groups, dtype=np.int64)
        for events in event_batches(source, wanted, _numbers(group_keys)):
            read += counts_by(events, GROUP, groups)
            kept.add(labelled_inside(events).select(schema.names))
    else:
        read = _add_labelled_late(source, group_keys, wanted, kept)
    table = kept.table()
    starts = np.concatenate([[0], np.cumsum(counts_by(table, GROUP, groups))]).astype(np.int64)
    return GroupRows(table.select(source.schema.names), starts, read)


AHEAD = 2
"""So many times the rows that are wanted are looked up in `outcomes`: most events have a label."""


def _add_labelled_late(source: TrainingTables, group_keys: pa.Array, wanted: Wanted, kept: Selection) -> Integers:
    """Add rows that have a label in `outcomes` until each group has its window. Returns the events that were read.

    Which events have a label is known only when both tables were read, and both may be many times the window: so the
    labels of the newest events are looked up, and those of older ones where too few of these had any.
    """
    groups, most = len(group_keys), AHEAD * source.window_rows
    read, found = (np.zeros(groups, dtype=np.int64) for _ in range(2))
    before: _Before | None = None
    while before is None or before.numbers:
        numbered = _numbers(group_keys, None if before is None else before.numbers)
        candidates = Selection(event_schema(source), GROUP, groups, newest(GROUP, groups, most), most)
        for events in event_batches(source, wanted, numbered, None if before is None else before.newest):
            if before is None:
                read += counts_by(events, GROUP, groups)
            candidates.add(events if before is None else before.of(events))
        rows = candidates.table()
        labelled = with_labels(rows, first_labels(source, wanted, numbered, rows))
        kept.add(labelled.select([GROUP, *source.schema.names]))
        found += counts_by(labelled, GROUP, groups)
        short = np.flatnonzero(candidates.dropped & (found < source.window_rows)).tolist()
        before = _Before.oldest_of(rows, short)
        if short:
            wanted = wanted_of(group_keys.take(pa.array(short)).to_pylist(), source.shards)
    return read


@dataclass(frozen=True)
class _Before:
    """Events that are older than those looked at before.

    times, ids: of each group in `numbers`, the time and id of the oldest one looked at.
    """

    numbers: tuple[int, ...]
    times: pa.Array
    ids: pa.Array

    @classmethod
    def oldest_of(cls, rows: pa.Table, numbers: Sequence[int]) -> _Before:
        """rows: GROUP, event_time and event_id among the columns; each of `numbers` has some."""
        names = [GROUP, "event_time", "event_id"]
        mine = rows.select(names).filter(pc.is_in(rows.column(GROUP), pa.array(numbers, pa.int32())))
        in_order = mine.sort_by([(name, "ascending") for name in names])
        first = in_order.take(pa.array(np.searchsorted(integers(in_order.column(GROUP)), numbers), pa.int64()))
        return cls(tuple(numbers), *(first.column(name).combine_chunks() for name in names[1:]))

    @property
    def newest(self) -> datetime:
        newest: datetime = pc.max(self.times).as_py()
        return newest

    def of(self, events: pa.Table) -> pa.Table:
        """Those of these events. events: of groups in `numbers`."""
        place = pc.index_in(events.column(GROUP), value_set=pa.array(self.numbers, pa.int32())).combine_chunks()
        time, at = events.column("event_time"), self.times.take(place)
        same = pc.and_(pc.equal(time, at), pc.less(events.column("event_id"), self.ids.take(place)))
        return events.filter(pc.or_(pc.less(time, at), same))


Numbered = Callable[[pa.Array], pa.Array]
"""Group keys to numbers, int32; null for a group that is not wanted."""


def _numbers(group_keys: pa.Array, only: Sequence[int] | None = None) -> Numbered:
    """Each key's place among these. only: the places that are wanted; None: all."""

    def numbered(keys: pa.Array) -> pa.Array:
        places = pc.index_in(keys, value_set=group_keys)
        return places if only is None else pc.if_else(pc.is_in(places, pa.array(only, pa.int32())), places, None)

    return numbered


def _event_columns(source: TrainingTables) -> dict[str, str]:
    """What is read of an event: GROUP and the columns of `schema`, but for labels that come late."""
    label = {"label": source.label} if source.outcomes is None else {}
    return {GROUP: "group_key", "event_id": "event_id", "event_time": "event_time", **source.features, **label}


def event_schema(source: TrainingTables) -> pa.Schema:
    """Of events as `event_batches` gives them."""
    return _numbered_schema(source.events, _event_columns(source))


def event_batches(
    source: TrainingTables, wanted: Wanted, numbered: Numbered, until: datetime | None = None
) -> Iterator[pa.Table]:
    """Events of the window that are not newer than `until`, batch by batch: `event_schema`."""
    within = _between("event_time", source.oldest, source.newest if until is None else min(until, source.newest))
    return _numbered(source.events, _event_columns(source), wanted, within, numbered)


def _numbered(
    table: Snapshot, columns: Mapping[str, str], wanted: Wanted, where: ds.Expression, numbered: Numbered
) -> Iterator[pa.Table]:
    """Rows of the groups that `numbered` knows, batch by batch, GROUP being their number."""
    schema = _numbered_schema(table, columns)
    for batch in table.batches(columns, wanted, where):
        groups = numbered(batch.column(GROUP))
        rows = batch.set_column(batch.schema.get_field_index(GROUP), GROUP, groups)
        known = (rows.filter(groups.is_valid()) if groups.null_count else rows).cast(schema)
        yield pa.Table.from_batches([known], schema)


def _numbered_schema(table: Snapshot, columns: Mapping[str, str]) -> pa.Schema:
    kinds = {name: arrow_type(table.contract.column(of).type) for name, of in columns.items()}
    return pa.schema(list((kinds | {GROUP: pa.int32()}).items()))


def labelled_inside(events: pa.Table) -> pa.Table:
    """The events that have a label, where it is inside."""
    return events.filter(pc.is_valid(events.column("label")))


def first_labels(source: TrainingTables, wanted: Wanted, numbered: Numbered, events: pa.Table) -> pa.Table:
    """GROUP, event_id and label of these events, where they have one in `outcomes`, each once; maybe of others too.

    An id may come twice when its copies are further apart than duplicates_within: the label known first counts, of two
    at one moment the least. events: GROUP and event_id among the columns.
    """
    assert source.outcomes is not None, "labels come late"
    columns = {GROUP: "group_key", "event_id": "event_id", "observed_at": "observed_at", "label": "label"}
    # No label is seen before its event: older files than the window's need not be opened.
    known = _between("observed_at", source.oldest, source.clock)
    asked = events.select([GROUP, "event_id"])
    owners = 1 + (pc.max(asked[GROUP]).as_py() or 0)
    selected = Selection(_numbered_schema(source.outcomes, columns), GROUP, owners, lambda rows: _firsts(rows, asked))
    for outcomes in _numbered(source.outcomes, columns, wanted, known, numbered):
        selected.add(outcomes.filter(pc.less(outcomes[GROUP], owners)))
    return selected.table().select([GROUP, "event_id", "label"])


def _firsts(outcomes: pa.Table, asked: pa.Table) -> Integers:
    """The places of the first label of each event; some others' where there are few. asked: GROUP and event_id."""
    mine, places = outcomes, np.arange(outcomes.num_rows)
    if outcomes.num_rows > 2 * asked.num_rows:  # else to leave the others out costs more than to keep them
        placed = outcomes.select([GROUP, "event_id"]).append_column(_PLACE, pa.array(places))
        places = integers(placed.join(asked, [GROUP, "event_id"], join_type="left semi").column(_PLACE))
        mine = outcomes.take(pa.array(places))
    order = pc.sort_indices(mine, sort_keys=[("observed_at", "ascending"), ("label", "ascending")])
    in_order = mine.select([GROUP, "event_id"]).take(order).append_column(_PLACE, pa.array(np.arange(len(places))))
    # By place, for Arrow has no "first" of decimals.
    first = in_order.group_by([GROUP, "event_id"]).aggregate([(_PLACE, "min")]).column(f"{_PLACE}_min")
    chosen: Integers = places[np.asarray(order)[integers(first)]]
    return chosen


def with_labels(events: pa.Table, labels: pa.Table) -> pa.Table:
    """The events that have a label, with it. labels: as of `first_labels`."""
    return events.join(labels, [GROUP, "event_id"], join_type="inner").combine_chunks()


def event_counts(source: TrainingTables, wanted: Wanted, where: ds.Expression | None = None) -> pa.Table:
    """Every wanted group that has such an event: shard, group_key, and events: how many lie in the window."""
    columns = {"shard": "shard", "group_key": "group_key", "at": "event_time"}
    parts: list[pa.Table] = [_COUNTS.empty_table()]
    inside = [pa.scalar(each, _TIME) for each in (source.oldest, source.newest)]
    waiting = 0
    for batch in source.events.batches(columns, wanted, where):
        counts = pc.and_(pc.greater_equal(batch["at"], inside[0]), pc.less_equal(batch["at"], inside[1]))
        rows = pa.table({**{name: batch[name] for name in ("shard", "group_key")}, "events": counts.cast(pa.int64())})
        parts.append(_summed(rows))
        waiting += parts[-1].num_rows
        if waiting > MOST_WAITING:
            parts = [_summed(pa.concat_tables(parts))]
            waiting = 0
    return _summed(pa.concat_tables(parts))


MOST_WAITING = 4_000_000
"""Counts of batches that are held before they are added up."""

_COUNTS = pa.schema([("shard", pa.int32()), ("group_key", pa.string()), ("events", pa.int64())])


def _summed(rows: pa.Table) -> pa.Table:
    summed = rows.group_by(["shard", "group_key"]).aggregate([("events", "sum")])
    return summed.select(["shard", "group_key", "events_sum"]).rename_columns(_COUNTS.names).cast(_COUNTS)


def counts_of(source: TrainingTables, keys: Sequence[str]) -> dict[str, int]:
    """How many events of the window each of these groups and parents has; none is 0."""
    parents = {key for key in keys if is_parent(key)}
    # The groups of a parent are in all shards.
    wanted = Shards(0, source.shards - 1) if parents else wanted_of(keys, source.shards)
    counts = event_counts(source, wanted, _between("event_time", source.oldest, source.newest))
    found = dict(zip(counts.column("group_key").to_pylist(), counts.column("events").to_pylist(), strict=True))
    of_parents = parent_counts(source, counts) if parents else {}
    return {key: (of_parents if key in parents else found).get(key, 0) for key in keys}


def parent_counts(source: TrainingTables, counts: pa.Table) -> dict[str, int]:
    """Every parent of these groups -> how many events of the window its groups have. counts: as of `event_counts`."""
    found: dict[str, int] = {}
    for key, events in zip(counts.column("group_key").to_pylist(), counts.column("events").to_pylist(), strict=True):
        for parent in ancestors(source.group, source.parents, key):
            found[parent] = found.get(parent, 0) + events
    return found


def _between(column: str, first: datetime, last: datetime) -> ds.Expression:
    return (ds.field(column) >= pa.scalar(first, _TIME)) & (ds.field(column) <= pa.scalar(last, _TIME))


def ranges_of(shards: int, count: int) -> Iterator[Shards]:
    """All shards, cut into `count` ranges of about the same length."""
    edges = [shards * at // count for at in range(count + 1)]
    return (Shards(first, stop - 1) for first, stop in pairwise(edges) if stop > first)
