"""The query `labels`: late outcomes joined with predictions, in either order of arrival → health/labels."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from schemas import tables
from schemas.vocabulary import QueryName
from spinney.core.config import Config
from spinney.core.errors import Corrupt, UnknownFormat
from spinney.storage import checkpoints, step_observer
from spinney.storage.atomic_files import local_folder
from spinney.storage.label_index.label_index import IndexShape, LabelIndex, ReadThrough
from spinney.storage.layout import FleetStore
from spinney.tables.delta import DirectoryWriter
from streaming.delta_source import read_appended
from streaming.health import sum_late_labels
from streaming.kafka_source import coalesce_locally
from streaming.label_recovery import rebuild_index
from streaming.label_rows import (
    OUTCOME_COLUMNS,
    arrived_outcomes,
    arrived_predictions,
    index_shape,
    prediction_columns,
)
from streaming.query import Query
from streaming.unread_rows import unread_rows

NAME = QueryName.LABELS.value
STEP = "health"
IS_OUTCOME = "is_outcome"
INDEX_FOLDER = "label_index"
"""Folder of the index in the query's checkpoint."""

MAX_BYTES_PER_BATCH = 16 * 1024**2
"""Bytes of files that a batch reads of each table; it reads at least one file. The driver holds the rows in memory."""

log = logging.getLogger(__name__)


def query(spark: SparkSession, config: Config) -> Query:
    """Return the query `labels`, in append mode.

    In: rows appended to `predictions` and `outcomes`. Out: both, told apart by IS_OUTCOME; `LabelsBatchWriter` joins
    them and stores the sums in health/labels. It has no state in Spark.
    """
    store = FleetStore.of(config)
    shape = index_shape(store, config.kafka)
    parts = (
        (tables.PREDICTIONS, prediction_columns(shape), False),
        (tables.OUTCOMES, OUTCOME_COLUMNS, True),
    )
    predictions, outcomes = (
        read_appended(spark, store.directory(contract), max_bytes=MAX_BYTES_PER_BATCH)
        .select(*columns)
        .withColumn(IS_OUTCOME, F.lit(is_outcome))
        for contract, columns, is_outcome in parts
    )
    rows = coalesce_locally(predictions.unionByName(outcomes, allowMissingColumns=True))
    # Earlier versions joined in Spark, and dropped copies of outcomes before.
    return Query(
        NAME,
        rows,
        lambda checkpoint: LabelsBatchWriter(store, shape, checkpoint),
        trigger="2 seconds",
        former_operators=(0, 1),
    )


class LabelsBatchWriter:
    """Joins the rows of each batch with those of earlier batches by an index, and appends the sums to health/labels.

    The index is stored after the sums. So a batch whose index is stored is complete. A batch that was killed before
    that is repeated with the index of the previous batch.
    """

    def __init__(self, store: FleetStore, shape: IndexShape, checkpoint: str) -> None:
        self._store, self._shape, self._checkpoint = store, shape, checkpoint
        self._location = store.checkpoint(NAME)
        self._writer = DirectoryWriter(store.directory(tables.HEALTH, "labels"), NAME, checkpoint)
        self._index: LabelIndex | None = None

    @property
    def _folder(self) -> Path:
        return local_folder(self._location) / INDEX_FOLDER

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        """Write a batch, except what an earlier attempt at it has stored."""
        if self._index is None:
            self._index = self._opened(batch_id)
            if self._index is not None:
                return
            self._index = self._before(batch_id)
        self._write(batch.toArrow(), self._index, batch_id)

    def _write(self, rows: pa.Table, index: LabelIndex, batch_id: int) -> None:
        began = checkpoints.started_batch(self._location, batch_id).started_at
        predictions = arrived_predictions(rows.filter(pc.invert(rows[IS_OUTCOME])), self._shape)
        outcomes = index.with_first(*arrived_outcomes(rows.filter(rows[IS_OUTCOME]), self._shape, began))
        labelled = index.join(predictions, outcomes)
        if labelled.num_rows:
            sums = sum_late_labels(labelled, self._store.fleet, began.date(), batch_id)
            self._writer.append(sums, step=STEP, batch_id=batch_id)
        index.add(predictions, outcomes)
        self._store_index(index, batch_id, began, is_silent=(not len(predictions), not len(outcomes)))
        step_observer.announce(f"{NAME}.index", batch_id)

    def _store_index(self, index: LabelIndex, batch_id: int, began: datetime, is_silent: tuple[bool, bool]) -> None:
        """Store the index as it is after a batch.

        began: the batch's timestamp. is_silent: whether the batch had no predictions, and whether it had no outcomes.
        """
        read = self._read_through(batch_id)
        unread = unread_rows(self._store, read.ends, began, is_silent)
        index.store(read, unread.arrive_after, in_order=unread.in_order)

    def _read_through(self, batch_id: int) -> ReadThrough:
        return ReadThrough(self._checkpoint, batch_id, checkpoints.end_offsets(self._location, batch_id))

    def _opened(self, batch_id: int) -> LabelIndex | None:
        """Return the index that was stored after a batch; None if there is none, or it is damaged."""
        try:
            return LabelIndex.open(self._folder, self._shape, self._read_through(batch_id))
        except UnknownFormat:
            raise
        except Corrupt as error:
            log.warning("query %s: its index is built again from the tables: %s", NAME, error)
            return None

    def _before(self, batch_id: int) -> LabelIndex:
        """Return the index as it was before a batch."""
        if batch_id == 0:
            return LabelIndex(self._folder, self._shape)
        found = self._opened(batch_id - 1)
        if found is None:
            log.info("query %s: builds its index from the rows of the tables that it has read", NAME)
            found = rebuild_index(self._store, self._shape, self._folder, self._location, batch_id - 1)
            began = checkpoints.started_batch(self._location, batch_id - 1).started_at
            self._store_index(found, batch_id - 1, began, is_silent=(True, True))
        return found
