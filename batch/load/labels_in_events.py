"""Find the rows of a file of events that have a label, and when these labels were observed."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch.load.row_validation import OBSERVED_AT
from batch.load.typed_batch import TypedBatch
from spinney.core.config import Fleet
from spinney.core.records.column_conversion import Mask, TypedColumn
from spinney.core.records.rules import RecordRules


def label_mask(batch: TypedBatch, fleet: Fleet, events: RecordRules, outcomes: RecordRules, moment: datetime) -> Mask:
    """Return the mask of rows with a label, valid or not, shape (rows,).

    If the file has no column `observed_at`, the batch gets one: `label_delay` after the event, but not after `moment`.
    """
    label = batch.get(outcomes.rule_of(fleet.target))
    has_label: Mask = np.asarray(label.values.is_valid())
    if batch.column_of(outcomes.rule_of(OBSERVED_AT)) is None:
        times = batch.get(events.rule_of(events.time))
        delay = pa.scalar(int(fleet.label_delay.total_seconds()) * 1_000_000, pa.duration("us"))
        # Where the event's time is doubtful, so is this.
        after, now = pc.add(times.values, delay), pa.scalar(moment, times.values.type)
        observed = pc.if_else(pc.greater(after, now), now, after)
        batch.put(OBSERVED_AT, TypedColumn(observed, times.doubtful))
    return has_label if label.doubtful is None else has_label | label.doubtful
