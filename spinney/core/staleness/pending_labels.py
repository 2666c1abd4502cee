"""Labels that came but are not mature yet.

A flight that lands early is labelled early: fresh labels are a biased sample. They are counted only once every label of
their time would have come, `label_delay` after the event.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from spinney.core.state_codec import decode_batch, encode_batch

COLUMNS = ("group_key", "model_id", "labelled", "loss", "last_event_time", "mature_at")
_SCHEMA = pa.schema(
    [
        ("group_key", pa.string()),
        ("model_id", pa.string()),
        ("labelled", pa.int64()),
        ("loss", pa.float64()),
        ("last_event_time", pa.int64()),
        ("mature_at", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Pending:
    """Health deltas that wait to mature. rows: columns COLUMNS; times in microseconds."""

    rows: pd.DataFrame

    @classmethod
    def empty(cls) -> Pending:
        return _EMPTY

    def after(self, health: pd.DataFrame, label_delay: int) -> Pending:
        """With these deltas added, in whatever order they stand; those without a labelled row have nothing to count."""
        if not len(health):
            return self
        fresh = health[health["labelled"] > 0]
        if not len(fresh):
            return self
        fresh = in_order(fresh.assign(mature_at=fresh["last_event_time"] + label_delay)[list(COLUMNS)])
        return Pending(pd.concat([self.rows, fresh], ignore_index=True) if len(self.rows) else fresh)

    def split(self, clock: int) -> tuple[pd.DataFrame, Pending]:
        """What is mature at this clock, oldest first, and the rest."""
        ready = self.rows["mature_at"].to_numpy(np.int64) <= clock
        if not ready.any():
            return self.rows[:0], self
        if ready.all():
            return in_order(self.rows), Pending.empty()
        return in_order(self.rows[ready]), Pending(self.rows[~ready].reset_index(drop=True))

    def to_bytes(self) -> bytes:
        return encode_batch(pa.RecordBatch.from_pandas(self.rows, schema=_SCHEMA, preserve_index=False))

    @classmethod
    def from_bytes(cls, blob: bytes | memoryview) -> Pending:
        """Raises Corrupt when these are not the bytes of pending labels."""
        batch = decode_batch(blob, _SCHEMA)
        return cls(batch.to_pandas()) if batch.num_rows else cls.empty()


def in_order(rows: pd.DataFrame) -> pd.DataFrame:
    """Oldest first, and the same whatever order they came in."""
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


_EMPTY = Pending(_SCHEMA.empty_table().to_pandas())
