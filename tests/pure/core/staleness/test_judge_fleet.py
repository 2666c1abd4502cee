"""Fifty thousand groups that all fall due: evenly, none too late, and no more at once than a round can take."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta
from math import nan

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.champions.promotion import Promotion
from spinney.core.durations import format_duration
from spinney.core.planning.budget import Candidate, QueueLengths, RoundAllowance, choose_groups, lottery_number
from spinney.core.staleness.group_state import GroupStates
from spinney.core.staleness.health_rows import HealthRows
from spinney.core.staleness.judge import (
    DecisionRecord,
    DueLimits,
    JudgeInput,
    JudgeSettings,
    ShardState,
    advance,
    judge,
    report,
)
from spinney.core.staleness.policies import MaxAge, NewGroup, NewRows
from spinney.core.staleness.reconstructed_state import reconstruct_state

HOUR = 3_600_000_000
DAY = 24 * HOUR
START = 1_400_000_000_000_000
GROUPS, SHARDS = 10_000, 8
SPREAD = 0.15
SETTINGS = JudgeSettings(
    (NewGroup(20), NewRows(200), MaxAge(timedelta(days=7), SPREAD)), 20, 0, 365 * DAY, is_wall_clock=False
)
KEYS = [json.dumps([f"store-{n:05d}"]) for n in range(GROUPS)]
HEALTH = HealthRows.empty()


def promoted(keys: list[str], at: int = START) -> list[DecisionRecord]:
    return [DecisionRecord(key, Promotion(0, "m", "promoted", at, at, at), True, at, nan, 1.0) for key in keys]


def clock(at: int) -> JudgeInput:
    return JudgeInput([], [], HealthRows.of_columns({"last_event_time": np.array([at])}, 1))


@pytest.fixture(scope="module")
def after_the_batch() -> list[bytes]:
    """The shards after one weekly batch that fitted every group at START, as bytes."""
    shards = []
    for n in range(SHARDS):
        shard = advance(ShardState.empty(), JudgeInput(promoted(KEYS[n::SHARDS]), [], HEALTH), SETTINGS, START)
        assert judge(shard, SETTINGS, START) == []
        shards.append(shard.to_bytes())
    return shards


def test_a_fleet_of_one_batch_falls_due_evenly_in_the_last_part_of_its_age_and_nobody_after(
    after_the_batch: list[bytes],
) -> None:
    shards = [ShardState.from_bytes(blob) for blob in after_the_batch]
    first = START + 7 * DAY - int(SPREAD * 7 * DAY)  # 25.2 hours before the seven days are over
    steps = [first + n * HOUR * 12 // 10 for n in range(22)]  # 21 steps of 1.2 hours
    due = [0]
    for at in steps:
        shards = [ShardState.from_bytes(advance(shard, clock(at), SETTINGS, at).to_bytes()) for shard in shards]
        due.append(sum(report(shard, SETTINGS, at, DueLimits(1, 0, 0, "r")).due for shard in shards))
    new = np.diff(due).tolist()
    assert new[0] <= 10, "at the earliest deadline"
    assert sum(new) == GROUPS, "after seven days all were due"
    expected = GROUPS / 21
    chi_square = sum((count - expected) ** 2 / expected for count in new[1:])
    assert chi_square < 45.3, "one in a thousand, of 20 degrees of freedom"
    assert max(new) < 1.15 * expected


def test_a_deadline_is_the_groups_own_whoever_asks_and_stands_in_its_verdict(after_the_batch: list[bytes]) -> None:
    at = START + 6 * DAY + 12 * HOUR
    watched = judge(advance(ShardState.from_bytes(after_the_batch[3]), clock(at), SETTINGS, at), SETTINGS, at)
    reported = reconstruct_state(JudgeInput(promoted(KEYS[3::SHARDS][::-1]), [], HEALTH), SETTINGS, at, at)
    found = judge(reported, SETTINGS, at)
    limits = {row["group_key"]: row["numbers"]["limit"] for row in watched}
    assert limits == {row["group_key"]: row["numbers"]["limit"] for row in found}
    assert 0.45 * GROUPS / SHARDS < len(limits) < 0.55 * GROUPS / SHARDS, "of 25.2 hours 13.2 are over"
    row = watched[0]
    assert row["numbers"]["measure"] == 6.5 * DAY
    days = limits[row["group_key"]] / DAY
    assert 7 * (1 - SPREAD) <= days <= 6.5
    deadline = format_duration(timedelta(days=days))
    assert row["reason"] == f"6 days 12 hours since the last attempt (its deadline is {deadline}, at most 7 days)"
    assert row["urgency"] == pytest.approx(6.5 / days)


MOST = DueLimits(by_rank=100, oldest=20, random=10, seed="r")


def test_a_shard_puts_forward_what_a_round_could_take_and_counts_the_others(after_the_batch: list[bytes]) -> None:
    at, total = START + 8 * DAY, GROUPS // SHARDS
    shard = advance(ShardState.from_bytes(after_the_batch[0]), clock(at), SETTINGS, at)
    first = report(shard, SETTINGS, at, MOST)
    reported = Counter(row["decision"] for row in first.rows)
    assert (first.due, reported["fit"] + first.withheld, reported["deferred"]) == (total, total, first.withheld)
    assert 100 <= reported["fit"] <= 130
    deferred = next(row for row in first.rows if row["decision"] == "deferred")
    assert deferred["reason"].endswith("7 days); deferred: a round takes fewer groups than are due in its shard")

    again = report(ShardState.from_bytes(shard.to_bytes()), SETTINGS, at, MOST)
    assert (again.due, again.withheld) == (total, total - len(again.rows))
    assert {(row["decision"], row["repeats"]) for row in again.rows} == {("fit", 1)}, "the others were said to be"

    fronts = sorted(first.rows, key=lambda row: (-row["urgency"], row["group_key"]))[:100]
    drawn = sorted(first.rows, key=lambda row: (lottery_number("r", row["group_key"]), row["group_key"]))[:10]
    oldest = sorted(row["group_key"] for row in first.rows)[:20]
    wanted = {row["group_key"] for row in (*fronts, *drawn)} | set(oldest)
    assert {row["group_key"] for row in again.rows} == wanted


@dataclass(frozen=True)
class Raised:
    """Stands in for `error_rise`: the groups of these keys have a raised error."""

    keys: frozenset[str]
    name: str = "error_rise"

    def limits(self, groups: GroupStates) -> npt.NDArray[np.float64]:
        return np.ones(len(groups))

    def measure(self, groups: GroupStates, clock: int) -> npt.NDArray[np.float64]:
        return np.array([2.0 if key in self.keys else 0.0 for key in groups.keys])

    def describe(self, value: float, limit: float) -> str:
        return "raised"


def test_a_shard_counts_raised_errors_and_says_when_their_number_has_changed() -> None:
    shard = advance(ShardState.empty(), JudgeInput(promoted(KEYS[:5]), [], HEALTH), SETTINGS, START)
    calm, risen = (replace(SETTINGS, policies=(Raised(frozenset(keys)),)) for keys in ([], KEYS[1:3]))
    found = [report(shard, settings, START, MOST) for settings in (calm, risen, risen, calm, calm)]
    assert [(each.errors.groups, each.errors.raised) for each in found] == [(5, 0), (5, 2), (5, 2), (5, 0), (5, 0)]
    assert [each.has_changed_errors for each in found] == [False, True, False, True, False]


def test_a_verdict_keeps_the_numbers_of_each_policy_that_applies_and_names_the_first() -> None:
    shard = advance(ShardState.empty(), JudgeInput(promoted(KEYS[:3]), [], HEALTH), SETTINGS, START)
    at = START + 8 * DAY
    raised = Raised(frozenset(KEYS[:1]))
    found = judge(
        advance(shard, clock(at), SETTINGS, at), replace(SETTINGS, policies=(raised, MaxAge(timedelta(days=7)))), at
    )
    numbers = {row["group_key"]: row["numbers"] for row in found}
    assert [row["policy"] for row in found] == ["error_rise", "max_age", "max_age"]
    assert numbers[KEYS[0]]["measure"] == 2.0
    assert numbers[KEYS[0]]["also"] == {"max_age": {"measure": 8 * DAY, "limit": 7 * DAY}}
    assert "also" not in numbers[KEYS[1]]


def test_the_best_of_every_shard_make_the_round_that_all_would_make(after_the_batch: list[bytes]) -> None:
    """Of 10,000 due groups the driver sees a few; the round is that of a driver that sees them all."""
    at = START + 8 * DAY
    allowance = RoundAllowance(5.0, 0.2, 0.05, groups=20_000, overhead_ms=10.0, cores=2)  # 476 groups of 10.5 ms
    queues = QueueLengths.for_allowance(allowance)
    assert queues == QueueLengths(501, 128, 27)  # 5 s / 10 ms and one more; a quarter and two; a twentieth and one
    most = DueLimits(queues.by_rank, queues.oldest, queues.random, "r")
    all_due, few = [], []
    for blob in after_the_batch:
        shard = advance(ShardState.from_bytes(blob), clock(at), SETTINGS, at)
        all_due += judge(replace(shard, groups=shard.groups.copy()), SETTINGS, at)
        few += [row for row in report(shard, SETTINGS, at, most).rows if row["decision"] == "fit"]
    assert (len(all_due), len(few) <= SHARDS * queues.total) == (GROUPS, True)
    chosen = choose_groups([candidate(row) for row in few], allowance, "r")
    assert chosen == choose_groups([candidate(row) for row in all_due], allowance, "r")
    assert len(chosen) == 477  # the last one taken goes beyond the budget


def candidate(row: dict) -> Candidate:
    names = ("group_key", "policy", "urgency", "stale_since", "predicted_ms", "gain_per_second")
    return Candidate(*(row[name] for name in names))


CANDIDATES = st.lists(
    st.builds(
        Candidate, st.text("abc", min_size=1, max_size=3), st.sampled_from(["new_group", "new_rows", "max_age"]),
        st.integers(0, 3).map(float), st.integers(0, 3), st.sampled_from([0.0, 1.0, 30.0, 500.0]),
        st.sampled_from([0.0, 0.25, 4.0]),
    ),
    unique_by=lambda each: each.group_key, max_size=40,
)  # fmt: skip
ALLOWANCES = st.builds(
    RoundAllowance,
    st.sampled_from([0.001, 0.05, 0.2, 1.0]), st.sampled_from([0.0, 0.2, 0.5]), st.sampled_from([0.0, 0.3]),
    st.sampled_from([1, 3, 10, 1_000]), st.sampled_from([5.0, 20.0]), st.sampled_from([1, 4]),
)  # fmt: skip


@given(CANDIDATES, ALLOWANCES)
def test_what_is_beyond_the_front_of_every_queue_changes_no_round(
    candidates: list[Candidate], allowance: RoundAllowance
) -> None:
    queues = QueueLengths.for_allowance(allowance)
    by_rank = sorted(
        candidates,
        key=lambda each: (each.policy != "new_group", -each.gain_per_second, -each.urgency, each.group_key),
    )
    oldest = sorted(candidates, key=lambda each: (each.stale_since, each.group_key))
    drawn = sorted(candidates, key=lambda each: (lottery_number("lot", each.group_key), each.group_key))
    fronts = {*by_rank[: queues.by_rank], *oldest[: queues.oldest], *drawn[: queues.random]}
    chosen = choose_groups(sorted(fronts, key=lambda each: each.group_key), allowance, "lot")
    assert chosen == choose_groups(candidates, allowance, "lot")
    assert len(chosen) <= allowance.groups
    assert bool(chosen) == bool(candidates)


def test_sealed_groups_refuse_to_be_changed_behind_their_bytes() -> None:
    shard = advance(ShardState.empty(), JudgeInput(promoted(KEYS[:3]), [], HEALTH), SETTINGS, START).sealed()
    before = shard.to_bytes()
    with pytest.raises(ValueError, match="read-only"):
        shard.groups["rows_since"][0] = 7
    copied = shard.groups.copy()
    copied["rows_since"][0] = 7
    assert (shard.to_bytes(), shard.groups.to_bytes() != copied.to_bytes()) == (before, True)
    late = advance(shard, clock(START + 9 * DAY), SETTINGS, START + 9 * DAY)
    judge(late, SETTINGS, START + 9 * DAY)
    assert np.array_equal(ShardState.from_bytes(late.to_bytes()).groups["decision"], ["fit"] * 3), "marks are no secret"
