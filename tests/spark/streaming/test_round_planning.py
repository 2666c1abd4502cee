"""A plan is the same whether the rows of the judge are few and come to the driver, or many and stay in Spark."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial

import pandas as pd
import pyarrow as pa
import pytest

from spinney.core.errors import StoreError
from spinney.core.planning.brake import Brake, BrakeAction, RaisedErrors
from spinney.core.planning.budget import QueueLengths, RoundAllowance
from spinney.core.staleness.group_state import NEVER
from spinney.core.staleness.judge import ShardReport
from spinney.core.timestamps import from_microseconds
from spinney.retraining import judge_input
from spinney.retraining.requested_verdicts import candidates_of
from spinney.retraining.round_plan import PLANNED_SCHEMA
from streaming import requested_groups
from streaming.requested_groups import RequestedGroups, plan_with_requests
from streaming.round_planning import DueSummary, RoundRules, plan_round, shortlist_candidates

NOW = 1_700_000_000_000_000
POLICIES = ("new_group", "error_rise", "new_rows", "max_age")
SHARDS, EACH = 4, 250
BESIDES = {"numbers": {"rows_since": 3}, "model_id": "m", "epoch": 2, "clock": NOW - 5}


def row(n: int) -> dict:
    """Of a thousand groups, 900 are due (those of odd numbers have been for long), 100 have other verdicts."""
    decision = "fit" if n % 10 else ("held", "fresh")[n // 10 % 2]
    return {
        **BESIDES, "group_key": f'["ß{n:04d}"]', "policy": None if decision == "fresh" else POLICIES[n % 4],
        "decision": decision, "reason": f"reason {n}", "stale_since": NEVER if decision == "fresh" else NOW - n % 7,
        "predicted_ms": float(n % 13), "urgency": float(n % 5),
        "gain_per_second": 0.0 if n % 3 else float(n % 17), "repeats": n % 2 if decision == "fit" else 0,
    }  # fmt: skip


def frame(spark):
    """What four shards report, each with ten groups that it withholds."""
    parts = []
    for shard in range(SHARDS):
        rows = [row(n) for n in range(shard * EACH, (shard + 1) * EACH)]
        due = sum(each["decision"] == "fit" for each in rows)
        report = ShardReport(rows, due + 10, 10, RaisedErrors(EACH, shard))
        parts.append(judge_input.report_rows(shard, report, NOW - 5))
    whole = pd.concat(parts, ignore_index=True).astype(object)
    reported = spark.createDataFrame(whole.where(whole.notna(), None), judge_input.VERDICTS)
    return reported.selectExpr("*", f"{NOW}L AS judged_at")


def verdicts_of(plan) -> list[dict]:
    names, rows = PLANNED_SCHEMA.names, plan.verdicts
    if not isinstance(rows, pa.Table):
        rows = rows.select(*names).toArrow().cast(PLANNED_SCHEMA)
    return sorted(rows.select(names).to_pylist(), key=lambda row: row["group_key"])


def test_few_rows_and_many_give_one_plan_and_no_more_come_here_than_a_round_can_take(spark) -> None:
    reported = frame(spark).persist()
    due = DueSummary.of(reported.filter(f"decision = '{judge_input.SUMMARY}'").collect())
    errors = {shard: RaisedErrors(EACH, shard) for shard in range(SHARDS)}
    assert due == DueSummary(groups=940, withheld=40, rows=1_000, clock=NOW - 5, errors=errors)
    allowance = RoundAllowance(0.5, 0.2, 0.1, groups=20_000, overhead_ms=4.0, cores=2)
    rules = RoundRules(allowance, "lot")
    few, many = (plan_round(reported, due, rules, limit) for limit in (1_000, 999))
    assert few.chosen == many.chosen
    assert 40 < len(few.chosen) < 125
    stored = verdicts_of(few)
    assert stored == verdicts_of(many)

    found = Counter(row["decision"] for row in stored)
    chosen = {each.group_key for each in few.chosen}
    waiting = sum(row(n)["decision"] == "fit" and row(n)["group_key"] not in chosen for n in range(0, 1_000, 2))
    assert found == {"fit": len(chosen), "deferred": waiting, "held": 50, "fresh": 50}
    assert {row["group_key"] for row in stored if row["decision"] == "fit"} == chosen
    numbers = {row["group_key"]: json.loads(row["numbers"]) for row in stored if row["decision"] == "fit"}
    assert all(each["rows_since"] == 3 for each in numbers.values())
    assert {each["queue"] for each in numbers.values()} == {"rank", "oldest", "random"}
    (one, *_) = (row for row in stored if row["decision"] == "deferred")
    assert one["numbers"] == '{"rows_since":3}'
    assert one["reason"].endswith("; deferred: the round takes no more groups, and others come before it")

    queues = QueueLengths.for_allowance(allowance)
    assert queues is not None
    assert shortlist_candidates(reported, due, rules).count() == queues.total == 126 + 40 + 14
    for action, taken in ((BrakeAction.SAMPLE, 47), (BrakeAction.HOLD, 0)):  # a twentieth of 940
        braked = RoundRules(RoundAllowance(0.01, groups=2), "lot", Brake(action, 0.4))
        few, many = (plan_round(reported, due, braked, limit) for limit in (1_000, 999))
        assert few.chosen == many.chosen
        assert Counter(each.policy == "new_group" for each in few.chosen) == Counter({True: 2, False: taken})
        of_brake = verdicts_of(few)
        assert of_brake == verdicts_of(many)
        assert sum('"queue":"brake"' in row["numbers"] for row in of_brake) == taken
        why = {row["policy"]: row["reason"] for row in of_brake if row["decision"] == "deferred"}
        assert why["new_group"].endswith("deferred: the round takes no more groups, and others come before it")
        assert why["new_rows"].endswith("; deferred: " + braked.brake.reason)

    more = DueSummary(due.groups, due.withheld, due.rows + 4, due.clock)
    for limit in (1_004, 4):
        with pytest.raises(StoreError, match=r"expected 1004 verdicts, by the shards' own counts; got 1000"):
            plan_round(reported, more, rules, limit)
    reported.unpersist()


def requested_of(keys: list[str]) -> RequestedGroups:
    asked = {"shard": 0, "policy": "manual", "decision": "fit", "reason": "asked for by ada: why", "numbers": "{}"}
    asked |= {"epoch": 0, "judged_at": from_microseconds(NOW), "predicted_ms": 1.0}
    verdicts = pa.Table.from_pylist([{"group_key": key, **asked} for key in keys], schema=PLANNED_SCHEMA)
    return RequestedGroups(tuple(keys), tuple(candidates_of(verdicts)), verdicts)


def test_a_round_is_planned_whose_due_groups_are_all_requested_or_withheld(spark, monkeypatch) -> None:
    rows = [row(1), row(2), row(10)]  # two due, one fresh
    report = judge_input.report_rows(0, ShardReport(rows, 5, 3, RaisedErrors(3, 0)), NOW - 5).astype(object)
    reported = spark.createDataFrame(report.where(report.notna(), None), judge_input.VERDICTS)
    reported = reported.selectExpr("*", f"{NOW}L AS judged_at").persist()
    keys = [row(1)["group_key"], row(2)["group_key"]]
    monkeypatch.setattr(requested_groups, "plan_round", partial(plan_round, few=0))
    due = DueSummary(groups=5, withheld=3, rows=3, clock=NOW - 5)
    plan = plan_with_requests(reported, due, RoundRules(RoundAllowance(9.0, groups=5), "lot"), requested_of(keys))
    assert ([group.group_key for group in plan.chosen], plan.groups_in) == (keys, 5)
    assert Counter(each["decision"] for each in verdicts_of(plan)) == {"fit": 2, row(10)["decision"]: 1}
    reported.unpersist()


def test_a_requested_group_comes_first_and_counts_once_though_it_is_due_too(spark, monkeypatch) -> None:
    reported = frame(spark).persist()
    due = DueSummary.of(reported.filter(f"decision = '{judge_input.SUMMARY}'").collect())
    keys = [row(1)["group_key"], '["asked"]', row(10)["group_key"]]  # due, not reported, fresh
    requested = requested_of(keys)
    rules = RoundRules(RoundAllowance(None, groups=5), "lot")
    found = []
    for few in (1_000, 999):
        monkeypatch.setattr(requested_groups, "plan_round", partial(plan_round, few=few))
        plan = plan_with_requests(reported, due, rules, requested)
        assert [group.group_key for group in plan.chosen[:3]] == keys
        assert (len(plan.chosen), plan.groups_in) == (8, 942), "940 due groups, two of the three besides them"
        found.append(verdicts_of(plan))
    assert found[0] == found[1]
    of_due = [row for row in found[0] if row["group_key"] == keys[0]]
    assert [(row["policy"], row["reason"]) for row in of_due] == [("manual", "asked for by ada: why")]
    of_fresh = [(row["decision"], row["policy"]) for row in found[0] if row["group_key"] == keys[2]]
    assert sorted(of_fresh) in ([("fit", "manual"), ("fresh", None)], [("fit", "manual"), ("held", POLICIES[2])])
    reported.unpersist()


def test_a_requested_group_that_its_shard_withholds_counts_once(spark, monkeypatch) -> None:
    rows = [row(1), row(2), {**row(3), "decision": "deferred"}, row(10)]  # two put forward, one withheld now, one fresh
    report = judge_input.report_rows(0, ShardReport(rows, 6, 4, RaisedErrors(9, 0)), NOW - 5).astype(object)
    reported = spark.createDataFrame(report.where(report.notna(), None), judge_input.VERDICTS)
    reported = reported.selectExpr("*", f"{NOW}L AS judged_at").persist()
    due = DueSummary.of(reported.filter(f"decision = '{judge_input.SUMMARY}'").collect())
    assert (due.groups, due.withheld, due.rows) == (6, 4, 4)
    withheld, unreported = '["withheld before"]', '["of a shard that reports nothing"]'
    keys = [*(row(n)["group_key"] for n in (1, 3, 10)), withheld, unreported]
    deferred = {withheld: 0, row(10)["group_key"]: 0, unreported: 1}  # group 10 has become fresh since
    for few in (1_000, 0):
        monkeypatch.setattr(requested_groups, "plan_round", partial(plan_round, few=few))
        plan = plan_with_requests(
            reported, due, RoundRules(RoundAllowance(None, groups=1), "lot"), requested_of(keys), deferred
        )
        assert [group.group_key for group in plan.chosen] == [*keys, row(2)["group_key"]]
        assert plan.groups_in == 8, "six due groups, and two requested ones besides them"
        of_withheld = [each["decision"] for each in verdicts_of(plan) if each["group_key"] == row(3)["group_key"]]
        assert of_withheld == ["fit"]
    reported.unpersist()
