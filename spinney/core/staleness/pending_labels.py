"""Labels that have arrived but are not mature yet.

Fresh labels are a biased sample: a flight that lands early is labelled early. A label is counted `label_delay` after
its event, when every label of that time should have arrived.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from spinney.core.staleness.health_rows import Floats, HealthRows, Integers, Objects, RowColumns
from spinney.core.state_codec import decode_batch, encode_batch

SCHEMA = pa.schema(
    [
        ("group_key", pa.string()),
        ("model_id", pa.string()),
        ("labelled", pa.int64()),
        ("loss", pa.float64()),
        ("losses", pa.list_(pa.float32())),
        ("last_event_time", pa.int64()),
        ("mature_at", pa.int64()),
    ]
)


@dataclass(frozen=True)
class LabelRows(RowColumns):
    """Rows of health with labels; the columns of SCHEMA, as those of HealthRows. mature_at: microseconds."""

    group_key: Objects
    model_id: Objects
    labelled: Integers
    loss: Floats
    losses: Objects
    last_event_time: Integers
    mature_at: Integers

    @classmethod
    def of_health(cls, health: HealthRows, label_delay: int) -> LabelRows:
        """Return the rows of health with a label. They mature `label_delay` microseconds after their newest event."""
        rows = health.take(health.labelled > 0)
        times = rows.last_event_time
        return cls(rows.group_key, rows.model_id, rows.labelled, rows.loss, rows.losses, times, times + label_delay)


@dataclass(frozen=True)
class PendingLabels:
    """Labels from the table `health` that are younger than `label_delay`."""

    rows: LabelRows

    @classmethod
    def empty(cls) -> PendingLabels:
        """Return no labels, with all columns."""
        return _EMPTY

    def with_labels(self, health: HealthRows, label_delay: int) -> PendingLabels:
        """Add rows of health, in any order; those without a labelled row are ignored. label_delay: microseconds."""
        fresh = LabelRows.of_health(health, label_delay)
        if not len(fresh):
            return self
        fresh = sort_by_time(fresh)
        return PendingLabels(LabelRows.concatenated([self.rows, fresh]) if len(self.rows) else fresh)

    def split(self, clock: int) -> tuple[LabelRows, PendingLabels]:
        """Return the rows that are mature at this clock (microseconds), oldest first, and the others."""
        ready = self.rows.mature_at <= clock
        if not ready.any():
            return self.rows.take(slice(0)), self
        if ready.all():
            return sort_by_time(self.rows), PendingLabels.empty()
        return sort_by_time(self.rows.take(ready)), PendingLabels(self.rows.take(~ready))

    def to_bytes(self) -> bytes:
        """Encode as one Arrow batch."""
        columns = [pa.array(getattr(self.rows, field.name), field.type, from_pandas=True) for field in SCHEMA]
        return encode_batch(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))

    @classmethod
    def from_bytes(cls, blob: bytes | memoryview) -> PendingLabels:
        """Decode the result of `to_bytes`. Raises Corrupt for other bytes."""
        batch = decode_batch(blob, SCHEMA)
        return cls(_label_rows(batch)) if batch.num_rows else cls.empty()


def sort_by_time(rows: LabelRows) -> LabelRows:
    """Sort by event time, then by the other columns, so that the order of arrival does not matter."""
    times = rows.last_event_time
    order = np.argsort(times, kind="stable")
    if not (np.diff(times[order]) > 0).all():
        models = [model_id or "" for model_id in rows.model_id.tolist()]
        nan = np.isnan(rows.loss)
        numbers = (rows.labelled.tolist(), nan.tolist(), np.where(nan, 0.0, rows.loss).tolist())
        whole = list(zip(times.tolist(), rows.group_key.tolist(), models, *numbers, strict=True))
        order = np.array(sorted(range(len(rows)), key=whole.__getitem__), dtype=np.int64)
    return rows.take(order)


def _label_rows(batch: pa.RecordBatch) -> LabelRows:
    return LabelRows(*(column.to_numpy(zero_copy_only=False) for column in batch.columns))


_EMPTY = PendingLabels(_label_rows(pa.RecordBatch.from_pylist([], SCHEMA)))
