"""Convert rows of predictions and outcomes to the form of the index of late labels."""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from schemas import tables
from spinney.core.arrow_types import arrow_type
from spinney.core.config import Kafka
from spinney.core.records.recent_ids import IdHashes, Ints
from spinney.core.timestamps import to_microseconds
from spinney.storage.label_index.arrived_rows import Arrived
from spinney.storage.label_index.label_index import LABEL, IndexShape
from spinney.storage.layout import FleetStore
from spinney.tables.arrow_schemas import arrow_schema
from streaming.duplicate_records import ARRIVED

IDS = ("group_key", "event_id")
POSITION = ("kafka_partition", "kafka_offset")
ANSWER_ARRIVED, LABEL_ARRIVED = ARRIVED[tables.PREDICTIONS.name], ARRIVED[tables.OUTCOMES.name]
OUTCOME_COLUMNS = (*IDS, LABEL, *POSITION, LABEL_ARRIVED)
"""Columns of outcomes that are read."""


def index_shape(store: FleetStore, kafka: Kafka) -> IndexShape:
    """Return the shape of a fleet's index. It has the columns of predictions from which health is computed."""
    whole = arrow_schema(store.directory(tables.PREDICTIONS).contract)
    names = ["shard", "group_key", "model_id", "event_time", "prediction"]
    if store.fleet.task == "classification":
        names.append("probabilities")
    answers = pa.schema([whole.field(name) for name in names])
    return IndexShape(kafka.label_horizon, answers, arrow_type(store.answer_type))


def prediction_columns(shape: IndexShape) -> tuple[str, ...]:
    """Return the columns of predictions that are read."""
    return (*dict.fromkeys((*IDS, *shape.answers.names)), ANSWER_ARRIVED)


def arrived_predictions(rows: pa.Table, shape: IndexShape) -> Arrived:
    """Return rows of predictions with the times of their arrival. rows: `prediction_columns`."""
    times = _microseconds(rows[ANSWER_ARRIVED])
    return Arrived(_ids(rows), times.to_numpy(), rows.select(shape.answers.names).cast(shape.answers))


def arrived_outcomes(rows: pa.Table, shape: IndexShape, batch_at: datetime) -> tuple[Arrived, tuple[Ints, Ints]]:
    """Return outcomes with the times of their arrival, and their partitions and offsets in Kafka.

    rows: OUTCOME_COLUMNS. batch_at: used as the time of arrival if it is null, as for rows that other processes wrote.
    """
    times = pc.fill_null(_microseconds(rows[LABEL_ARRIVED]), to_microseconds(batch_at))
    labels = pa.table([rows[LABEL].cast(shape.label, safe=False)], names=[LABEL])
    partitions, offsets = (rows[name].to_numpy() for name in POSITION)
    return Arrived(_ids(rows), times.to_numpy(), labels), (partitions, offsets)


def _ids(rows: pa.Table) -> IdHashes:
    return IdHashes.of(*(rows[name] for name in IDS))


def _microseconds(times: pa.ChunkedArray) -> pa.ChunkedArray:
    return times.cast(pa.timestamp("us", "UTC"), safe=False).cast(pa.int64())
