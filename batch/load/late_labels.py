"""Extract late labels from rows of events, as rows of outcomes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from batch.load.typed_columns import typed
from spinney.core.config import Config


@dataclass(frozen=True)
class Labelled:
    """outcomes: the messages; raw, place: of the same rows, as `RecordKind.check` expects them."""

    outcomes: pa.RecordBatch
    raw: pa.RecordBatch
    place: pa.Array


def labelled(batch: pa.RecordBatch, place: pa.Array, config: Config) -> Labelled:
    """The rows with a label, observed at their `observed_at` or `label_delay` after the event.

    batch: `plain` columns, including the target. When the event's time is doubtful, `observed_at` is null, which makes
    the outcome doubtful too.
    """
    fleet = config.fleet
    there = batch.column(fleet.target).is_valid()
    if not pc.all(there).as_py():
        batch, place = batch.filter(there), place.filter(there)
    names = [name for name in (fleet.event_id, *fleet.group, fleet.target) if name in batch.schema.names]
    columns = {name: batch.column(name) for name in names}
    if "observed_at" in batch.schema.names:
        columns["observed_at"] = batch.column("observed_at")
    else:
        columns["observed_at"] = _after_delay(batch, config)
    return Labelled(pa.RecordBatch.from_pydict(columns), batch, place)


def _after_delay(batch: pa.RecordBatch, config: Config) -> pa.Array:
    at = config.fleet.event_time
    nothing = pa.nulls(batch.num_rows, pa.timestamp("us", "UTC"))
    if at not in batch.schema.names or not types.is_timestamp(batch.schema.field(at).type):
        return nothing
    times = typed(batch.column(at), "timestamp")
    delay = pa.scalar(int(config.fleet.label_delay.total_seconds()) * 1_000_000, pa.duration("us"))
    observed = pc.add(times.values, delay)
    return observed if times.doubtful is None else pc.if_else(pa.array(np.asarray(times.doubtful)), nothing, observed)
