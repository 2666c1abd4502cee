"""Reads what became of the groups that the stream's rounds took at random."""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from schemas import tables
from spinney.core.reporting import retraining_gain
from spinney.core.reporting.retraining_gain import RetrainingGain
from spinney.storage.layout import FleetStore
from spinney.tables import lookup
from spinney.tables.fit_metrics import read_fit_measures
from spinney.tables.lookup import ContainsText, IsKnown, NotAfter

_PROMOTION_COLUMNS = (*retraining_gain.PROMOTION_COLUMNS, "model_id")
_ROUND_OF_GROUP = ["group_key", "round_id"]


def read_retraining_gain(store: FleetStore, at: datetime | None = None) -> RetrainingGain | None:
    """Return the gain from retraining, by what had been decided at a time; None where no drawn group was compared
    fairly.

    at: wall clock; None for now. Raises StoreError when a table was never made.
    """
    judged, decided = (None if at is None else NotAfter(name, at) for name in ("judged_at", "decided_at"))
    drawn = ContainsText("numbers", retraining_gain.DRAWN)
    verdicts = lookup.read_where(store, tables.VERDICTS, retraining_gain.VERDICT_COLUMNS, judged, drawn)
    if not verdicts.num_rows:
        return None
    compared = (decided, IsKnown("champion_loss"))
    promotions = lookup.read_where(store, tables.PROMOTIONS, _PROMOTION_COLUMNS, *compared)
    of_drawn = promotions.join(verdicts.select(_ROUND_OF_GROUP), _ROUND_OF_GROUP, join_type="left semi")
    return retraining_gain.measure_gain(verdicts, _fair_comparisons(store, of_drawn))


def _fair_comparisons(store: FleetStore, promotions: pa.Table) -> pa.Table:
    """The promotions in which the measured challenger had all the data of the champion, and the champion was measured.

    Otherwise the difference says nothing about refitting: the champion had newer data (`rows_behind`), or its recipe
    was measured in place of it (`refitted`).
    """
    measures = read_fit_measures(store, promotions.column("model_id").combine_chunks())
    is_behind = pc.greater(pc.fill_null(measures.column("rows_behind"), 0), 0)
    unfair = measures.column("model_id").filter(pc.or_(is_behind, pc.is_valid(measures.column("refitted"))))
    return promotions.filter(pc.invert(pc.is_in(promotions.column("model_id"), unfair.combine_chunks())))
