"""Build the index of late labels from the tables, if the checkpoint has no index that belongs to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from schemas import tables
from spinney.storage import checkpoints
from spinney.storage.label_index.label_index import (
    CLOCK_SLACK,
    IndexShape,
    LabelIndex,
    remove_leftovers,
)
from spinney.storage.layout import Directory, FleetStore
from spinney.tables import table_files
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.stream_reading import TableOffset, files_read, last_commit_read
from streaming.clock_checks import MAX_TOLERANCE as CLOCK_TOLERANCE
from streaming.label_rows import (
    ANSWER_ARRIVED,
    LABEL_ARRIVED,
    OUTCOME_COLUMNS,
    arrived_outcomes,
    arrived_predictions,
    prediction_columns,
)
from streaming.unread_rows import EPOCH

ROWS_AT_ONCE, BYTES_AT_ONCE = 500_000, 128 * 1024**2
"""Number of rows, and their size in memory in bytes, that are added to the index together."""


def rebuild_index(store: FleetStore, shape: IndexShape, folder: Path, location: str, batch_id: int) -> LabelIndex:
    """Return the index as it was after a batch of the query, from exactly the rows that the query had read by then.

    folder: for the index. location: of the query's checkpoint, which has the batch. The index is not stored: its files
    are written, but no manifest names them yet. Raises StoreError if files that the query has read no longer exist.
    """
    remove_leftovers(folder)  # of an attempt that was killed, which may be as large as this one
    texts = checkpoints.end_offsets(location, batch_id)
    offsets = [None if text is None else TableOffset.parse(text) for text in texts]
    predictions, outcomes = (store.directory(contract) for contract in (tables.PREDICTIONS, tables.OUTCOMES))
    began = checkpoints.started_batch(location, batch_id).started_at
    silent = began - shape.silence
    answered = _newest(predictions, offsets[0], ANSWER_ARRIVED, silent)
    observed = _newest(outcomes, offsets[1], LABEL_ARRIVED, silent)
    index = LabelIndex(folder, shape)
    if any(offset is not None and offset.is_snapshot for offset in offsets):
        answered = observed = EPOCH  # what is read next may be of any age
    since = _before(observed, shape.horizon + CLOCK_SLACK)
    for rows in _rows_read(predictions, offsets[0], prediction_columns(shape), ANSWER_ARRIVED, since):
        index.add(arrived_predictions(rows, shape), None)
    # Of outcomes within the horizon it matters whether they are the first in twice that time.
    since = min(_before(answered, 3 * shape.horizon + CLOCK_SLACK), _before(observed, 2 * shape.horizon + CLOCK_SLACK))
    for rows in _rows_read(outcomes, offsets[1], OUTCOME_COLUMNS, LABEL_ARRIVED, since):
        index.add(None, index.with_first(*arrived_outcomes(rows, shape, began)))
    return index


def _newest(directory: Directory, offset: TableOffset | None, arrived: str, silent: datetime) -> datetime:
    """Return when the newest row that was read arrived.

    arrived: the column with this time. silent: returned without a row.
    """
    commit = None if offset is None else last_commit_read(directory, offset)
    if offset is None or commit is None:
        return silent
    rows = _dataset(directory, files_read(directory, offset, commit), [arrived])
    times = (pc.max(batch[arrived]).as_py() for batch in rows.to_batches())
    return max((at for at in times if at is not None), default=silent)


def _dataset(directory: Directory, files: Sequence[Path], columns: Sequence[str]) -> ds.Dataset:
    schema = arrow_schema(directory.contract)
    return table_files.dataset_of_paths(Path("/"), map(str, files), pa.schema([schema.field(name) for name in columns]))


def _before(at: datetime, duration: timedelta) -> datetime:
    return EPOCH if at - EPOCH < duration else at - duration


def _rows_read(
    directory: Directory, offset: TableOffset | None, columns: Sequence[str], arrived: str, since: datetime
) -> Iterator[pa.Table]:
    """Yield the rows that were read and that arrived since a time, or at an unknown time.

    arrived: the column with the time.
    """
    if offset is None:
        return
    files = files_read(directory, offset, max(since, EPOCH + CLOCK_TOLERANCE) - CLOCK_TOLERANCE)
    rows = _dataset(directory, files, columns)
    where = (ds.field(arrived) >= pa.scalar(since, pa.timestamp("us", "UTC"))) | ds.field(arrived).is_null()
    waiting: list[pa.RecordBatch] = []
    count = size = 0
    for batch in rows.scanner(filter=where, fragment_readahead=2).to_batches():
        if batch.num_rows:
            waiting.append(batch)
            count, size = count + batch.num_rows, size + batch.nbytes
        if count >= ROWS_AT_ONCE or size >= BYTES_AT_ONCE:
            yield pa.Table.from_batches(waiting)
            waiting, count, size = [], 0, 0
    if waiting:
        yield pa.Table.from_batches(waiting)
