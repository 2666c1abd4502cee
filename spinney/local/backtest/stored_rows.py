"""Read labelled events of all groups from the fleet's tables, without Spark."""

from __future__ import annotations

from datetime import datetime

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from schemas import tables
from schemas.contract import Contract
from spinney.core.errors import StoreError
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.arrow_schemas import to_pandas


def read_stored_history(store: FleetStore, since: datetime | None = None) -> pd.DataFrame:
    """Return the events that have a label, as `History.of` takes them. since: the oldest event's time; None: all.

    Of several labels of an event the first one observed counts. Raises StoreError: no tables, or no labelled event.
    """
    fleet, in_event = store.fleet, store.has_label_in_event
    features = [name for name in fleet.features if name not in (fleet.event_time, fleet.event_id)]
    names = list(
        dict.fromkeys(["group_key", "event_id", "event_time", *features, *([fleet.target] if in_event else [])])
    )
    is_wanted = None if since is None else ds.field("event_time") >= pa.scalar(since, pa.timestamp("us", "UTC"))
    events = _read(store, tables.EVENTS, names, is_wanted)
    rows = events.rename(columns={fleet.target: "label"}) if in_event else _with_outcomes(events, store)
    rows = rows.dropna(subset=["label"]).reset_index(drop=True)
    if not len(rows):
        raise StoreError(
            f"fleet {fleet.name}: no labelled event in the tables below {store.root}; `spinney load` history, "
            "or name a file with --rows"
        )
    return rows.assign(**{fleet.event_time: rows["event_time"]}) if fleet.event_time in fleet.features else rows


def _with_outcomes(events: pd.DataFrame, store: FleetStore) -> pd.DataFrame:
    outcomes = _read(store, tables.OUTCOMES, ["group_key", "event_id", "label", "observed_at"], None)
    keys = ["group_key", "event_id"]
    first = outcomes.dropna(subset=["label"]).sort_values(["observed_at", "label"]).drop_duplicates(keys)
    return events.merge(first, on=keys)


def _read(store: FleetStore, base: Contract, columns: list[str], where: ds.Expression | None) -> pd.DataFrame:
    (place,) = store.directories(base)
    table = delta.open_table(place)
    if table is None:
        raise StoreError(
            f"fleet {store.fleet.name}: no table {place.name} at {place.uri}; run `spinney init` and `spinney load`, "
            "or name a file with --rows"
        )
    return to_pandas(delta.open_dataset(table).to_table(columns, filter=where))
