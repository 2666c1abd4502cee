"""The attempts of a round and the decisions about them, as one table with a row per group. Reads no payloads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from schemas import tables
from schemas.contract import Contract
from schemas.vocabulary import Decision
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from spinney.tables.arrow_schemas import arrow_schema

_ATTEMPT = (
    *("group_key", "model_id", "status", "error_class", "error"),
    *("rows", "trained_from", "trained_through", "fit_ms", "codec"),
)
_METRICS = {
    "heldout_rows": pa.int64(),
    "challenger_loss": pa.float64(),
    "champion_loss": pa.float64(),
    "champion_id": pa.string(),
    "train_loss": pa.float64(),
}
"""Metrics that every attempt has, with their types. Other entries of `metrics` are kept as they are."""

COLUMNS = (*_ATTEMPT[:3], "decision", "reason", *_ATTEMPT[3:], *_METRICS)
"""Columns that every table has, in this order."""


def attempts_of_round(store: FleetStore, row: Mapping[str, Any]) -> pa.Table:
    """Return one row per group of the round, sorted by key: COLUMNS, then other metrics.

    row: a row of `rounds`. status: of the attempt; `kept` if the champion was up to date. A deferred group has no row.
    A withdrawn champion has no row of its own: its numbers are in the metrics.
    """
    tried = _read(store, tables.MODELS, row, (*_ATTEMPT, "metrics"))
    decided = _read(store, tables.PROMOTIONS, row, ("group_key", "model_id", "decision", "reason"))
    decided = decided.filter(pc.not_equal(decided.column("decision"), Decision.WITHDRAWN.value))
    both = tried.join(decided, "group_key", join_type="full outer", right_suffix="_decided").sort_by("group_key")
    columns = {name: both.column(name) for name in (*_ATTEMPT, "decision", "reason")}
    columns["model_id"] = pc.coalesce(both.column("model_id"), both.column("model_id_decided"))
    columns["status"] = pc.fill_null(both.column("status"), Decision.KEPT.value)
    metrics = _metrics(both.column("metrics").to_pylist())
    columns |= {name: _column(metrics.pop(name, [None] * both.num_rows), kind) for name, kind in _METRICS.items()}
    others = {name: _column(metrics[name]) for name in sorted(metrics) if name not in columns}
    return pa.table({**{name: columns[name] for name in COLUMNS}, **others})


def stored_models(store: FleetStore, row: Mapping[str, Any], at_once: int = 64) -> Iterator[dict[str, Any]]:
    """Yield group_key, model_id, codec, payload and signature of each attempt, with only a few in memory at a time."""
    stored = delta.open_table(store.directory(tables.MODELS, str(row["kind"])))
    assert stored is not None, "made before any round"
    names = ["group_key", "model_id", "codec", "payload", "signature"]
    batches = delta.open_dataset(stored).to_batches(
        names, filter=_of_row(row), batch_size=at_once, batch_readahead=1, fragment_readahead=1
    )
    for batch in batches:
        yield from batch.to_pylist()


def flatten_metrics(metrics: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Flatten nested objects to dotted names, whatever they contain. before: prefix of the names, with its dot."""
    found: dict[str, Any] = {}
    for name, value in metrics.items():
        found |= (
            flatten_metrics(value, f"{before}{name}.") if isinstance(value, Mapping) else {f"{before}{name}": value}
        )
    return found


def _read(store: FleetStore, base: Contract, row: Mapping[str, Any], names: tuple[str, ...]) -> pa.Table:
    stored = delta.open_table(store.directory(base, str(row["kind"])))
    assert stored is not None, "made before any round"
    kinds = arrow_schema(base)
    found = delta.open_dataset(stored).to_table(list(names), filter=_of_row(row))
    return found.cast(pa.schema([kinds.field(name) for name in names]))


def _of_row(row: Mapping[str, Any]) -> ds.Expression:
    # Files are skipped by statistics of batch_id; those of round_id select less, since names sort as text.
    return (ds.field("batch_id") == row["batch_id"]) & (ds.field("round_id") == row["round_id"])


def _metrics(texts: list[str | None]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    for at, text in enumerate(texts):
        for name, value in flatten_metrics(json.loads(text or "{}")).items():
            if name not in columns:
                columns[name] = [None] * len(texts)
            columns[name][at] = value
    return columns


def _column(values: list[Any], kind: pa.DataType | None = None) -> pa.Array:
    """Return the values as a column of one type; values of several types become text."""
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else json.dumps(value) for value in values], pa.string())
