"""The rows that a parent is fitted on: a sample of its groups' training rows, drawn alike by every path.

A sample is the `max_rows` rows whose event_id hashes lowest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from spinney.core.column_names import internal_name
from spinney.core.keys import SPARK_SEED, ancestors
from spinney.retraining.row_selection import Integers, Selection, integers, lowest
from spinney.retraining.training_tables import (
    AHEAD,
    GROUP,
    TrainingTables,
    event_batches,
    event_schema,
    first_labels,
    labelled_inside,
    with_labels,
)
from spinney.tables.snapshot import Wanted

PARENT, ORIGIN = internal_name("parent"), internal_name("origin")
"""Of a row in a parent's sample: the parent's place among the keys asked for, and the group it is of."""

_HASH = internal_name("hash")


def parent_rows(source: TrainingTables, parent_keys: Sequence[str], wanted: Wanted) -> tuple[pa.Table, Integers]:
    """What these shards have for a sample of each parent's rows, and how many events of the window each parent has.

    `sampled` cuts what several shard ranges have. Memory follows the samples, not the parents' events. Returns PARENT,
    ORIGIN and the columns of `schema`; shape (n_parents,).
    """
    reading = _Reading(source, parent_keys, wanted)
    kept = reading.selection(source.max_rows, label_is_inside=True)
    if source.outcomes is None:
        for rows in reading.rows():
            kept.add(labelled_inside(rows).select(kept.schema.names))
    else:
        _add_labelled_late(reading, kept)
    found = kept.table()
    names = pa.array(list(reading.numbers), pa.string()).take(found.column(GROUP))
    return found.append_column(ORIGIN, names).select([PARENT, ORIGIN, *source.schema.names]), reading.events


def _add_labelled_late(reading: _Reading, kept: Selection) -> None:
    """Add rows that have a label in `outcomes` until each parent has its sample: as `training` does for groups."""
    source = reading.source
    found = np.zeros(len(reading.parent_keys), dtype=np.int64)
    above: Integers | None = None
    while above is None or (above < _GREATEST).any():
        candidates = reading.selection(AHEAD * source.max_rows, label_is_inside=False)
        for rows in reading.rows(above):
            candidates.add(rows)
        some = candidates.table()
        labelled = with_labels(some, first_labels(source, reading.wanted, reading.numbered, some))
        kept.add(labelled.select(kept.schema.names))
        np.add.at(found, integers(labelled.column(PARENT)), 1)
        above = np.full(len(found), _GREATEST)
        hashes = np.full(len(found), np.iinfo(np.int64).min)
        np.maximum.at(hashes, integers(some.column(PARENT)), integers(some.column(_HASH)))
        short = candidates.dropped & (found < source.max_rows)
        above[short] = hashes[short]


_GREATEST = np.iinfo(np.int64).max


class _Reading:
    """Events of the parents' groups, each once for every parent it is of.

    events: how many there are of each parent, once `rows` has given all. numbers: the groups met, numbered.
    """

    def __init__(self, source: TrainingTables, parent_keys: Sequence[str], wanted: Wanted) -> None:
        self.source, self.parent_keys, self.wanted = source, parent_keys, wanted
        self.events = np.zeros(len(parent_keys), dtype=np.int64)
        self.numbers: dict[str, int] = {}
        self._place = {key: at for at, key in enumerate(parent_keys)}
        self._parents: list[list[int]] = []

    def selection(self, most: int, *, label_is_inside: bool) -> Selection:
        """What keeps the rows of each parent that hash lowest."""
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
        return known

    def rows(self, above: Integers | None = None) -> Iterator[pa.Table]:
        """Batch by batch, with _HASH and PARENT. above: of each parent, only rows that hash higher; counts nothing."""
        for events in event_batches(self.source, self.wanted, self.numbered):
            parents = np.array(self._parents, dtype=np.int64).reshape(-1, len(self.source.parents))
            hashed = events.append_column(_HASH, pa.array(_hashes(events.column("event_id")), pa.int64()))
            hashes, of = integers(hashed.column(_HASH)), integers(events.column(GROUP))
            for level in range(len(self.source.parents)):
                mine = parents[of, level]
                if above is None:
                    np.add.at(self.events, mine[mine >= 0], 1)
                wanted = mine >= 0 if above is None else (mine >= 0) & (hashes > above[mine])
                rows = hashed.append_column(PARENT, pa.array(mine, pa.int64()))
                yield rows.filter(pa.array(wanted))


def sampled(rows: pa.Table, most: int) -> pa.Table:
    """The sample of each parent, out of what all shard ranges have. rows: PARENT, ORIGIN and training columns."""
    hashed = rows.append_column(_HASH, pa.array(_hashes(rows.column("event_id")), pa.int64()))
    by = [(PARENT, "ascending"), (_HASH, "ascending"), ("event_id", "ascending"), (ORIGIN, "ascending")]
    order = pc.sort_indices(hashed, sort_keys=[*by, ("event_time", "ascending")]).to_numpy()
    of = integers(rows.column(PARENT))[order]
    place = np.arange(len(order)) - np.searchsorted(of, of, side="left")
    return rows.take(pa.array(order[place < most]))


def _hashes(event_ids: pa.ChunkedArray) -> Integers:
    """Spark's xxhash64 of each id."""
    digest, seed = xxhash.xxh64_intdigest, SPARK_SEED
    ids = event_ids.cast(pa.binary()).to_pylist()
    found = np.fromiter((digest(each, seed) for each in ids), np.uint64, len(ids))
    return found.view(np.int64)
