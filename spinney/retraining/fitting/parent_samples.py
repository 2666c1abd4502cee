"""The rows that a parent is fitted on: a sample of its groups' training rows, the same in every process.

A sample is the `max_rows` events with the lowest hashes of group_key and event_id. Ids are unique within a group only:
by ids alone, a sample of groups with the same ids, such as dates, would have all rows of a few ids. Copies of an event
are all in the sample, and `spinney.core.training.training_set` chooses among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import xxhash

from spinney.core.internal_column_names import internal_name
from spinney.core.keys import SPARK_SEED, ancestors
from spinney.core.training.parent_row_lineage import ORIGIN
from spinney.retraining.fitting.first_rows_per_group import Integers, Selection, lowest, to_int64
from spinney.retraining.fitting.training_row_reader import (
    GROUP,
    LOOKUP_FACTOR,
    TrainingTables,
    event_batches,
    event_schema,
    first_labels,
    with_inline_label,
    with_labels,
)
from spinney.tables.snapshot import GroupFilter

PARENT = internal_name("parent")
"""Column of a row in a parent's sample: the parent's position among the requested keys. ORIGIN is the row's group."""

_HASH = internal_name("hash")


def read_parent_rows(
    source: TrainingTables, parent_keys: Sequence[str], wanted: GroupFilter
) -> tuple[pa.Table, Integers]:
    """Read the candidates for each parent's sample from some shards, and count the parents' events in the window.

    `cut_samples` reduces the candidates of several shard ranges. Memory grows with the samples, not with the events.
    Returns a table with PARENT, ORIGIN and the columns of `source.schema`, and counts of shape (n_parents,).
    """
    reading = _Reading(source, parent_keys, wanted)
    selection = reading.selection(source.max_rows, label_is_inside=True)
    if source.outcomes is None:
        for rows in reading.rows():
            selection.add(with_inline_label(rows).select(selection.schema.names))
    else:
        _add_labelled_late(reading, selection)
    found = selection.table()
    names = pa.array(list(reading.numbers), pa.string()).take(found.column(GROUP))
    return found.append_column(ORIGIN, names).select([PARENT, ORIGIN, *source.schema.names]), reading.events


def _add_labelled_late(reading: _Reading, selection: Selection) -> None:
    """Add rows with a label in `outcomes` until each parent has its sample."""
    source = reading.source
    labelled_events = np.zeros(len(reading.parent_keys), dtype=np.int64)
    above: Integers | None = None
    while above is None or (above < _MAX_HASH).any():
        candidates = reading.selection(LOOKUP_FACTOR * source.max_rows, label_is_inside=False)
        for rows in reading.rows(above):
            candidates.add(rows)
        some = candidates.table()
        labelled = with_labels(some, first_labels(source, reading.wanted, reading.numbered, some))
        selection.add(labelled.select(selection.schema.names))
        distinct = labelled.group_by([PARENT, _HASH]).aggregate([])
        np.add.at(labelled_events, to_int64(distinct.column(PARENT)), 1)
        above = np.full(len(labelled_events), _MAX_HASH)
        hashes = np.full(len(labelled_events), np.iinfo(np.int64).min)
        np.maximum.at(hashes, to_int64(some.column(PARENT)), to_int64(some.column(_HASH)))
        incomplete = candidates.dropped & (labelled_events < source.max_rows)
        above[incomplete] = hashes[incomplete]


_MAX_HASH = np.iinfo(np.int64).max


class _Reading:
    """Reads the events of the parents' groups; each event once for every parent of its group.

    events: number of events of each parent, complete after `rows`. numbers: group_key -> number, in order of
    occurrence.
    """

    def __init__(self, source: TrainingTables, parent_keys: Sequence[str], wanted: GroupFilter) -> None:
        self.source, self.parent_keys, self.wanted = source, parent_keys, wanted
        self.events = np.zeros(len(parent_keys), dtype=np.int64)
        self.numbers: dict[str, int] = {}
        self._place = {key: at for at, key in enumerate(parent_keys)}
        self._parents: list[list[int]] = []
        self._seeds: list[int] = []

    def selection(self, most: int, *, label_is_inside: bool) -> Selection:
        """Return an empty Selection, which keeps the `most` rows with the lowest hashes of each parent."""
        label = [self.source.schema.field("label")] if label_is_inside else []
        names = [field for field in event_schema(self.source) if field.name != "label"]
        schema = pa.schema([*names, *label, (_HASH, pa.int64()), (PARENT, pa.int64())])
        return Selection(schema, PARENT, len(self.parent_keys), lowest(PARENT, _HASH, most), most)

    def numbered(self, keys: pa.Array) -> pa.Array:
        words = keys.dictionary_encode()
        codes = [self._number(key) for key in words.dictionary.to_pylist()]
        return pa.array(codes, pa.int32()).take(words.indices)

    def _number(self, key: str) -> int:
        known = self.numbers.get(key)
        if known is None:
            known = self.numbers[key] = len(self.numbers)
            of = ancestors(self.source.group, self.source.parents, key)
            self._parents.append([self._place.get(parent, -1) for parent in of])
            self._seeds.append(_seed_of(key))
        return known

    def rows(self, above: Integers | None = None) -> Iterator[pa.Table]:
        """Read rows batch by batch, with _HASH and PARENT.

        above: if given, a hash for each parent; only rows with a greater hash are read, and `events` is not counted
        again.
        """
        for events in event_batches(self.source, self.wanted, self.numbered):
            parents = np.array(self._parents, dtype=np.int64).reshape(-1, len(self.source.parents))
            group_of_row = to_int64(events.column(GROUP))
            hashes = _hashes(events.column("event_id"), group_of_row, self._seeds)
            hashed = events.append_column(_HASH, pa.array(hashes, pa.int64()))
            for level in range(len(self.source.parents)):
                parent_of_row = parents[group_of_row, level]
                if above is None:
                    np.add.at(self.events, parent_of_row[parent_of_row >= 0], 1)
                is_wanted = (
                    parent_of_row >= 0 if above is None else (parent_of_row >= 0) & (hashes > above[parent_of_row])
                )
                rows = hashed.append_column(PARENT, pa.array(parent_of_row, pa.int64()))
                yield rows.filter(pa.array(is_wanted))


def cut_samples(rows: pa.Table, most: int) -> pa.Table:
    """Cut each parent's sample, of `most` events, from the candidates of all shard ranges.

    rows: PARENT, ORIGIN and training columns.
    """
    origins = rows.column(ORIGIN).combine_chunks().dictionary_encode()
    seeds = [_seed_of(key) for key in origins.dictionary.to_pylist()]
    hashes = _hashes(rows.column("event_id"), np.asarray(origins.indices), seeds)
    hashed = rows.append_column(_HASH, pa.array(hashes, pa.int64()))
    return rows.take(pa.array(lowest(PARENT, _HASH, most)(hashed)))


def _seed_of(group_key: str) -> int:
    return xxhash.xxh64_intdigest(group_key.encode(), SPARK_SEED)


def _hashes(event_ids: pa.ChunkedArray, group_of_row: np.ndarray, seeds: Sequence[int]) -> Integers:
    """Return the xxhash64 of each id, seeded by that of its group's key. seeds: for each group."""
    digest, ids = xxhash.xxh64_intdigest, event_ids.cast(pa.binary()).to_pylist()
    of_rows = zip(ids, group_of_row.tolist(), strict=True)
    hashes = np.fromiter((digest(event_id, seeds[group]) for event_id, group in of_rows), np.uint64, len(ids))
    return hashes.view(np.int64)
