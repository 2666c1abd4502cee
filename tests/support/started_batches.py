"""A checkpoint's record of the batches that were started, as Spark writes it."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

from spinney.storage.layout import FleetStore


def start_batch(store: FleetStore, query: str, batch_id: int, at: datetime) -> str:
    """Record that a query started a batch at this time. Returns the location of its checkpoint."""
    location = Path(store.checkpoint(query))
    (location / "offsets").mkdir(parents=True, exist_ok=True)
    times = {"batchTimestampMs": int(at.timestamp() * 1000), "batchWatermarkMs": 0}
    (location / "offsets" / str(batch_id)).write_text(f"v1\n{json.dumps(times)}\n-\n")
    return str(location)
