"""Records as the function in a task of `ingest` gets them, without Spark."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pyarrow as pa

from spinney.core.timestamps import to_microseconds
from spinney.tables.row_writing import ARRIVED_AT


def unvalidated(
    values: Sequence[bytes | None],
    topic: str | Sequence[str],
    at: datetime,
    *,
    record_time: datetime | None = None,
    editions: Sequence[int] | None = None,
) -> pa.RecordBatch:
    """The records of partition 0 from offset 0 on, all with the same key.

    topic: of all records, or of each. at: when their batch began; record_time: their own time, if it is another.
    editions: of the rules, of each; the first without them.
    """
    count = len(values)
    time = to_microseconds(record_time or at)
    return pa.record_batch(
        {
            "key": pa.array([b"k"] * count, pa.binary()),
            "value": pa.array(values, pa.binary()),
            "topic": pa.array([topic] * count if isinstance(topic, str) else topic, pa.string()),
            "kafka_partition": pa.array([0] * count, pa.int32()),
            "kafka_offset": pa.array(range(count), pa.int64()),
            ARRIVED_AT: pa.array([at] * count, pa.timestamp("us", "UTC")),
            "record_us": pa.array([time] * count, pa.int64()),
            "edition": pa.array([0] * count if editions is None else editions, pa.int32()),
        }
    )
