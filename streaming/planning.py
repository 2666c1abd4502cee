"""From what the judge reports of all shards to the plan of one round: what is brought here does not grow with a fleet.

A few rows are brought here and planned at once. Of many, Spark ranks the due groups and hands over only as many as a
round could take; the verdicts of all are written by Spark from where they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from schemas import tables
from schemas.vocabulary import Staleness
from spinney.core.errors import StoreError
from spinney.core.planning.budget import RANKS, Allowance, Candidate, Queues, choose
from spinney.core.staleness.group_state import NEVER
from spinney.core.timestamps import from_microseconds
from spinney.retraining import judge_input
from spinney.tables.arrow_schemas import arrow_schema
from spinney.tables.delta import FEW_ROWS

OF_THE_ROUND = ("round_id", "pins", "batch_id")
AS_REPORTED = ("shard", "group_key", "policy", "model_id", "epoch", "predicted_ms")
_CANDIDATE = ("group_key", "policy", "urgency", "stale_since", "predicted_ms")
_NOT_TAKEN = "; deferred: the round takes no more groups, and others come before it"


@dataclass(frozen=True)
class Due:
    """What the shards report together.

    groups: that are due. withheld: of them, those that were not put forward. rows: of verdicts that came. clock: the
    fleet's, microseconds.
    """

    groups: int
    withheld: int
    rows: int
    clock: int

    @classmethod
    def of(cls, summaries: Sequence[Row]) -> Due:
        """summaries: at least one."""
        said = [json.loads(row["numbers"]) for row in summaries]
        groups, withheld, rows = (sum(each[name] for each in said) for name in ("due", "withheld", "rows"))
        return cls(groups, withheld, rows, max(row["clock"] for row in summaries))


@dataclass(frozen=True)
class Plan:
    """The groups that a round takes, and all its verdicts: columns of `verdicts` but OF_THE_ROUND."""

    chosen: Sequence[Candidate]
    verdicts: DataFrame | pa.Table


def planned(reported: DataFrame, due: Due, allowance: Allowance, lot: str, few: int = FEW_ROWS) -> Plan:
    """Which of the due groups are fitted now, and what is recorded of all that were reported.

    reported: news.VERDICTS with judged_at, kept in memory. Raises StoreError when the rows are not those counted.
    """
    verdicts = reported.filter(F.col("decision") != judge_input.SUMMARY)
    if due.rows <= few:
        return _planned_here(verdicts, due, allowance, lot)
    return _planned_by_spark(verdicts, due, allowance, lot)


def _planned_here(verdicts: DataFrame, due: Due, allowance: Allowance, lot: str) -> Plan:
    rows = verdicts.toArrow().to_pylist()
    candidates = [_candidate(row) for row in rows if row["decision"] == Staleness.FIT]
    _refuse_other_counts("due groups", due.groups - due.withheld, len(candidates))
    _refuse_other_counts("verdicts", due.rows, len(rows))
    chosen = _chosen(candidates, allowance, lot)
    names = {each.group_key for each in chosen}
    stored = [verdict(row, chosen=row["group_key"] in names) for row in rows]
    schema = pa.schema([field for field in arrow_schema(tables.VERDICTS) if field.name not in OF_THE_ROUND])
    return Plan(chosen, pa.Table.from_pylist([row for row in stored if row is not None], schema=schema))


def _planned_by_spark(verdicts: DataFrame, due: Due, allowance: Allowance, lot: str) -> Plan:
    candidates = [_candidate(row) for row in shortlist(verdicts, allowance, lot).toArrow().to_pylist()]
    chosen = _chosen({each.group_key: each for each in candidates}.values(), allowance, lot)
    names = pd.DataFrame({"group_key": pd.Series([each.group_key for each in chosen], dtype=object)})
    taken = verdicts.sparkSession.createDataFrame(names, "group_key string").withColumn("is_chosen", F.lit(True))
    marked = verdicts.join(F.broadcast(taken), "group_key", "left")
    counted = {row["decision"]: row for row in marked.groupBy("decision").agg(
        F.count("*").alias("rows"), F.count("is_chosen").alias("chosen")
    ).collect()}  # fmt: skip
    _refuse_other_counts("verdicts", due.rows, sum(row["rows"] for row in counted.values()))
    if due.groups:
        found = counted[Staleness.FIT.value]
        _refuse_other_counts("due groups", due.groups - due.withheld, found["rows"])
        _refuse_other_counts("groups of the plan", len(chosen), found["chosen"])
    return Plan(chosen, _recorded(marked))


def shortlist(verdicts: DataFrame, allowance: Allowance, lot: str) -> DataFrame:
    """The due groups among which `choose` chooses: a group may come more than once, the others it cannot reach."""
    queues = Queues.of(allowance)
    assert queues is not None, "a round takes budget.max_groups at most"
    due = verdicts.filter(F.col("decision") == Staleness.FIT.value).select(*_CANDIDATE)
    ranks = " ".join(f"WHEN '{policy}' THEN {rank}" for policy, rank in RANKS.items())
    drawn = F.xxhash64(F.concat(F.lit(lot), F.col("group_key")))
    found = due.orderBy(F.expr(f"CASE policy {ranks} END"), F.desc("urgency"), "group_key").limit(queues.by_rank)
    for order, length in (("stale_since", queues.oldest), (drawn, queues.by_lot)):
        if length:
            found = found.unionByName(due.orderBy(order, "group_key").limit(length))
    return found


def _chosen(candidates: Iterable[Candidate], allowance: Allowance, lot: str) -> list[Candidate]:
    by_key = {each.group_key: each for each in candidates}
    return [by_key[key] for key in choose(list(by_key.values()), allowance, lot)]


def _candidate(row: Mapping[str, Any]) -> Candidate:
    return Candidate(*(row[name] for name in _CANDIDATE))


def verdict(row: Mapping[str, Any], *, chosen: bool) -> dict[str, Any] | None:
    """A row of `verdicts` for what the judge reported; None for a group deferred before and deferred again."""
    decision, reason = row["decision"], row["reason"]
    if decision == Staleness.FIT and not chosen:
        if row["repeats"]:
            return None
        decision, reason = Staleness.DEFERRED.value, f"{reason}{_NOT_TAKEN}"
    return {
        **{name: row[name] for name in AS_REPORTED},
        "decision": decision,
        "reason": reason,
        "numbers": row["numbers"],
        "stale_since": from_microseconds(row["stale_since"]) if row["stale_since"] != NEVER else None,
        "clock": from_microseconds(row["clock"]) if row["clock"] != NEVER else None,
        "judged_at": from_microseconds(row["judged_at"]),
    }


def _recorded(marked: DataFrame) -> DataFrame:
    """The same of many: `verdict` for each row. marked: is_chosen is null where a group was not."""
    is_deferred = (F.col("decision") == Staleness.FIT.value) & F.col("is_chosen").isNull()
    rows = marked.filter(~is_deferred | (F.col("repeats") == 0))
    return rows.select(
        *AS_REPORTED,
        F.when(is_deferred, Staleness.DEFERRED.value).otherwise(F.col("decision")).alias("decision"),
        F.when(is_deferred, F.concat("reason", F.lit(_NOT_TAKEN))).otherwise(F.col("reason")).alias("reason"),
        "numbers",
        _moment("stale_since"),
        _moment("clock"),
        _moment("judged_at"),
    )


def _moment(name: str) -> Column:
    return F.when(F.col(name) != NEVER, F.timestamp_micros(name)).alias(name)


def _refuse_other_counts(what: str, expected: int, found: int) -> None:
    if expected != found:
        raise StoreError(
            f"query retrain: expected {expected} {what}, by the shards' own counts; got {found} in the batch. Nothing "
            "was planned. Start the stream again: the batch is repeated; if this comes again, report it"
        )
