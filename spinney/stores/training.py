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
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import xxhash

from schemas import tables
from spinney.core.arrow_types import arrow_type
from spinney.core.config import Config
from spinney.core.keys import SPARK_SEED, ancestors, is_parent
from spinney.core.names import own
from spinney.stores.layout import directory, feature_sources
from spinney.stores.snapshot import Shards, Snapshot, Wanted, snapshot
from spinney.stores.table_files import GroupIndex

Integers = npt.NDArray[np.int64]

GROUP = own("group")
"""A group's place among the keys that were asked for."""

_PLACE, _HASH = own("place"), own("hash")
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
        events, outcomes = directory(config, tables.EVENTS), directory(config, tables.OUTCOMES)
        return cls(
            events=snapshot(config, events, pins.get(events.name)),
            outcomes=None if config.label_inside else snapshot(config, outcomes, pins.get(outcomes.name)),
            features=feature_sources(config),
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

    def numbered(keys: pa.Array) -> pa.Array:
        return pc.index_in(keys, value_set=group_keys)

    events = _events(source, wanted, numbered)
    read = np.bincount(_ints(events.column(GROUP)), minlength=len(group_keys)).astype(np.int64)
    labelled = _labelled(source, events, wanted, numbered)
    order, starts = _newest(labelled, len(group_keys), source.window_rows)
    return GroupRows(labelled.select(source.schema.names).take(pa.array(order)), starts, read)


def _events(source: TrainingTables, wanted: Wanted, numbered: Callable[[pa.Array], pa.Array]) -> pa.Table:
    """Events of the window: GROUP and the columns of `schema`, with the label where it is inside."""
    label = {"label": source.label} if source.outcomes is None else {}
    columns = {GROUP: "group_key", "event_id": "event_id", "event_time": "event_time", **source.features, **label}
    return _numbered(source.events, columns, wanted, _between("event_time", source.oldest, source.newest), numbered)


def _numbered(
    table: Snapshot,
    columns: Mapping[str, str],
    wanted: Wanted,
    where: ds.Expression,
    numbered: Callable[[pa.Array], pa.Array],
) -> pa.Table:
    """Rows of the groups that `numbered` knows, GROUP being their number: int32."""
    types = {name: arrow_type(table.contract.column(of).type) for name, of in columns.items()}
    schema = pa.schema([*((GROUP, pa.int32()) if name == GROUP else (name, types[name]) for name in columns)])
    kept = []
    for batch in table.batches(columns, wanted, where):
        groups = numbered(batch.column(GROUP))
        rows = batch.set_column(batch.schema.get_field_index(GROUP), GROUP, groups)
        kept.append((rows.filter(groups.is_valid()) if groups.null_count else rows).cast(schema))
    return pa.Table.from_batches(kept, schema)


def _labelled(
    source: TrainingTables, events: pa.Table, wanted: Wanted, numbered: Callable[[pa.Array], pa.Array]
) -> pa.Table:
    """The events that have a label."""
    if source.outcomes is None:
        return events.filter(pc.is_valid(events.column("label")))
    columns = {GROUP: "group_key", "event_id": "event_id", "observed_at": "observed_at", "label": "label"}
    # No label is seen before its event: older files than the window's need not be opened.
    known = _between("observed_at", source.oldest, source.clock)
    outcomes = _numbered(source.outcomes, columns, wanted, known, numbered)
    # An id may come twice when its copies are further apart than duplicates_within: the label known first counts, of
    # two at one moment the least.
    in_order = outcomes.sort_by([("observed_at", "ascending"), ("label", "ascending")])
    # By place, for Arrow has no "first" of decimals.
    placed = in_order.select([GROUP, "event_id"]).append_column(_PLACE, pa.array(np.arange(in_order.num_rows)))
    first = placed.group_by([GROUP, "event_id"]).aggregate([(_PLACE, "min")]).column(f"{_PLACE}_min")
    once = in_order.select([GROUP, "event_id", "label"]).take(first)
    return events.join(once, [GROUP, "event_id"], join_type="inner").combine_chunks()


def _newest(rows: pa.Table, groups: int, window_rows: int) -> tuple[Integers, Integers]:
    """The places of the newest rows of each group in the order (group, event_time), and where each group's begin.

    Of rows of one time that do not all fit, those with the greatest event_ids stay.
    """
    of, times = _ints(rows.column(GROUP)), _ints(rows.column("event_time").cast(pa.int64()))
    order = np.lexsort((times, of))
    of, times = of[order], times[order]
    starts = np.searchsorted(of, np.arange(groups + 1))
    begins = np.maximum(starts[:-1], starts[1:] - window_rows)
    for g in np.flatnonzero(begins > starts[:-1]).tolist():
        cut = int(begins[g])
        if times[cut - 1] == times[cut]:
            low = int(starts[g] + np.searchsorted(times[starts[g] : starts[g + 1]], times[cut], side="left"))
            high = int(starts[g] + np.searchsorted(times[starts[g] : starts[g + 1]], times[cut], side="right"))
            ids = rows.column("event_id").take(pa.array(order[low:high])).to_pylist()
            order[low:high] = order[low:high][np.argsort(np.array(ids, dtype=object), kind="stable")]
    keep = np.arange(len(order)) >= np.repeat(begins, np.diff(starts))
    sizes = starts[1:] - begins
    return order[keep], np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


PARENT, ORIGIN = own("parent"), own("origin")
"""Of a row in a parent's sample: the parent's place among the keys asked for, and the group it is of."""


def parent_rows(source: TrainingTables, parent_keys: Sequence[str], wanted: Wanted) -> tuple[pa.Table, Integers]:
    """What these shards have for a sample of each parent's rows, and how many events of the window each parent has.

    A sample is the `max_rows` rows whose event_id hashes lowest, so that every path draws the same; `sampled` cuts
    what several shard ranges have. Returns PARENT, ORIGIN and the columns of `schema`; shape (n_parents,).
    """
    place = {key: at for at, key in enumerate(parent_keys)}
    numbers: dict[str, int] = {}

    def numbered(keys: pa.Array) -> pa.Array:
        words = keys.dictionary_encode()
        codes = [numbers.setdefault(key, len(numbers)) for key in words.dictionary.to_pylist()]
        return pa.array(codes, pa.int32()).take(words.indices)

    events = _events(source, wanted, numbered)
    labelled = _labelled(source, events, wanted, numbered)
    groups = list(numbers)
    of_group = np.full((len(groups), len(source.parents)), -1, dtype=np.int64)
    for g, key in enumerate(groups):
        of_group[g] = [place.get(parent, -1) for parent in ancestors(source.group, source.parents, key)]
    read = np.zeros(len(parent_keys), dtype=np.int64)
    in_group = np.bincount(_ints(events.column(GROUP)), minlength=len(groups))
    hashes = _hashes(labelled.column("event_id"))
    of = _ints(labelled.column(GROUP))
    parts = []
    for level in range(len(source.parents)):
        mine = of_group[:, level]
        np.add.at(read, mine[mine >= 0], in_group[mine >= 0])
        parts.append(_lowest(labelled, mine[of], hashes, source.max_rows))
    found = pa.concat_tables(parts) if parts else labelled.slice(0, 0).append_column(PARENT, pa.array([], pa.int64()))
    names = pa.array(groups, pa.string()).take(found.column(GROUP))
    return found.append_column(ORIGIN, names).select([PARENT, ORIGIN, *source.schema.names]), read


def _lowest(rows: pa.Table, parents: Integers, hashes: Integers, most: int) -> pa.Table:
    """Of each parent the rows with the lowest hashes: `most`, and those that have the last one's hash too."""
    chosen = np.flatnonzero(parents >= 0)
    order = chosen[np.lexsort((hashes[chosen], parents[chosen]))]
    of, hashed = parents[order], hashes[order]
    starts = np.searchsorted(of, of, side="left")
    last = np.minimum(starts + most, np.searchsorted(of, of, side="right")) - 1
    kept = order[hashed <= hashed[last]] if len(order) else order
    return rows.take(pa.array(kept)).append_column(PARENT, pa.array(parents[kept], pa.int64()))


def sampled(rows: pa.Table, most: int) -> pa.Table:
    """The sample of each parent, out of what all shard ranges have. rows: PARENT, ORIGIN and training columns."""
    hashed = rows.append_column(_HASH, pa.array(_hashes(rows.column("event_id")), pa.int64()))
    by = [(PARENT, "ascending"), (_HASH, "ascending"), ("event_id", "ascending"), (ORIGIN, "ascending")]
    order = pc.sort_indices(hashed, sort_keys=[*by, ("event_time", "ascending")]).to_numpy()
    of = _ints(rows.column(PARENT))[order]
    place = np.arange(len(order)) - np.searchsorted(of, of, side="left")
    return rows.take(pa.array(order[place < most]))


def _hashes(event_ids: pa.ChunkedArray) -> Integers:
    """Spark's xxhash64 of each id."""
    digest, seed = xxhash.xxh64_intdigest, SPARK_SEED
    ids = event_ids.cast(pa.binary()).to_pylist()
    found = np.fromiter((digest(each, seed) for each in ids), np.uint64, len(ids))
    return found.view(np.int64)


def event_counts(source: TrainingTables, wanted: Wanted) -> pa.Table:
    """Every wanted group that has an event: shard, group_key, and events: how many lie in the window."""
    columns = {"shard": "shard", "group_key": "group_key", "at": "event_time"}
    parts: list[pa.Table] = [_COUNTS.empty_table()]
    inside = [pa.scalar(each, _TIME) for each in (source.oldest, source.newest)]
    waiting = 0
    for batch in source.events.batches(columns, wanted):
        counts = pc.and_(pc.greater_equal(batch["at"], inside[0]), pc.less_equal(batch["at"], inside[1]))
        rows = pa.table({**{name: batch[name] for name in ("shard", "group_key")}, "events": counts.cast(pa.int64())})
        parts.append(_summed(rows))
        waiting += parts[-1].num_rows
        if waiting > MOST_WAITING:
            parts = [_summed(pa.concat_tables(parts))]
            waiting = 0
    return _summed(pa.concat_tables(parts))


MANY = 2_000
"""Groups from which on the events of all shards are counted: looking each one up would cost more."""

MOST_WAITING = 4_000_000
"""Counts of batches that are held before they are added up."""

_COUNTS = pa.schema([("shard", pa.int32()), ("group_key", pa.string()), ("events", pa.int64())])


def _summed(rows: pa.Table) -> pa.Table:
    summed = rows.group_by(["shard", "group_key"]).aggregate([("events", "sum")])
    return summed.select(["shard", "group_key", "events_sum"]).rename_columns(_COUNTS.names).cast(_COUNTS)


def counts_of(source: TrainingTables, keys: Sequence[str]) -> dict[str, int]:
    """How many events of the window each of these groups and parents has; none is 0."""
    parents = {key for key in keys if is_parent(key)}
    everywhere = parents or len(keys) >= MANY
    counts = event_counts(source, Shards(0, source.shards - 1) if everywhere else GroupIndex(keys, source.shards))
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


def _ints(column: pa.ChunkedArray) -> Integers:
    return np.asarray(column.to_numpy(), dtype=np.int64)


def ranges_of(shards: int, count: int) -> Iterator[Shards]:
    """All shards, cut into `count` ranges of about the same length."""
    edges = [shards * at // count for at in range(count + 1)]
    return (Shards(first, stop - 1) for first, stop in pairwise(edges) if stop > first)
