"""The metrics that were stored with fitted models."""

from __future__ import annotations

from io import BytesIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow import json

from schemas import tables
from spinney.core.champions.held_out_loss_codec import LOSS_NAME
from spinney.core.reporting import retraining_gain
from spinney.storage import charter
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.readers.loss_function_filter import keep_current_loss

MEASURES = pa.schema(
    [
        ("heldout_rows", pa.int64()),
        ("challenger_loss", pa.float64()),
        ("constant_loss", pa.float64()),
        ("champion_id", pa.string()),
        ("watched_rows", pa.int64()),
        ("watched_champion_loss", pa.float64()),
        ("predecessor_loss", pa.float64()),
    ]
)
"""The metrics that are read; null if a fit does not have one."""


def read_fit_measures(store: FleetStore, model_ids: pa.Array) -> pa.Table:
    """Return the rows of `models` that fitted these models: model_id and MEASURES.

    Models that are not stored, or were measured by an earlier loss, are left out. Raises StoreError when the table was
    never made.
    """
    columns = ["model_id", "metrics", LOSS_NAME]
    found = delta.read_table(store, tables.MODELS, columns, ds.field("model_id").isin(model_ids))
    found = keep_current_loss(found, charter.losses_of(store))
    return parse_measures(found.column("metrics")).add_column(0, "model_id", found.column("model_id"))


def parse_watched(attempts: pa.Table) -> pa.Table:
    """Return retraining_gain.MEASURE_COLUMNS of attempts, in their order, and the other columns of `attempts`.

    attempts: group_key and metrics of rows of `models`, and any other columns, which are kept.
    """
    measures = parse_measures(attempts.column("metrics"))
    others = [name for name in attempts.column_names if name != "metrics"]
    for name in others:
        measures = measures.append_column(name, attempts.column(name).combine_chunks())
    return measures.select([*dict.fromkeys([*retraining_gain.MEASURE_COLUMNS, *others])])


def parse_measures(metrics: pa.ChunkedArray) -> pa.Table:
    """Return MEASURES of each JSON object, in their order; all are null for an object that is null.

    Other fields are ignored.
    """
    if not len(metrics):
        return MEASURES.empty_table()
    lines = "\n".join(pc.fill_null(metrics, "{}").to_pylist())  # a line break within JSON is escaped
    options = json.ParseOptions(explicit_schema=MEASURES, unexpected_field_behavior="ignore")
    return json.read_json(BytesIO(lines.encode()), parse_options=options)
