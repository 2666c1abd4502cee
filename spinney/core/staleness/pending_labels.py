"""Labels that have arrived but are not mature yet.

Fresh labels are a biased sample: a flight that lands early is labelled early. A label is counted `label_delay` after
its event, when every label of that time should have arrived.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from spinney.core.state_codec import decode_batch, encode_batch

COLUMNS = ("group_key", "model_id", "labelled", "loss", "losses", "last_event_time", "mature_at")
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
class PendingLabels:
    """Rows of health that are not mature. rows: COLUMNS; times are microseconds."""

    rows: pd.DataFrame

    @classmethod
    def empty(cls) -> PendingLabels:
        """No labels."""
        return _EMPTY

    def with_labels(self, health: pd.DataFrame, label_delay: int) -> PendingLabels:
        """Add rows of health, in any order; those without a labelled row are ignored. label_delay: microseconds."""
        if not len(health):
            return self
        fresh = health[health["labelled"] > 0]
        if not len(fresh):
            return self
        fresh = sort_by_time(fresh.assign(mature_at=fresh["last_event_time"] + label_delay)[list(COLUMNS)])
        return PendingLabels(pd.concat([self.rows, fresh], ignore_index=True) if len(self.rows) else fresh)

    def split(self, clock: int) -> tuple[pd.DataFrame, PendingLabels]:
        """Return the rows that are mature at this clock (microseconds), oldest first, and the others."""
        ready = self.rows["mature_at"].to_numpy(np.int64) <= clock
        if not ready.any():
            return self.rows[:0], self
        if ready.all():
            return sort_by_time(self.rows), PendingLabels.empty()
        return sort_by_time(self.rows[ready]), PendingLabels(self.rows[~ready].reset_index(drop=True))

    def to_bytes(self) -> bytes:
        """Encode as one Arrow batch."""
        return encode_batch(pa.RecordBatch.from_pandas(self.rows, schema=SCHEMA, preserve_index=False))

    @classmethod
    def from_bytes(cls, blob: bytes | memoryview) -> PendingLabels:
        """Decode what `to_bytes` encoded. Raises Corrupt for other bytes."""
        batch = decode_batch(blob, SCHEMA)
        return cls(batch.to_pandas()) if batch.num_rows else cls.empty()


def sort_by_time(rows: pd.DataFrame) -> pd.DataFrame:
    """Sort by event time, then by the other columns, so that the order of arrival does not matter."""
    times = rows["last_event_time"].to_numpy(np.int64)
    order = np.argsort(times, kind="stable")
    if not (np.diff(times[order]) > 0).all():
        # Plain tuples: pandas takes milliseconds to sort a few rows by texts, and a shard has a few in each batch.
        texts = (rows[name].fillna("").tolist() for name in ("group_key", "model_id"))
        losses = rows["loss"].to_numpy(np.float64)
        nan = np.isnan(losses)
        numbers = (rows["labelled"].tolist(), nan.tolist(), np.where(nan, 0.0, losses).tolist())
        whole = list(zip(times.tolist(), *texts, *numbers, strict=True))
        order = np.array(sorted(range(len(rows)), key=whole.__getitem__), dtype=np.int64)
    return rows.take(order).reset_index(drop=True)


_EMPTY = PendingLabels(SCHEMA.empty_table().to_pandas())
