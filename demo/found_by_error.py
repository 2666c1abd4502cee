"""What happened to the groups of the injected change: found by their risen error, refitted before, or not noticed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from demo.error_recovery import RECOVERY_FACTOR
from demo.fleet_tables import FleetTables
from demo.refit_comparison import FLEET
from demo.retraining_summary import PROMOTED, quantiles
from schemas.vocabulary import Staleness
from spinney.core.staleness.verdicts import ERROR_RISE


@dataclass(frozen=True)
class InjectedChange:
    """The change that the demo injects.

    groups: keys of the changed groups. at: event time of the first changed label.
    """

    groups: Collection[str]
    at: datetime


def summarize_found_by_error(
    tables: FleetTables, change: InjectedChange, losses: pd.DataFrame | None
) -> dict[str, Any]:
    """Return how many of the changed groups `error_rise` found, after how long, and what happened to the others.

    In the result, hours: event time from the change to the first verdict. others: None without losses. not_risen:
    groups whose earlier models had a mean loss after the change of at most RECOVERY_FACTOR times that before it.
    refitted: other groups that got a model fitted on changed rows because of another policy. unnoticed: all remaining
    groups. other_alarms: fits that `error_rise` asked for in other groups, or before the change.

    losses: one row per streamed event: group_key, event_id, event_time, and the fleet's loss.
    """
    verdicts = tables.verdicts
    is_found = (verdicts["policy"] == ERROR_RISE) & verdicts["group_key"].isin(change.groups)
    times = pd.to_datetime(verdicts["clock"], utc=True)
    first = times[is_found & (times >= change.at)].groupby(verdicts["group_key"]).min()
    hours = np.asarray((first - change.at).dt.total_seconds(), dtype=np.float64) / 3600.0
    others = None if losses is None else _others(tables, change, losses, set(change.groups) - set(first.index))
    is_fit = (verdicts["policy"] == ERROR_RISE) & (verdicts["decision"] == Staleness.FIT.value)
    return {
        "changed": len(change.groups),
        "found": len(first),
        "hours": quantiles(hours),
        "others": others,
        "other_alarms": int((is_fit & ~(is_found & (times >= change.at))).sum()),
    }


def _others(tables: FleetTables, change: InjectedChange, losses: pd.DataFrame, keys: set[str]) -> dict[str, int]:
    has_seen = _models_of_changed_rows(tables, change)
    answered = tables.predictions[["group_key", "event_id", "model_id"]]
    rows = losses[losses["group_key"].isin(keys)].merge(answered, on=["group_key", "event_id"])
    is_after = rows["event_time"] >= change.at
    is_unaware = is_after & ~rows["model_id"].isin(has_seen["model_id"])
    before, after = (rows[chosen].groupby("group_key")[FLEET].mean() for chosen in (~is_after, is_unaware))
    # Without answers of such models, or from before, nothing shows that an error rose.
    has_risen = after.reindex(sorted(keys)) > RECOVERY_FACTOR * before.reindex(sorted(keys))
    risen = set(has_risen[has_risen].index)
    refitted = risen & set(has_seen["group_key"])
    return {
        "not_risen": len(keys - risen),
        "refitted": len(refitted),
        "unnoticed": len(risen - refitted),
    }


def _models_of_changed_rows(tables: FleetTables, change: InjectedChange) -> pd.DataFrame:
    """The promoted models whose newest row is from after the change: group_key and model_id."""
    promotions = tables.promotions
    is_newer = pd.to_datetime(promotions["trained_through"], utc=True) >= change.at
    return promotions.loc[is_newer & promotions["decision"].isin(PROMOTED), ["group_key", "model_id"]]
