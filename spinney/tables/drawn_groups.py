"""Read the results of the groups that the stream's rounds drew at random."""

from __future__ import annotations

from datetime import datetime

from schemas import tables
from spinney.core.reporting import retraining_gain
from spinney.core.reporting.retraining_gain import RetrainingGain
from spinney.storage.layout import FleetStore
from spinney.tables import lookup
from spinney.tables.fit_metrics import parse_watched
from spinney.tables.lookup import ContainsText, NotAfter, RowFilter


def read_retraining_gain(store: FleetStore, at: datetime | None = None) -> RetrainingGain | None:
    """Return the gain from retraining, by what had been decided at a time; None where no drawn group was compared.

    at: wall clock; None for now. Raises StoreError when a table was never made.
    """
    judged, decided, fitted = (
        None if at is None else NotAfter(name, at) for name in ("judged_at", "decided_at", "fitted_at")
    )
    drawn = ContainsText("numbers", retraining_gain.DRAWN)
    verdicts = lookup.read_where(store, tables.VERDICTS, retraining_gain.VERDICT_COLUMNS, judged, drawn)
    keys = verdicts.column("group_key").unique().to_pylist()
    if not keys:
        return None
    promotions = lookup.read_rows(
        store, tables.PROMOTIONS, retraining_gain.PROMOTION_COLUMNS, RowFilter.of_groups(keys, decided)
    )
    attempts = lookup.read_rows(store, tables.MODELS, ("group_key", "metrics"), RowFilter.of_groups(keys, fitted))
    return retraining_gain.measure_gain(verdicts, promotions, parse_watched(attempts))
