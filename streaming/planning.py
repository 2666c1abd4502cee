"""Plans a streaming round from the reports of all shards. The driver's memory does not grow with the fleet.

A few rows are collected and planned in the driver. For many rows Spark ranks the due groups, only as many as a round
could take are collected, and Spark writes all verdicts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from schemas import tables
from schemas.vocabulary import RoundQueue, Staleness
from spinney.core.errors import StoreError
from spinney.core.planning.budget import (
    FIRST_POLICY,
    Candidate,
    QueueLengths,
    RoundAllowance,
    choose_by_queue,
    queue_member,
)
from spinney.core.staleness.group_state import NEVER
from spinney.core.timestamps import from_microseconds
from spinney.retraining import judge_input
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.delta import FEW_ROWS

ROUND_COLUMNS = ("round_id", "pins", "batch_id")
REPORTED_COLUMNS = ("shard", "group_key", "policy", "model_id", "epoch", "predicted_ms")
_CANDIDATE = ("group_key", "policy", "urgency", "stale_since", "predicted_ms", "gain_per_second")
_NOT_CHOSEN_REASON = "; deferred: the round takes no more groups, and others come before it"


@dataclass(frozen=True)
class DueSummary:
    """Sums over the reports of all shards.

    groups: number of due groups. withheld: those of them that were not put forward. rows: number of verdicts. clock:
    the fleet's, microseconds.
    """

    groups: int
    withheld: int
    rows: int
    clock: int

    @classmethod
    def of(cls, summaries: Sequence[Row]) -> DueSummary:
        """Add up the summary rows of a batch, at least one."""
        numbers = [json.loads(row["numbers"]) for row in summaries]
        groups, withheld, rows = (sum(counts[name] for counts in numbers) for name in ("due", "withheld", "rows"))
        return cls(groups, withheld, rows, max(row["clock"] for row in summaries))


@dataclass(frozen=True)
class RoundPlan:
    """The groups that a round takes, in rank order, and all verdicts: columns of `verdicts` except ROUND_COLUMNS."""

    chosen: Sequence[Candidate]
    verdicts: DataFrame | pa.Table


def plan_round(
    reported: DataFrame, due: DueSummary, allowance: RoundAllowance, seed: str, few: int = FEW_ROWS
) -> RoundPlan:
    """Choose the due groups to fit in this round, and derive all verdicts to record.

    reported: judge_input.VERDICTS with judged_at, persisted. seed: of the random selection. few: up to this many rows
    are planned in the driver. Raises StoreError when the numbers of rows differ from those that the shards counted.
    """
    verdicts = reported.filter(F.col("decision") != judge_input.SUMMARY)
    if due.rows <= few:
        return _plan_in_driver(verdicts, due, allowance, seed)
    return _plan_in_spark(verdicts, due, allowance, seed)


def _plan_in_driver(verdicts: DataFrame, due: DueSummary, allowance: RoundAllowance, seed: str) -> RoundPlan:
    rows = verdicts.toArrow().to_pylist()
    candidates = [_candidate(row) for row in rows if row["decision"] == Staleness.FIT]
    _require_count("due groups", due.groups - due.withheld, len(candidates))
    _require_count("verdicts", due.rows, len(rows))
    queues = choose_by_queue(candidates, allowance, seed)
    stored = [make_verdict(row, queues.get(row["group_key"])) for row in rows]
    schema = pa.schema([field for field in arrow_schema(tables.VERDICTS) if field.name not in ROUND_COLUMNS])
    table = pa.Table.from_pylist([row for row in stored if row is not None], schema=schema)
    return RoundPlan(_in_order(candidates, queues), table)


def _plan_in_spark(verdicts: DataFrame, due: DueSummary, allowance: RoundAllowance, seed: str) -> RoundPlan:
    shortlist = shortlist_candidates(verdicts, allowance, seed).toArrow().to_pylist()
    candidates = list({row["group_key"]: _candidate(row) for row in shortlist}.values())
    queues = choose_by_queue(candidates, allowance, seed)
    names = pd.DataFrame({"group_key": pd.Series([*queues], dtype=object), "queue": pd.Series([*queues.values()])})
    chosen_frame = verdicts.sparkSession.createDataFrame(names.astype(object), "group_key string, queue string")
    marked = verdicts.join(F.broadcast(chosen_frame), "group_key", "left")
    counts = {row["decision"]: row for row in marked.groupBy("decision").agg(
        F.count("*").alias("rows"), F.count("queue").alias("chosen")
    ).collect()}  # fmt: skip
    _require_count("verdicts", due.rows, sum(row["rows"] for row in counts.values()))
    if due.groups:
        due_counts = counts[Staleness.FIT.value]
        _require_count("due groups", due.groups - due.withheld, due_counts["rows"])
        _require_count("groups of the plan", len(queues), due_counts["chosen"])
    return RoundPlan(_in_order(candidates, queues), _verdict_rows(marked))


def shortlist_candidates(verdicts: DataFrame, allowance: RoundAllowance, seed: str) -> DataFrame:
    """The due groups that `choose_by_queue` can reach; a group may occur more than once."""
    queues = QueueLengths.for_allowance(allowance)
    assert queues is not None, "a round takes budget.max_groups at most"
    due = verdicts.filter(F.col("decision") == Staleness.FIT.value).select(*_CANDIDATE)
    drawn = F.xxhash64(F.concat(F.lit(seed), F.col("group_key")))
    # As Candidate.rank.
    by_rank = (F.col("policy") != FIRST_POLICY, F.desc("gain_per_second"), F.desc("urgency"), F.col("group_key"))
    shortlist = due.orderBy(*by_rank).limit(queues.by_rank)
    for order, length in (("stale_since", queues.oldest), (drawn, queues.random)):
        if length:
            shortlist = shortlist.unionByName(due.orderBy(order, "group_key").limit(length))
    return shortlist


def _in_order(candidates: Sequence[Candidate], queues: Mapping[str, RoundQueue]) -> list[Candidate]:
    """The chosen candidates in the order of `queues`."""
    by_key = {candidate.group_key: candidate for candidate in candidates}
    return [by_key[key] for key in queues]


def _candidate(row: Mapping[str, Any]) -> Candidate:
    return Candidate(*(row[name] for name in _CANDIDATE))


def make_verdict(row: Mapping[str, Any], queue: RoundQueue | None) -> dict[str, Any] | None:
    """Return the row of `verdicts` for a reported row; None for a group that was deferred before and is again.

    queue: the one that took the group; None if it was not chosen.
    """
    decision, reason, numbers = row["decision"], row["reason"], row["numbers"]
    if queue is not None:
        # A JSON object with at least one member, as the judge writes it.
        numbers = f"{numbers[:-1]},{queue_member(queue)}}}"
    elif decision == Staleness.FIT:
        if row["repeats"]:
            return None
        decision, reason = Staleness.DEFERRED.value, f"{reason}{_NOT_CHOSEN_REASON}"
    return {
        **{name: row[name] for name in REPORTED_COLUMNS},
        "decision": decision,
        "reason": reason,
        "numbers": numbers,
        "stale_since": from_microseconds(row["stale_since"]) if row["stale_since"] != NEVER else None,
        "clock": from_microseconds(row["clock"]) if row["clock"] != NEVER else None,
        "judged_at": from_microseconds(row["judged_at"]),
    }


def _verdict_rows(marked: DataFrame) -> DataFrame:
    """`make_verdict` for each row, in Spark. marked: queue is null where a group was not chosen."""
    is_chosen = F.col("queue").isNotNull()
    is_deferred = (F.col("decision") == Staleness.FIT.value) & ~is_chosen
    rows = marked.filter(~is_deferred | (F.col("repeats") == 0))
    begin, end = queue_member("|").split("|")
    with_queue = F.expr(f"concat(left(numbers, length(numbers) - 1), ',{begin}', queue, '{end}}}')")
    return rows.select(
        *REPORTED_COLUMNS,
        F.when(is_deferred, Staleness.DEFERRED.value).otherwise(F.col("decision")).alias("decision"),
        F.when(is_deferred, F.concat("reason", F.lit(_NOT_CHOSEN_REASON))).otherwise(F.col("reason")).alias("reason"),
        F.when(is_chosen, with_queue).otherwise(F.col("numbers")).alias("numbers"),
        _timestamp("stale_since"),
        _timestamp("clock"),
        _timestamp("judged_at"),
    )


def _timestamp(name: str) -> Column:
    return F.when(F.col(name) != NEVER, F.timestamp_micros(name)).alias(name)


def _require_count(what: str, expected: int, got: int) -> None:
    if expected != got:
        raise StoreError(
            f"query retrain: expected {expected} {what}, by the shards' own counts; got {got} in the batch. Nothing "
            "was planned. Start the stream again: the batch is repeated; if this comes again, report it"
        )
