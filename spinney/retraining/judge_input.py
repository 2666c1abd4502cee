"""The judge's input, read from tables, and its verdicts as rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas import tables
from schemas.contract import Contract
from schemas.vocabulary import MACHINES, QueryName
from spinney.core.champions.promotion import Promotion
from spinney.core.staleness.attempt_outcomes import SAMPLE_COLUMNS
from spinney.core.staleness.group_state import NEVER
from spinney.core.staleness.health_rows import HEALTH_COLUMNS, HealthRows
from spinney.core.staleness.judge import VERDICT_COLUMNS, DecisionRecord, JudgeInput, ShardReport, UnfittedAttempt
from spinney.retraining.loss_conversion import health_in_current_loss, promotions_in_current_loss
from spinney.storage import charter
from spinney.storage.layout import Directory, FleetStore
from spinney.storage.stream_readers import reading_queries

HEALTH = HEALTH_COLUMNS
DECIDED, UNFITTED = "decided", "unfitted"
"""Columns with a promotion, or a failed fit, as one struct: most batches have few of them, and each column that Spark
passes to a worker costs as much time per shard as the judge."""

SUMMARY = "summary"
"""The value of `decision` in the row that summarises a shard."""

VERDICTS = (
    "shard int, group_key string, policy string, decision string, reason string, numbers string, model_id string, "
    "epoch bigint, stale_since bigint, clock bigint, predicted_ms double, urgency double, "
    "gain_per_second double, repeats bigint"
)
"""Columns of a verdict. Times are microseconds, NEVER if there is none.

In a stream, a row with the decision SUMMARY has counts of its shard in `numbers`: `due` groups, `withheld` groups among
them, `rows` that follow, `groups` with a champion, and those of them with a `raised` error.
"""

_DTYPES = {"string": object, "bigint": np.int64, "double": np.float64, "int": np.int32}
_VERDICT_DTYPES = {name: _DTYPES[kind] for name, kind in (column.split() for column in VERDICTS.split(", "))}


def union_frame(store: FleetStore, read: Callable[[Directory], DataFrame]) -> DataFrame:
    """Return the judge's input from all tables as one frame: kind (a row's table), shard, HEALTH, DECIDED, UNFITTED.

    Times are microseconds; losses are by the fleet's current loss. read: reads a directory, as a stream or as a static
    frame.
    """
    rows = partial(_read_in_current_loss, store, read)
    health = rows(tables.HEALTH).select(
        F.lit("health").alias("kind"),
        "shard",
        *HEALTH[:-1],
        *_microsecond_columns(HEALTH[-1]),
    )
    promotions = rows(tables.PROMOTIONS).select(
        F.lit("promotion").alias("kind"),
        "shard",
        "group_key",
        F.struct(
            "model_id",
            "epoch",
            "decision",
            "round_id",
            *_microsecond_columns("trained_through", "fitted_at", "decided_at", "clock"),
            F.col("challenger_loss").alias("loss"),
            "by",
            "fit_ms",
            *SAMPLE_COLUMNS,
            "rows",
        ).alias(DECIDED),
    )
    unfitted = (
        rows(tables.MODELS)
        .filter(F.col("model_id").isNull())
        .select(
            F.lit("unfitted").alias("kind"),
            "shard",
            "group_key",
            F.struct("status", "rows", *_microsecond_columns("fitted_at", "clock")).alias(UNFITTED),
        )
    )
    return health.unionByName(promotions, allowMissingColumns=True).unionByName(unfitted, allowMissingColumns=True)


def _read_in_current_loss(store: FleetStore, read: Callable[[Directory], DataFrame], base: Contract) -> DataFrame:
    """Return the rows of a table that the judge reads, with losses converted to the fleet's current loss."""
    wanted = [directory for directory in store.directories(base) if QueryName.RETRAIN in reading_queries(directory)]
    frames, losses = list(map(read, wanted)), charter.losses_of(store)
    convert = {tables.HEALTH.name: health_in_current_loss, tables.PROMOTIONS.name: promotions_in_current_loss}
    if losses.is_changed and base.name in convert:
        frames = [convert[base.name](frame, losses) for frame in frames]
    return reduce(DataFrame.unionByName, frames)


def _microsecond_columns(*names: str) -> list[Column]:
    return [F.expr(f"unix_micros({name})").alias(name) for name in names]


def parse_frames(frames: list[pd.DataFrame]) -> JudgeInput:
    """Parse frames of `union_frame` into the judge's input."""
    if not frames:
        return JudgeInput((), (), HealthRows.empty())
    parts, decided, unfitted = [], [], []
    for rows in frames:
        # Column by column, and nothing for absent kinds: most batches have a few rows of health per shard only.
        kinds = rows["kind"].to_numpy(object)
        is_health = kinds == "health"
        parts.append(
            HealthRows.of_columns({name: rows[name].to_numpy()[is_health] for name in HEALTH}, is_health.sum())
        )
        decided += [_parse_promotion(key, row) for key, row in _structs(rows, kinds == "promotion", DECIDED)]
        unfitted += [_parse_attempt(key, row) for key, row in _structs(rows, kinds == "unfitted", UNFITTED)]
    return JudgeInput(decided, unfitted, HealthRows.concatenated(parts))


def _structs(rows: pd.DataFrame, wanted: np.ndarray, column: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Group and struct of the wanted rows."""
    if not wanted.any():
        return []
    return list(zip(rows["group_key"].to_numpy()[wanted], rows[column].to_numpy()[wanted], strict=True))


def _parse_attempt(key: str, row: Mapping[str, Any]) -> UnfittedAttempt:
    return UnfittedAttempt(key, row["status"], *(_to_int(row[name]) for name in ("rows", "fitted_at", "clock")))


def _parse_promotion(key: str, row: Mapping[str, Any]) -> DecisionRecord:
    loss, fit_ms = (np.nan if row[name] is None else float(row[name]) for name in ("loss", "fit_ms"))
    samples = {name: () if row[name] is None else tuple(map(float, row[name])) for name in SAMPLE_COLUMNS}
    by_machine, clock = row["by"] in MACHINES, _to_int(row["clock"])
    promotion = Promotion.from_row({**row, "heldout_losses": None})  # the record has them
    return DecisionRecord(key, promotion, by_machine, clock, loss, fit_ms, rows=_to_int(row["rows"]), **samples)


def _to_int(value: Any) -> int:
    return 0 if value is None or pd.isna(value) else int(value)


def verdict_rows(shard: int, verdicts: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the verdicts of a shard as rows of VERDICTS."""
    columns: dict[str, Any] = {name: [row[name] for row in verdicts] for name in VERDICT_COLUMNS}
    columns["numbers"] = [json.dumps(numbers, separators=(",", ":")) for numbers in columns["numbers"]]
    arrays = {name: np.array(values, dtype=_VERDICT_DTYPES[name]) for name, values in columns.items()}
    return pd.DataFrame({"shard": np.full(len(verdicts), shard, dtype=np.int32), **arrays})


def report_rows(shard: int, report: ShardReport, clock: int) -> pd.DataFrame:
    """Return the judge's report about a shard as rows of VERDICTS, the summary first. clock: the shard's."""
    summary = dict.fromkeys(VERDICT_COLUMNS) | {
        "decision": SUMMARY,
        "numbers": {
            "due": report.due,
            "withheld": report.withheld,
            "rows": len(report.rows),
            "groups": report.errors.groups,
            "raised": report.errors.raised,
        },
        "epoch": 0,
        "stale_since": NEVER,
        "clock": clock,
        "predicted_ms": 0.0,
        "urgency": 0.0,
        "gain_per_second": 0.0,
        "repeats": 0,
    }
    return verdict_rows(shard, [summary, *report.rows])
