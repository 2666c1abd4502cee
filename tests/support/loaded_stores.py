"""Three stores whose events are loaded from files and whose models are fitted without Spark."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from edited_fleet import no_spark

from batch.load import load
from batch.weekly import retrain
from spinney.core.config import Config

START = datetime(2024, 5, 1, tzinfo=UTC)


def sell(config: Config, place: Path, first: int, *, more_each_store: int = 0, **columns: Callable[[int], Any]) -> None:
    """Load 40 events of each of three stores: sold is 3 * n % 7 in the nth, and so much more from store to store.

    columns: name in the file -> value of the nth row.
    """
    rows = [
        {
            "store": f"s{store}",
            "id": f"e{n}",
            "at": START + timedelta(hours=n),
            "sold": float(3 * n % 7 + more_each_store * store),
        }
        | {name: value(n) for name, value in columns.items()}
        for store in range(3)
        for n in range(first, first + 40)
    ]
    file = place / f"history-{first}.parquet"
    pq.write_table(pa.Table.from_pylist(rows), file)
    load(config, str(file))


def fit(config: Config, *, unproven: bool = False) -> None:
    """Fit all groups as the weekly batch does."""
    retrain(config, unproven=unproven, spark=no_spark, show=lambda *_: None)
