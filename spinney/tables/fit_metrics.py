"""The metrics that were stored with fitted models."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from schemas import tables
from spinney.storage.layout import FleetStore
from spinney.tables import delta


def read_fit_metrics(store: FleetStore, model_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return model_id -> its metrics; models that are not stored are left out."""
    wanted = ds.field("model_id").isin(pa.array([*model_ids], pa.string()))
    rows = delta.read_table(store, tables.MODELS, ["model_id", "metrics"], wanted).to_pylist()
    return {row["model_id"]: json.loads(row["metrics"] or "{}") for row in rows}
