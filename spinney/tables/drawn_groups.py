"""Reads what became of the groups that the stream's rounds took at random."""

from __future__ import annotations

from datetime import datetime

from schemas import tables
from spinney.core.reporting import retraining_gain
from spinney.core.reporting.retraining_gain import RetrainingGain
from spinney.storage.layout import FleetStore
from spinney.tables import lookup
from spinney.tables.fit_metrics import read_fit_measures
from spinney.tables.lookup import ContainsText, IsKnown, NotAfter

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
    promotions = lookup.read_where(store, tables.PROMOTIONS, retraining_gain.PROMOTION_COLUMNS, *compared)
    of_drawn = promotions.join(verdicts.select(_ROUND_OF_GROUP), _ROUND_OF_GROUP, join_type="left semi")
    measures = read_fit_measures(store, of_drawn.column("model_id").combine_chunks())
    return retraining_gain.measure_gain(verdicts, of_drawn, measures)
