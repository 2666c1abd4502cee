"""Sort rows in bounded memory: sort chunks, spill them to disk, then merge all sorted sequences.

The merge works on batches. It holds the next batch of every sequence, and takes the least of their last rows as a
bound. All rows up to this bound have been read, so they are sorted and yielded. Memory stays bounded even if one group
has most rows.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from spinney.core.errors import StoreError

CHUNK_BYTES = 64 * 1024**2
"""Size of a chunk that is sorted at once. Sorting takes about twice as much memory, which a running stream has beside
all else. With 160 chunks (10 GiB of rows) the batches of the merge take as much."""

SPILL_BATCH_BYTES = 2 * 1024**2
"""Size of a spilled batch. The merge holds one batch of each sequence."""

Key = tuple[tuple[bool, Any], ...]


def merge_sorted(
    ordered: Sequence[Iterable[pa.Table]], loose: Iterable[pa.Table], by: Sequence[str], place: Path
) -> Iterator[pa.Table]:
    """Yield all rows ordered by these columns, nulls last.

    ordered: sequences whose rows are in this order. loose: rows in any order. place: a folder for spilled chunks, made
    and removed here. Raises StoreError when a sequence in `ordered` is not in order.
    """
    place.mkdir(parents=True)
    try:
        spilled = list(_spilled(loose, by, place))
        yield from _merged([*map(iter, ordered), *spilled], tuple(by))
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _spilled(rows: Iterable[pa.Table], by: Sequence[str], place: Path) -> Iterator[Iterator[pa.Table]]:
    """Yield sequences of these rows, each sorted by the columns `by`. All but the last are on disk."""
    parts: list[pa.Table] = []
    size = number = 0
    for part in rows:
        if parts and size + part.nbytes > CHUNK_BYTES:
            chunk = pa.concat_tables(parts)
            parts = []
            yield _spill(chunk, by, place / f"{number}.arrow")
            size, number = 0, number + 1
        parts.append(part)
        size += part.nbytes
    if parts:
        yield _in_order(pa.concat_tables(parts), by)


def _in_order(rows: pa.Table, by: Sequence[str]) -> Iterator[pa.Table]:
    """Yield the rows ordered by these columns, SPILL_BATCH_BYTES at a time: a second whole copy is never held."""
    order = pc.sort_indices(rows, sort_keys=[(name, "ascending", "at_end") for name in by])
    batch_rows = max(1, int(SPILL_BATCH_BYTES * len(rows) / max(rows.nbytes, 1)))
    rows = rows.combine_chunks()  # `take` would put the chunks together for each batch
    for at in range(0, len(rows), batch_rows):
        yield rows.take(order[at : at + batch_rows])


def _spill(chunk: pa.Table, by: Sequence[str], file: Path) -> Iterator[pa.Table]:
    options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, chunk.schema, options=options) as writer:
        for batch in _in_order(chunk, by):
            writer.write_table(batch)
    return _read_back(file)


def _read_back(file: Path) -> Iterator[pa.Table]:
    with pa.OSFile(str(file)) as source, pa.ipc.open_file(source) as reader:
        for at in range(reader.num_record_batches):
            yield pa.Table.from_batches([reader.get_batch(at)])


class _Cursor:
    """A sorted sequence and the position of the merge in it. last: the key of the current batch's last row."""

    def __init__(self, batches: Iterator[pa.Table], by: tuple[str, ...]) -> None:
        self._batches, self._by = batches, by
        self.last: Key | None = None
        self._advance()

    def _advance(self) -> None:
        """Go to the next batch with rows; at the end `last` becomes None."""
        before, self.last = self.last, None
        for rows in self._batches:
            if len(rows):
                self._rows, self._at = rows, 0
                self._columns = [rows.column(name) for name in self._by]
                self.last = self._key(len(rows) - 1)
                if before is not None and self._key(0) < before:
                    raise StoreError(f"expected rows sorted by {', '.join(self._by)}; they are not")
                return

    def _key(self, at: int) -> Key:
        values = (column[at].as_py() for column in self._columns)
        return tuple((value is None, value) for value in values)

    def take(self, bound: Key) -> pa.Table | None:
        """Take the rows of the current batch up to this key; None if there are none."""
        low, high = self._at, len(self._rows)
        if self.last is not None and self.last > bound:
            while low < high:
                middle = (low + high) // 2
                low, high = (middle + 1, high) if self._key(middle) <= bound else (low, middle)
            high = low
        taken, self._at = self._rows.slice(self._at, high - self._at), high
        if self._at == len(self._rows):
            self._advance()
        return taken if len(taken) else None


def _merged(sequences: Sequence[Iterator[pa.Table]], by: tuple[str, ...]) -> Iterator[pa.Table]:
    cursors = [cursor for cursor in (_Cursor(sequence, by) for sequence in sequences) if cursor.last is not None]
    while cursors:
        bound = min(cursor.last for cursor in cursors if cursor.last is not None)
        parts = [part for cursor in cursors if (part := cursor.take(bound)) is not None]
        yield parts[0] if len(parts) == 1 else pa.concat_tables(parts).sort_by([(name, "ascending") for name in by])
        cursors = [cursor for cursor in cursors if cursor.last is not None]
