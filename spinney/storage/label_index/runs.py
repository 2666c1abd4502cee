"""Runs: files of rows in ascending order of the hashes of their ids, which are looked up by memory map.

A run is an Arrow IPC file. Each of its record batches has the rows of a range of hashes. So runs are merged range by
range, and memory holds one range of each run. Hashes are evenly distributed, so ranges of equal width have about the
same number of rows.

Texts are dictionary-encoded, with one dictionary per file, since the texts of groups, models and classes repeat.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spinney.core.records.recent_ids import IdHashes
from spinney.storage.label_index.arrived_rows import Arrived, Found, Sought, Times

KEY, CHECK, ARRIVED = "id_key", "id_check", "arrived_us"
_OWN = [pa.field(KEY, pa.uint64()), pa.field(CHECK, pa.uint32()), pa.field(ARRIVED, pa.int64())]

RANGE_ROWS, RANGE_BYTES = 2**19, 2**27
"""Largest size of a range, on average. A merge holds twice as much in memory."""


@dataclass(frozen=True)
class _Range:
    """A record batch of a run, and views of its columns with the ids and times."""

    ids: IdHashes
    at_us: Times
    batch: pa.RecordBatch

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> _Range:
        key, check, at_us = (batch[name].to_numpy() for name in (KEY, CHECK, ARRIVED))
        return cls(IdHashes(key, check), at_us, batch)


@dataclass(frozen=True)
class Run:
    """An opened run. first_keys: the first hash of each of its ranges."""

    file: Path
    ranges: tuple[_Range, ...]
    first_keys: np.ndarray[tuple[int, ...], np.dtype[np.uint64]]

    @classmethod
    def open(cls, file: Path) -> Run:
        """Map a run's file into memory. Raises OSError, pyarrow.ArrowInvalid: there is none, or it is damaged."""
        reader = pa.ipc.open_file(pa.memory_map(str(file)))
        ranges = tuple(_Range.of(reader.get_batch(at)) for at in range(reader.num_record_batches))
        return cls(file, ranges, np.array([part.ids.keys[0] for part in ranges], np.uint64))

    def __len__(self) -> int:
        return sum(len(part.ids) for part in self.ranges)

    @property
    def bytes(self) -> int:
        """The size of the file."""
        return self.file.stat().st_size

    @property
    def schema(self) -> pa.Schema:
        """The columns of its rows, without ids and times."""
        return _plain(pa.schema(list(self.ranges[0].batch.schema)[len(_OWN) :]))

    def find(self, sought: Sought, columns: Sequence[str]) -> Iterator[Found]:
        """Yield the sought rows.

        sought: in ascending order of the keys. columns: the columns of `arrived.rows` in the result.
        """
        ends = np.searchsorted(sought.ids.keys, self.first_keys[1:]).tolist()
        for part, (begin, end) in zip(self.ranges, itertools.pairwise([0, *ends, len(sought.ids)]), strict=True):
            wanted, at = sought.ids.take(np.arange(begin, end)).equal_in(part.ids)
            is_near = np.abs(sought.at_us[begin + wanted] - part.at_us[at]) <= sought.within_us
            wanted, at = wanted[is_near], at[is_near]
            if len(wanted):
                rows = pa.Table.from_batches([part.batch.select(list(columns)).take(pa.array(at))])
                rows = rows.cast(_plain(rows.schema))  # so that rows of several runs can be joined
                yield Found(wanted + begin, Arrived(part.ids.take(at), part.at_us[at], rows))


def write_run(file: Path, arrived: Arrived, schema: pa.Schema) -> Run:
    """Write rows as a run, durably, and open it. arrived: at least one row. schema: of its rows."""
    order = np.argsort(arrived.ids.keys, kind="stable")
    in_order, encoded = arrived.take(order), _encoded(schema)
    keys, columns = in_order.ids.keys, in_order.rows.select(schema.names).cast(schema).combine_chunks()
    stored = [_encode(columns[field.name], field.type) for field in encoded]
    own = map(pa.array, (keys, in_order.ids.checks, in_order.at_us))
    batch = pa.RecordBatch.from_arrays([*own, *stored], schema=pa.schema([*_OWN, *encoded]))
    cuts = [0, *np.searchsorted(keys, _bounds(len(keys), _bytes_of_rows(batch))).tolist(), len(keys)]
    return _write(file, batch.schema, (batch.slice(at, end - at) for at, end in itertools.pairwise(cuts)))


def merge_runs(file: Path, runs: Sequence[Run]) -> Run:
    """Write the rows of runs as one, durably, and open it. runs: with the same columns."""
    schema = runs[0].ranges[0].batch.schema
    texts = [at for at, field in enumerate(schema) if pa.types.is_dictionary(field.type)]
    dictionaries = {at: _UnitedDictionary.of(at, runs) for at in texts}
    parts = [(number, part) for number, run in enumerate(runs) for part in run.ranges]
    rows, size = sum(map(len, runs)), sum(_bytes_of_rows(part.batch) for _, part in parts)
    bounds = _bounds(rows, size)

    def merged() -> Iterator[pa.RecordBatch]:
        begins = [0] * len(parts)
        for bound in [*bounds, None]:
            ends = [len(part.ids) if bound is None else _place_of(bound, part.ids) for _, part in parts]
            pieces = [
                (number, part.batch.slice(at, end - at))
                for (number, part), at, end in zip(parts, begins, ends, strict=True)
                if end > at
            ]
            begins = ends
            if pieces:
                yield _merged_piece(pieces, schema, dictionaries)

    return _write(file, schema, merged())


def _place_of(bound: np.uint64, ids: IdHashes) -> int:
    return int(np.searchsorted(ids.keys, bound))


@dataclass(frozen=True)
class _UnitedDictionary:
    """The union of the dictionaries of a column in several runs.

    places: for each run, the new positions of its texts.
    """

    texts: pa.Array
    places: tuple[pa.Array, ...]

    @classmethod
    def of(cls, column: int, runs: Sequence[Run]) -> _UnitedDictionary:
        found = [run.ranges[0].batch.column(column).dictionary for run in runs]
        texts = pc.unique(pa.concat_arrays(found))
        return cls(texts, tuple(pc.index_in(each, value_set=texts).cast(pa.int32()) for each in found))


def _merged_piece(
    pieces: Sequence[tuple[int, pa.RecordBatch]], schema: pa.Schema, dictionaries: dict[int, _UnitedDictionary]
) -> pa.RecordBatch:
    """Return the rows of all pieces in order. pieces: number of the run, rows. dictionaries: by column."""
    keys = np.concatenate([piece[KEY].to_numpy() for _, piece in pieces])
    order = pa.array(np.argsort(keys, kind="stable"))  # which merges sorted pieces in linear time
    columns = []
    for at in range(len(schema)):
        united = dictionaries.get(at)
        if united is None:
            columns.append(pa.concat_arrays([piece.column(at) for _, piece in pieces]).take(order))
            continue
        codes = pa.concat_arrays([united.places[number].take(piece.column(at).indices) for number, piece in pieces])
        columns.append(pa.DictionaryArray.from_arrays(codes.take(order), united.texts))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _bytes_of_rows(batch: pa.RecordBatch) -> int:
    """Return the size of rows in memory, without the dictionaries, which all ranges of a run share."""
    columns = (each.indices if pa.types.is_dictionary(each.type) else each for each in batch.columns)
    return sum(int(each.nbytes) for each in columns)


def _bounds(rows: int, size: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    """Return the hashes that bound the ranges of a run. rows: their number. size: their size in memory, bytes."""
    count = max(-(-rows // RANGE_ROWS), -(-size // RANGE_BYTES), 1)
    return np.array([(at << 64) // count for at in range(1, count)], np.uint64)


def _write(file: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Run:
    file.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in batches:
            if batch.num_rows:
                writer.write_batch(batch)
    _sync(file)
    return Run.open(file)


def _sync(file: Path) -> None:
    """Wait until the file is on the disk, since the manifest must not name a file that a power failure loses."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _encoded(schema: pa.Schema) -> pa.Schema:
    """Return the columns as they are stored in a run: texts are dictionary-encoded."""
    text = pa.dictionary(pa.int32(), pa.string())
    return pa.schema([field.with_type(text) if pa.types.is_string(field.type) else field for field in schema])


def _plain(schema: pa.Schema) -> pa.Schema:
    """Return the columns of a run as they were before encoding."""
    return pa.schema(
        [field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field for field in schema]
    )


def _encode(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    values = column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
    return values.dictionary_encode() if pa.types.is_dictionary(kind) else values
