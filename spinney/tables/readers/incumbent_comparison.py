"""Compares the answers of the incumbent, the system before the fleet, with the fleet's. Needs no Spark."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from schemas import tables
from spinney.core.champions.champion_selection import select_champion
from spinney.core.champions.held_out_loss_codec import LOSS_NAME
from spinney.core.champions.shard_champions import Champions
from spinney.core.recipes.recipe import Feature
from spinney.core.reporting.incumbent_comparison import (
    HeldOutFit,
    IncumbentComparison,
    compare_answers,
    compare_held_out,
    measure_for,
    summarize,
)
from spinney.core.training.training_set import label_text
from spinney.storage import charter
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.readers.loss_function_filter import keep_current_loss

_IDENTITY = ["group_key", "event_id"]


def compare_with_incumbent(store: FleetStore, champions: Champions) -> IncumbentComparison:
    """Compare the incumbent and the fleet on the same rows. champions: the current ones."""
    measure, per_row = measure_for(str(store.fleet.task), str(store.fleet.loss))
    incumbent = delta.read_table(store, tables.INCUMBENT, [*_IDENTITY, "prediction"]).to_pandas()
    incumbent = incumbent.rename(columns={"prediction": "incumbent"})
    if incumbent.empty:
        return summarize(measure, [])
    labels = _read_labels(store, incumbent)
    found = compare_answers(_answered_by_both(store, incumbent, labels), per_row)
    if store.fleet.task == "regression":
        fits = _held_out_fits(store, champions)
        labelled = labels[labels["group_key"].isin(list(fits))].merge(incumbent, on=_IDENTITY, how="left")
        for key, rows in labelled.groupby("group_key"):
            fit, row = fits[str(key)]
            compared = compare_held_out(_rows_seen_by_fit(rows, row), fit, per_row)
            found += [] if compared is None else [compared]
    return summarize(measure, found)


def _read_labels(store: FleetStore, incumbent: pd.DataFrame) -> pd.DataFrame:
    """Read the labels of groups with incumbent answers.

    Returns _IDENTITY, event_time, ingested_at, label, observed_at (null if the label is a field of the event).
    """
    fleet = store.fleet
    in_groups = ds.field("group_key").isin(pa.array(incumbent["group_key"].unique(), pa.string()))
    inside = [fleet.target] if store.has_label_in_event else []
    events = delta.read_table(
        store, tables.EVENTS, [*_IDENTITY, "event_time", "ingested_at", *inside], in_groups
    ).to_pandas()
    if store.has_label_in_event:
        never = pd.Series(pd.NaT, index=events.index, dtype="datetime64[us, UTC]")
        labels = events.rename(columns={fleet.target: "label"}).assign(observed_at=never)
    else:
        outcomes = delta.read_table(store, tables.OUTCOMES, [*_IDENTITY, "label", "observed_at"], in_groups).to_pandas()
        # If a label came twice the first counts, as in fitting.
        first = outcomes.sort_values(["observed_at", "label"]).drop_duplicates(_IDENTITY)
        labels = events.merge(first, on=_IDENTITY)
    known: pd.DataFrame = labels[labels["label"].notna()]
    return known.assign(label=_as_answers(store, known["label"]))


def _as_answers(store: FleetStore, labels: pd.Series[Any]) -> pd.Series[Any]:
    """Convert labels to the type of answers: numbers, or names of classes."""
    if store.fleet.task == "regression":
        return labels.astype("float64")
    target = Feature(store.fleet.target, store.fleet.columns[store.fleet.target])
    return labels.map(lambda value: label_text(value, target)).astype(object)


def _answered_by_both(store: FleetStore, incumbent: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Return the mature rows that both answered, as `compare_answers` takes them."""
    in_groups = ds.field("group_key").isin(pa.array(incumbent["group_key"].unique(), pa.string()))
    answered = delta.read_table(
        store, tables.PREDICTIONS, [*_IDENTITY, "event_time", "prediction", "model_id"], in_groups
    ).to_pandas()
    clock = datetime.now(UTC) if store.fleet.clock == "wall" else answered["event_time"].max()
    answered = answered[answered["event_time"] + store.fleet.label_delay <= clock].drop_duplicates(_IDENTITY)
    models = delta.read_table(store, tables.MODELS, ["model_id", "trained_through"], ds.field("model_id").is_valid())
    through = models.to_pandas().drop_duplicates("model_id")
    both = answered.merge(incumbent, on=_IDENTITY).merge(
        labels[[*_IDENTITY, "label"]].drop_duplicates(_IDENTITY), on=_IDENTITY
    )
    joined: pd.DataFrame = both.merge(through, on="model_id", how="left")
    return joined


_FIT_COLUMNS = [
    "group_key",
    "model_id",
    "rows",
    "trained_from",
    "trained_through",
    "fitted_at",
    "clock",
    "metrics",
    LOSS_NAME,
]


def _held_out_fits(store: FleetStore, champions: Champions) -> dict[str, tuple[HeldOutFit, Mapping[str, Any]]]:
    """Return group -> its champion's fit, where its loss on the held-out rows did not decide that it became champion.

    A fit is left out if its loss was computed by another loss function, which the fleet had before.
    """
    current = {key: row.model_id for key, history in champions.promotions.items() if (row := select_champion(history))}
    stored = delta.read_table(store, tables.MODELS, _FIT_COLUMNS, ds.field("model_id").is_valid())
    return {
        row["group_key"]: (fit, row)
        for row in keep_current_loss(stored, charter.losses_of(store)).to_pylist()
        if current.get(row["group_key"]) == row["model_id"] and (fit := _held_out(row)) is not None
    }


def _held_out(row: Mapping[str, Any]) -> HeldOutFit | None:
    metrics = json.loads(row["metrics"] or "{}")
    if metrics.get("champion_id") or not metrics.get("heldout_rows") or row["rows"] is None:
        return None
    if metrics.get("challenger_loss") is None:
        return None
    return HeldOutFit(
        row["group_key"], int(row["rows"]), int(metrics["heldout_rows"]), float(metrics["challenger_loss"])
    )


def _rows_seen_by_fit(rows: pd.DataFrame, fit: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows that the fit may have seen: in its range of event times, and known when it was made."""
    then = rows["event_time"].between(fit["trained_from"], fit["trained_through"])
    known = ~(rows["ingested_at"] > fit["fitted_at"]) & ~(rows["observed_at"] > fit["clock"])
    seen: pd.DataFrame = rows[then & known]
    return seen
