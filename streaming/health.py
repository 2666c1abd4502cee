"""Health: sums over answers and labels, as rows that can be added in any order."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import tables
from spinney.core.config import Fleet
from spinney.core.even_spacing import is_evenly_spaced
from spinney.core.features.encoding import Floats
from spinney.core.training.loss import loss_named
from spinney.tables.arrow_schemas import arrow_schema

BUCKETS_PER_LABEL_DELAY = 4
"""Labels mature together in steps of event time; this is the number of steps per `label_delay`."""


ANSWER_COLUMNS = ("shard", "group_key", "model_id", "event_time", "prediction", "probabilities", "label", "scored_at")
"""Columns of predictions that `sum_answers` reads."""


MAX_LOSSES = 64
"""Largest number of losses in a row of health."""

MAX_PREDICTIONS = 64
"""Largest number of predictions in a row of health."""

LOSSES_TYPE, PREDICTIONS_TYPE = (arrow_schema(tables.HEALTH).field(name).type for name in ("losses", "drift"))


def sum_answers(answers: pa.Table, fleet: Fleet, batch_id: int) -> pa.Table:
    """Return the health of one scoring batch, as rows of `health`; none where there are no answers.

    One row per (group, model, maturity step) with sums, and one row per shard with the newest event time.

    answers: ANSWER_COLUMNS, all rows with the same scored_at. fleet: the section `[fleet]`.
    """
    if not answers.num_rows:
        return arrow_schema(tables.HEALTH).empty_table()
    same = {"observed_on": answers["scored_at"][0].cast(pa.date32()).as_py(), "batch_id": batch_id}
    parts = (_sums(answers, fleet), _clock_rows(answers["event_time"], fleet.shards))
    return pa.concat_tables([_as_health(part, {"loss_name": fleet.loss, **same}) for part in parts])


def sum_late_labels(answers: pa.Table, fleet: Fleet, observed_on: date, batch_id: int) -> pa.Table:
    """Return the health of labels that came after their answers: sums per (group, model, maturity step).

    `rows` is 0 and `drift` is null, since both were counted when the answers were made.

    answers: ANSWER_COLUMNS without scored_at, with their labels. observed_on: UTC date of the batch.
    """
    if not answers.num_rows:
        return arrow_schema(tables.HEALTH).empty_table()
    same = {"rows": 0, "loss_name": fleet.loss, "observed_on": observed_on, "batch_id": batch_id}
    return _as_health(_sums(answers, fleet).drop_columns(["rows", "drift"]), same)


def _sums(answers: pa.Table, fleet: Fleet) -> pa.Table:
    """Return the sums per (group, model, maturity step), with columns of `health`."""
    loss, values = _losses(answers, fleet), _predicted_values(answers, fleet)
    has_label, has_loss = pc.is_valid(answers["label"]), pa.array(np.isfinite(loss))
    known = np.where(np.isfinite(loss), loss, 0.0)
    # A label counts for its group whichever model answered, so that a new group gets its first model. Without a loss
    # it does not count for the model.
    is_creditable = pc.or_(pc.invert(has_label), has_loss)
    counted = pa.table(
        {
            "shard": answers["shard"],
            "group_key": answers["group_key"],
            "model_id": pc.if_else(is_creditable, answers["model_id"], pa.scalar(None, pa.string())),
            "step": _steps(answers["event_time"], fleet),
            "labelled": pc.cast(has_label, pa.int64()),
            "loss": known,
            "squared_loss": known * known,
            "labelled_losses": pa.array(loss, mask=~np.isfinite(loss)),
            "predicted": pa.array(values, mask=~np.isfinite(values)),
            "last_event_time": answers["event_time"],
        }
    )
    sums_of = dict.fromkeys(("labelled", "loss", "squared_loss"), "sum")
    aggregations = {**sums_of, "last_event_time": "max", "predicted": "list"}
    if has_loss.true_count:
        aggregations |= {"labelled_losses": "list"}
    sums = counted.group_by(["shard", "group_key", "model_id", "step"], use_threads=False).aggregate(
        [([], "count_all"), *aggregations.items()]
    )
    renamed = {"count_all": "rows", **{f"{name}_{kind}": name for name, kind in aggregations.items()}}
    names = [renamed.get(name, name) for name in sums.column_names]
    sums = sums.rename_columns(names)
    if has_loss.true_count:
        losses = _kept_values(sums["labelled_losses"], MAX_LOSSES, LOSSES_TYPE, at_least=2)
        sums = sums.append_column("losses", losses)
    return sums.append_column("drift", _kept_values(sums["predicted"], MAX_PREDICTIONS, PREDICTIONS_TYPE, at_least=1))


def _kept_values(values_of_rows: pa.ChunkedArray, most: int, kind: pa.ListType, *, at_least: int) -> pa.Array:
    """Return, for each row, the values of all its answers as a list; null values are left out.

    A list is ascending and has at most `most` values. It is null if there are fewer than `at_least`.
    """
    lists = values_of_rows.combine_chunks()
    rows = np.repeat(np.arange(len(lists)), lists.value_lengths().to_numpy())
    values = lists.flatten().to_numpy(zero_copy_only=False)
    known = np.flatnonzero(np.isfinite(values))
    known = known[np.lexsort((values[known], rows[known]))]
    counts = np.bincount(rows[known], minlength=len(lists))
    rank = np.arange(len(known)) - np.repeat(np.cumsum(counts) - counts, counts)
    known = known[(counts[rows[known]] >= at_least) & is_evenly_spaced(rank, counts[rows[known]], most)]
    kept = np.bincount(rows[known], minlength=len(lists))
    offsets = pa.array(np.concatenate([[0], np.cumsum(kept)]), pa.int32())
    flat = pa.array(values[known], kind.value_type)
    return pa.ListArray.from_arrays(offsets, flat, mask=pa.array(kept == 0))


def _clock_rows(event_time: pa.ChunkedArray, shards: int) -> pa.Table:
    """One row per shard with the newest event time, so that the clocks of quiet shards advance."""
    newest = pc.max(event_time)
    return pa.table(
        {
            "shard": pa.array(range(shards), pa.int32()),
            **{name: pa.array([0] * shards, pa.int64()) for name in ("rows", "labelled")},
            "last_event_time": pa.array([newest.as_py()] * shards, newest.type),
        }
    )


def _losses(answers: pa.Table, fleet: Fleet) -> Floats:
    """The loss of each answer, shape (n_rows,); NaN without a label or a loss."""
    loss = loss_named(fleet.loss)
    if loss.task == "regression":
        label, prediction = (answers[name].to_numpy().astype(np.float64) for name in ("label", "prediction"))
        return loss.per_row(label, prediction)
    out = np.full(answers.num_rows, np.nan)
    places = np.flatnonzero(pc.is_valid(answers["label"]).to_numpy())
    labelled = answers.select(["label", "probabilities"]).take(pa.array(places))
    probabilities = [None if items is None else dict(items) for items in labelled["probabilities"].to_pylist()]
    out[places] = loss.per_row(np.array(labelled["label"].to_pylist(), dtype=object), probabilities)
    return out


def _predicted_values(answers: pa.Table, fleet: Fleet) -> Floats:
    """Return the prediction of each answer, for classification the largest probability, shape (n_rows,); NaN without
    one.

    As float32, which compresses well; drift does not need more digits.
    """
    if fleet.task == "regression":
        values: Floats = answers["prediction"].to_numpy()
    else:
        values = _largest_probabilities(answers["probabilities"].combine_chunks())
    return np.asarray(values.astype(np.float32), dtype=np.float64)


def _largest_probabilities(probabilities: pa.MapArray) -> Floats:
    offsets = probabilities.offsets.to_numpy()
    items = probabilities.items[: offsets[-1]]  # those of a slice are followed by those behind it
    values = items.to_numpy(zero_copy_only=False).astype(np.float64)
    largest = np.full(len(probabilities), np.nan)
    has_any = np.diff(offsets) > 0
    if has_any.any():
        largest[has_any] = np.maximum.reduceat(values, offsets[:-1][has_any])
    return np.where(probabilities.is_valid().to_numpy(zero_copy_only=False), largest, np.nan)


def _steps(event_time: pa.ChunkedArray, fleet: Fleet) -> pa.Array:
    seconds = fleet.label_delay.total_seconds() / BUCKETS_PER_LABEL_DELAY
    micros = event_time.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    return pa.array(micros // int(seconds * 1e6) if seconds >= 1 else np.zeros_like(micros))


def _as_health(rows: pa.Table, same: Mapping[str, Any]) -> pa.Table:
    """The rows with all columns of `health`. same: values that all rows have."""
    schema = arrow_schema(tables.HEALTH)
    columns = []
    for field in schema:
        if field.name in rows.column_names:
            columns.append(rows[field.name].cast(field.type))
        else:
            columns.append(pa.repeat(pa.scalar(same.get(field.name), field.type), rows.num_rows))
    return pa.table(columns, schema=schema)
