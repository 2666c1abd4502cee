"""Plans a streaming round from the reports of all shards. The driver's memory does not grow with the fleet.

A few rows are collected and planned in the driver. For many rows Spark ranks the due groups, only as many as a round
could take are collected, and Spark writes all verdicts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import pyarrow as pa
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from schemas.vocabulary import RoundQueue, Staleness
from spinney.core.errors import StoreError
from spinney.core.planning.brake import (
    NO_BRAKE,
    Brake,
    BrakeAction,
    RaisedErrors,
    choose_with_brake,
    sample_size,
)
from spinney.core.planning.budget import FIRST_POLICY, Candidate, QueueLengths, RoundAllowance, queue_member
from spinney.core.staleness.group_state import NEVER
from spinney.core.timestamps import from_microseconds
from spinney.retraining import judge_input
from spinney.retraining.round_plan import PLANNED_SCHEMA
from spinney.tables.delta import FEW_ROWS

REPORTED_COLUMNS = ("shard", "group_key", "policy", "model_id", "epoch", "predicted_ms")
_CANDIDATE = ("group_key", "policy", "urgency", "stale_since", "predicted_ms", "gain_per_second")
_NOT_CHOSEN_REASON = "the round takes no more groups, and others come before it"


@dataclass(frozen=True)
class DueSummary:
    """Sums over the reports of all shards.

    groups: number of due groups. withheld: number of due groups that were not put forward. rows: number of verdicts.
    clock: the fleet's, microseconds. errors: shard -> groups with a raised error.
    """

    groups: int
    withheld: int
    rows: int
    clock: int
    errors: Mapping[int, RaisedErrors] = field(default_factory=dict)

    @classmethod
    def of(cls, summaries: Sequence[Row]) -> DueSummary:
        """Add up the summary rows of a batch, at least one."""
        numbers = [json.loads(row["numbers"]) for row in summaries]
        groups, withheld, rows = (sum(counts[name] for counts in numbers) for name in ("due", "withheld", "rows"))
        errors = {
            row["shard"]: RaisedErrors(counts["groups"], counts["raised"])
            for row, counts in zip(summaries, numbers, strict=True)
        }
        return cls(groups, withheld, rows, max(row["clock"] for row in summaries), errors)

    def without(self, put_forward: int, withheld: int, rows: int) -> DueSummary:
        """Return the sums without some groups.

        put_forward, withheld: numbers of due groups to subtract. rows: number of their verdicts.
        """
        groups = self.groups - put_forward - withheld
        return replace(self, groups=groups, withheld=self.withheld - withheld, rows=self.rows - rows)


@dataclass(frozen=True)
class RoundRules:
    """Rules by which a round chooses groups. seed: for the random selection and for the brake's sample."""

    allowance: RoundAllowance
    seed: str
    brake: Brake = NO_BRAKE

    def choose(self, candidates: Sequence[Candidate], due: int) -> dict[str, RoundQueue]:
        """Return the chosen groups with the queue that took each. due: number of due groups of the fleet."""
        if self.allowance.is_spent:
            return {}
        return choose_with_brake(candidates, self.allowance, self.seed, self.brake, sample_size(due))

    def reason(self, policy: str | None) -> str:
        """Why a group that is stale by this policy is deferred."""
        is_braked = self.brake.is_on and policy != FIRST_POLICY
        return f"; deferred: {self.brake.reason if is_braked else _NOT_CHOSEN_REASON}"


@dataclass(frozen=True)
class RoundPlan:
    """The groups that a round takes, in rank order, and all verdicts: PLANNED_SCHEMA.

    groups_in: number of due and requested groups, taken or not.
    """

    chosen: Sequence[Candidate]
    verdicts: DataFrame | pa.Table
    groups_in: int


def plan_round(reported: DataFrame, due: DueSummary, rules: RoundRules, few: int = FEW_ROWS) -> RoundPlan:
    """Choose the due groups to fit in this round, and derive all verdicts to record.

    reported: judge_input.VERDICTS with judged_at, persisted. few: up to this many rows are planned in the driver.
    Raises StoreError when the numbers of rows differ from those that the shards counted.
    """
    verdicts = reported.filter(F.col("decision") != judge_input.SUMMARY)
    if due.rows <= few:
        return _plan_in_driver(verdicts, due, rules)
    return _plan_in_spark(verdicts, due, rules)


def _plan_in_driver(verdicts: DataFrame, due: DueSummary, rules: RoundRules) -> RoundPlan:
    rows = verdicts.toArrow().to_pylist()
    candidates = [_candidate(row) for row in rows if row["decision"] == Staleness.FIT]
    _require_count("due groups", due.groups - due.withheld, len(candidates))
    _require_count("verdicts", due.rows, len(rows))
    queues = rules.choose(candidates, due.groups)
    stored = [make_verdict(row, queues.get(row["group_key"]), rules) for row in rows]
    table = pa.Table.from_pylist([row for row in stored if row is not None], schema=PLANNED_SCHEMA)
    return RoundPlan(_in_order(candidates, queues), table, due.groups)


def _plan_in_spark(verdicts: DataFrame, due: DueSummary, rules: RoundRules) -> RoundPlan:
    shortlist = shortlist_candidates(verdicts, due, rules).toArrow().to_pylist()
    candidates = list({row["group_key"]: _candidate(row) for row in shortlist}.values())
    queues = rules.choose(candidates, due.groups)
    names = pd.DataFrame(list(queues.items()), columns=["group_key", "queue"], dtype=object)
    chosen_frame = verdicts.sparkSession.createDataFrame(names, "group_key string, queue string")
    marked = verdicts.join(F.broadcast(chosen_frame), "group_key", "left")
    counts = {row["decision"]: row for row in marked.groupBy("decision").agg(
        F.count("*").alias("rows"), F.count("queue").alias("chosen")
    ).collect()}  # fmt: skip
    _require_count("verdicts", due.rows, sum(row["rows"] for row in counts.values()))
    # Without such rows where every due group is withheld, or is requested and left out here.
    due_counts = counts.get(Staleness.FIT.value, {"rows": 0, "chosen": 0})
    _require_count("due groups", due.groups - due.withheld, due_counts["rows"])
    _require_count("groups of the plan", len(queues), due_counts["chosen"])
    return RoundPlan(_in_order(candidates, queues), _verdict_rows(marked, rules), due.groups)


def shortlist_candidates(verdicts: DataFrame, summary: DueSummary, rules: RoundRules) -> DataFrame:
    """Return the due groups that `rules.choose` can reach. A group may occur more than once."""
    all_due = verdicts.filter(F.col("decision") == Staleness.FIT.value).select(*_CANDIDATE)
    if not rules.brake.is_on:
        return _fronts(all_due, rules)
    is_new = F.col("policy") == FIRST_POLICY
    sample = sample_size(summary.groups) if rules.brake.action is BrakeAction.SAMPLE else 0
    others = all_due.filter(~is_new).orderBy(_drawn(rules.seed), "group_key").limit(sample)
    return _fronts(all_due.filter(is_new), rules).unionByName(others)


def _drawn(seed: str) -> Column:
    """Return `lottery_number` as a Spark column."""
    return F.xxhash64(F.concat(F.lit(seed), F.col("group_key")))


def _fronts(due: DataFrame, rules: RoundRules) -> DataFrame:
    """Return the front of each queue: the groups that a round could take from it."""
    queues = QueueLengths.for_allowance(rules.allowance)
    assert queues is not None, "a round takes budget.max_groups at most"
    # As Candidate.rank.
    by_rank = (F.col("policy") != FIRST_POLICY, F.desc("gain_per_second"), F.desc("urgency"), F.col("group_key"))
    shortlist = due.orderBy(*by_rank).limit(queues.by_rank)
    for order, length in (("stale_since", queues.oldest), (_drawn(rules.seed), queues.random)):
        if length:
            shortlist = shortlist.unionByName(due.orderBy(order, "group_key").limit(length))
    return shortlist


def _in_order(candidates: Sequence[Candidate], queues: Mapping[str, RoundQueue]) -> list[Candidate]:
    """The chosen candidates in the order of `queues`."""
    by_key = {candidate.group_key: candidate for candidate in candidates}
    return [by_key[key] for key in queues]


def _candidate(row: Mapping[str, Any]) -> Candidate:
    return Candidate(*(row[name] for name in _CANDIDATE))


def make_verdict(row: Mapping[str, Any], queue: RoundQueue | None, rules: RoundRules) -> dict[str, Any] | None:
    """Return the row of `verdicts` for a reported row; None for a group that was deferred before and is deferred again.

    queue: the queue that took the group; None if it was not chosen.
    """
    decision, reason, numbers = row["decision"], row["reason"], row["numbers"]
    if queue is not None:
        # A JSON object with at least one member, as the judge writes it.
        numbers = f"{numbers[:-1]},{queue_member(queue)}}}"
    elif decision == Staleness.FIT:
        if row["repeats"]:
            return None
        decision, reason = Staleness.DEFERRED.value, f"{reason}{rules.reason(row['policy'])}"
    return {
        **{name: row[name] for name in REPORTED_COLUMNS},
        "decision": decision,
        "reason": reason,
        "numbers": numbers,
        "stale_since": from_microseconds(row["stale_since"]) if row["stale_since"] != NEVER else None,
        "clock": from_microseconds(row["clock"]) if row["clock"] != NEVER else None,
        "judged_at": from_microseconds(row["judged_at"]),
    }


def _verdict_rows(marked: DataFrame, rules: RoundRules) -> DataFrame:
    """Return `make_verdict` for each row, computed by Spark. marked: reported rows with `queue`, null if not chosen."""
    is_chosen = F.col("queue").isNotNull()
    is_deferred = (F.col("decision") == Staleness.FIT.value) & ~is_chosen
    rows = marked.filter(~is_deferred | (F.col("repeats") == 0))
    why = F.when(F.col("policy") == FIRST_POLICY, rules.reason(FIRST_POLICY)).otherwise(rules.reason(None))
    begin, end = queue_member("|").split("|")
    with_queue = F.expr(f"concat(left(numbers, length(numbers) - 1), ',{begin}', queue, '{end}}}')")
    return rows.select(
        *REPORTED_COLUMNS,
        F.when(is_deferred, Staleness.DEFERRED.value).otherwise(F.col("decision")).alias("decision"),
        F.when(is_deferred, F.concat("reason", why)).otherwise(F.col("reason")).alias("reason"),
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
