"""The judge by hand: one shard, a clock that the test moves, attempts answered as a round would answer them."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.champions.promotion import Promotion
from spinney.core.errors import Corrupt
from spinney.core.staleness.group_state import NEVER, STATE_COLUMNS
from spinney.core.staleness.health_rows import HealthRows
from spinney.core.staleness.judge import (
    CODEC,
    VERDICT_COLUMNS,
    DecisionRecord,
    JudgeInput,
    JudgeSettings,
    ShardState,
    UnfittedAttempt,
    advance,
    judge,
)
from spinney.core.staleness.pending_labels import LabelRows
from spinney.core.staleness.policies import ErrorRise, MaxAge, NewGroup, NewRows, NoLabels
from spinney.core.state_codec import encode_batch, join_sections, split_sections

SECOND = 1_000_000
HOUR = 3_600 * SECOND
DAY = 24 * HOUR
MINUTE = 60 * SECOND
START = 1_400_000_000 * SECOND
A, B, PARENT = '["a"]', '["b"]', '{"dest":"LAX"}'
EVENT_CLOCK = JudgeSettings(
    policies=(NewGroup(20), ErrorRise(timedelta(days=365)), NewRows(200), MaxAge(timedelta(days=7))),
    min_rows=20,
    label_delay=0,
    patience=365 * DAY,
    is_wall_clock=False,
)
STALE_BY_ANY_ROW = replace(EVENT_CLOCK, policies=(NewGroup(20), NewRows(1)))
REFERENCE = tuple(np.linspace(0.05, 0.95, 20).tolist())
"""Held-out losses with a mean of 0.5."""
WALL_CLOCK = replace(EVENT_CLOCK, is_wall_clock=True)

Delta = tuple[str | None, str | None, int, float, int]
Verdict = dict[str, Any]


def health(*rows: Delta) -> HealthRows:
    frame = pd.DataFrame(list(rows), columns=["group_key", "model_id", "labelled", "loss", "last_event_time"])
    types = {"group_key": object, "model_id": object, "labelled": "int64", "loss": "float64"}
    return HealthRows.of_frame(frame.astype({**types, "last_event_time": "int64"}))


def decided(model_id: str, decision: str = "promoted", **fields: Any) -> DecisionRecord:
    """A decision about a model of group A.

    fields: group_key, epoch, through, at, clock, loss, fit_ms, by_machine, heldout.
    """
    at = fields.get("at", START)
    promotion = Promotion(fields.get("epoch", 0), model_id, decision, fields.get("through", at), at, at)
    return DecisionRecord(
        fields.get("group_key", A),
        promotion,
        fields.get("by_machine", True),
        fields.get("clock", at),
        fields.get("loss", 1.0),
        fields.get("fit_ms", 4.0),
        fields.get("heldout", ()),
    )


def unfitted(
    status: str, rows: int = 0, *, at: int = START, clock: int | None = None, group_key: str = A
) -> UnfittedAttempt:
    return UnfittedAttempt(group_key, status, rows, at, at if clock is None else clock)


@dataclass
class Bench:
    """A shard and its ticks."""

    terms: JudgeSettings = EVENT_CLOCK
    shard: ShardState = field(default_factory=ShardState.empty)

    def tick(self, *news: DecisionRecord | UnfittedAttempt | Delta, now: int = START) -> list[Verdict]:
        """One batch; the state goes through its bytes, as between any two batches."""
        reported = JudgeInput(
            [row for row in news if isinstance(row, DecisionRecord)],
            [row for row in news if isinstance(row, UnfittedAttempt)],
            health(*(row for row in news if isinstance(row, tuple))),
        )
        shard = advance(ShardState.from_bytes(self.shard.to_bytes()), reported, self.terms, now)
        verdicts = judge(shard, self.terms, now)
        self.shard = shard
        return verdicts

    def known(self, name: str, group_key: str = A) -> Any:
        return self.shard.groups[name][self.shard.groups.keys.index(group_key)]


def rows(labelled: int, *, at: int = START, model: str | None = None, loss: float = 1.0, group: str = A) -> Delta:
    """A delta of so many labelled rows with this mean loss."""
    return (group, model, labelled, loss * labelled, at)


def single_rows(losses: Iterable[float], apart: int, *, model: str = "m1", since: int = START) -> list[Delta]:
    """Deltas of one labelled row each, so far apart, of group A."""
    return [rows(1, model=model, loss=float(loss), at=since + (n + 1) * apart) for n, loss in enumerate(losses)]


def raised(count: int) -> list[Delta]:
    """Rows an hour apart with larger and larger losses, all above those of REFERENCE."""
    return single_rows(np.arange(9.0, 9.0 + count), HOUR)


def outcomes_of(verdicts: list[Verdict]) -> list[tuple[str, str, str | None]]:
    return [(row["group_key"], row["decision"], row["policy"]) for row in verdicts]


# --- new groups -------------------------------------------------------------------------------------------------------


def test_a_shard_without_groups_has_no_verdicts() -> None:
    assert Bench().tick() == []


def test_a_new_group_is_due_at_min_rows_and_not_before() -> None:
    bench = Bench()
    assert bench.tick(rows(19)) == []
    assert outcomes_of(bench.tick(rows(1))) == [(A, "fit", "new_group")]


def test_a_verdict_reports_all_that_a_plan_needs() -> None:
    (verdict,) = Bench().tick(rows(25), now=START + 5)
    assert tuple(verdict) == VERDICT_COLUMNS
    assert verdict == {
        "group_key": A,
        "policy": "new_group",
        "decision": "fit",
        "reason": "no model yet and 25 labelled rows (20 needed)",
        "numbers": {
            "rows_since": 25,
            "champion_rows": 0,
            "wait_rows": 0,
            "refusals": 0,
            "failures": 0,
            "measure": 25.0,
            "limit": 20.0,
            "expected_gain": 0.0,
            "event_rate": 0.0,
        },
        "model_id": None,
        "epoch": 0,
        "stale_since": START + 5,
        "clock": START,
        "predicted_ms": 5.0,
        "urgency": 1.25,
        "gain_per_second": 0.0,
        "repeats": 0,
    }


def test_rows_answered_by_nobody_or_by_a_parent_count_for_the_group() -> None:
    assert outcomes_of(Bench().tick(rows(10), rows(10, model="parents-model"))) == [(A, "fit", "new_group")]


def test_too_few_rows_waits_for_exactly_those_missing() -> None:
    bench = Bench()
    bench.tick(rows(20))
    ((_, decision, _),) = outcomes_of(bench.tick(unfitted("too_few_rows", rows=13)))
    assert decision == "refused"
    assert bench.known("wait_rows") == 7
    assert bench.tick(rows(6)) == []
    assert outcomes_of(bench.tick(rows(1))) == [(A, "fit", "new_group")]


def test_rows_that_were_counted_before_they_were_stored_are_looked_for_again_without_a_new_one() -> None:
    bench = Bench()
    bench.tick(rows(20))
    assert outcomes_of(bench.tick(unfitted("too_few_rows", rows=17))) == [(A, "refused", "new_group")]
    assert bench.tick(now=START + 10 * SECOND - 1) == []
    assert outcomes_of(bench.tick(now=START + 10 * SECOND)) == [(A, "fit", "new_group")]
    # Some more are stored by now: the next look is as soon as the first.
    later = START + 20 * SECOND
    bench.tick(unfitted("too_few_rows", rows=19, at=later), now=later)
    assert bench.known("retry_at") == later + 10 * SECOND
    bench.tick(decided("m1", at=later + 11 * SECOND), now=later + 11 * SECOND)
    assert (bench.known("retry_at"), bench.known("wait_rows"), bench.known("failures")) == (NEVER, 0, 0)


def test_a_group_that_finds_too_few_rows_is_looked_at_ever_more_rarely_and_at_last_once_a_day() -> None:
    bench, now, looks = Bench(), START, []
    bench.tick(rows(20))
    for _ in range(15):
        bench.tick(unfitted("too_few_rows", rows=17, at=now), now=now)
        looks.append((int(bench.known("retry_at")) - now) // SECOND)
        now = int(bench.known("retry_at"))
        assert outcomes_of(bench.tick(now=now)) == [(A, "fit", "new_group")]
    assert looks == [10, 40, 160, 640, 2_560, 10_240, 40_960, *[86_400] * 8]


def test_new_rows_end_the_waiting_for_the_next_look_of_the_day() -> None:
    bench, now = Bench(), START
    bench.tick(rows(20))
    for _ in range(10):
        bench.tick(unfitted("too_few_rows", rows=17, at=now), now=now)
        now = int(bench.known("retry_at"))
    bench.tick(unfitted("too_few_rows", rows=17, at=now), now=now)
    assert bench.tick(rows(2), now=now + 1) == []
    assert outcomes_of(bench.tick(rows(1), now=now + 2)) == [(A, "fit", "new_group")]


def test_attempts_that_found_too_few_rows_are_not_reported_as_failed_fits() -> None:
    bench = Bench()
    bench.tick(rows(20))
    bench.tick(unfitted("too_few_rows", rows=17))
    (reported,) = bench.tick(now=START + 10 * SECOND)
    assert (reported["numbers"]["wait_rows"], reported["numbers"]["failures"]) == (3, 0)
    bench.tick(unfitted("failed", at=START + 11 * SECOND), now=START + 11 * SECOND)
    (reported,) = bench.tick(now=START + 2 * DAY)
    assert (reported["numbers"]["wait_rows"], reported["numbers"]["failures"]) == (0, 1)


def test_new_rows_end_the_waiting_of_too_few_before_its_time() -> None:
    bench = Bench()
    bench.tick(rows(20))
    bench.tick(unfitted("too_few_rows", rows=17))
    assert outcomes_of(bench.tick(rows(3), now=START + 1)) == [(A, "fit", "new_group")]


def test_rows_that_an_attempt_found_count_towards_the_first_model() -> None:
    bench = Bench()
    bench.tick(unfitted("too_few_rows", rows=18))
    assert bench.tick(rows(1)) == []
    assert outcomes_of(bench.tick(rows(1))) == [(A, "fit", "new_group")]


# --- deferral ---------------------------------------------------------------------------------------------------------


def test_a_deferred_group_is_put_forward_again_and_marked_as_repeated() -> None:
    bench = Bench()
    reported = [bench.tick(rows(20), now=START), bench.tick(now=START + 10), bench.tick(now=START + 20)]
    assert [(row["decision"], row["repeats"], row["stale_since"]) for (row,) in reported] == [
        ("fit", 0, START),
        ("fit", 1, START),
        ("fit", 1, START),
    ]


def test_a_deferred_group_with_another_reason_is_news() -> None:
    bench = Bench()
    bench.tick(decided("m1", heldout=REFERENCE))
    assert bench.tick(rows(200, model=None))[0]["repeats"] == 0
    assert bench.tick()[0]["repeats"] == 1
    (verdict,) = bench.tick(*raised(8))
    assert (verdict["policy"], verdict["repeats"], verdict["stale_since"]) == ("error_rise", 0, START)


def test_an_attempt_begins_the_count_of_repeats_anew() -> None:
    bench = Bench()
    bench.tick(rows(20))
    bench.tick()
    bench.tick(unfitted("failed"))
    (verdict,) = bench.tick(now=START + 300 * SECOND)
    assert (verdict["decision"], verdict["repeats"]) == ("fit", 0)


# --- age --------------------------------------------------------------------------------------------------------------


def test_age_counts_from_the_last_attempt_by_the_event_clock() -> None:
    bench = Bench()
    bench.tick(decided("m1"))
    assert bench.tick(rows(1, at=START + 7 * DAY - 1), now=START + 99 * DAY) == []
    (verdict,) = bench.tick(rows(1, at=START + 7 * DAY))
    assert (verdict["decision"], verdict["policy"]) == ("fit", "max_age")
    assert verdict["numbers"]["measure"] == 7 * DAY


def test_age_counts_by_the_wall_clock_where_that_is_the_fleets() -> None:
    bench = Bench(WALL_CLOCK)
    bench.tick(decided("m1"))
    assert bench.tick((A, None, 0, 0.0, START + 99 * DAY), now=START + 7 * DAY - 1) == []
    assert outcomes_of(bench.tick(now=START + 7 * DAY)) == [(A, "fit", "max_age")]


@pytest.mark.parametrize("decision", ["promoted", "unproven", "kept", "held", "refused"])
def test_age_counts_from_an_attempt_whatever_was_decided(decision: str) -> None:
    bench = Bench()
    bench.tick(decided("m1"))
    later = START + 5 * DAY
    bench.tick(decided("m2", decision, at=later))
    assert bench.tick((None, None, 0, 0.0, START + 7 * DAY)) == []
    assert outcomes_of(bench.tick(rows(50, at=later + 7 * DAY)))[0][2] == "max_age"


def test_a_quiet_group_ages_by_the_ticks_of_the_others() -> None:
    bench = Bench()
    bench.tick(decided("m1"))
    assert outcomes_of(bench.tick((None, None, 0, 0.0, START + 8 * DAY))) == [(A, "fit", "max_age")]
    assert bench.shard.groups.keys == [A]


def test_the_event_clock_never_runs_backwards() -> None:
    bench = Bench()
    bench.tick((None, None, 0, 0.0, START + DAY))
    bench.tick((None, None, 0, 0.0, START))
    assert bench.shard.clock == START + DAY


def test_the_wall_clock_never_runs_backwards() -> None:
    bench = Bench(WALL_CLOCK)
    bench.tick(now=START + DAY)
    bench.tick(now=START)
    assert bench.shard.clock == START + DAY


def test_news_of_an_older_attempt_does_not_make_a_group_older() -> None:
    bench = Bench()
    bench.tick(decided("m2", at=START + 2 * DAY))
    bench.tick(decided("m1", at=START))
    assert bench.known("attempted_at") == START + 2 * DAY


def test_the_clock_starts_with_the_first_news() -> None:
    assert ShardState.empty().clock == NEVER
    bench = Bench()
    bench.tick()
    assert bench.shard.clock == NEVER
    bench.tick(unfitted("failed", at=START + 5, clock=7))
    assert bench.shard.clock == 7


def test_a_parent_ages_and_is_not_kept_waiting_for_rows_that_never_come() -> None:
    bench = Bench()
    bench.tick(decided("m1", group_key=PARENT))
    bench.tick(decided("m2", "refused", group_key=PARENT, at=START + DAY))
    bench.tick(decided("m1", "kept", group_key=PARENT, at=START + 2 * DAY))
    assert bench.tick((None, None, 0, 0.0, START + 8 * DAY)) == []
    assert outcomes_of(bench.tick((None, None, 0, 0.0, START + 9 * DAY))) == [(PARENT, "fit", "max_age")]


def test_a_parent_without_a_model_is_not_asked_for_by_the_stream() -> None:
    bench = Bench()
    assert bench.tick(unfitted("too_few_rows", rows=5, group_key=PARENT), (None, None, 0, 0.0, START + 99 * DAY)) == []


# --- rows and errors --------------------------------------------------------------------------------------------------


def test_new_rows_count_from_the_last_attempt() -> None:
    bench = Bench()
    bench.tick(rows(10), decided("m1"))
    assert bench.known("rows_since") == 10, "rows that come with the news of an attempt are new"
    bench.tick(decided("m2", at=START + 1))
    assert bench.tick(rows(199)) == []
    assert outcomes_of(bench.tick(rows(1))) == [(A, "fit", "new_rows")]


def test_losses_above_all_of_the_reference_are_a_risen_error_after_a_few_rows() -> None:
    bench = Bench()
    bench.tick(decided("m1", loss=0.5, heldout=REFERENCE))
    assert bench.tick(*raised(2)) == []
    (verdict,) = bench.tick(*raised(8)[2:])
    assert outcomes_of([verdict]) == [(A, "fit", "error_rise")]
    assert verdict["numbers"]["evidence"] == pytest.approx(bench.known("evidence"), rel=1e-5)
    assert verdict["numbers"]["measure"] >= verdict["numbers"]["limit"] == 1
    # The eight losses are 9 to 16. With weights of 1, 29/30, (29/30)² … from the newest their mean is 12.6778.
    assert (verdict["numbers"]["recent_loss"], verdict["numbers"]["reference_loss"]) == (12.6778, 0.5)
    assert "recent losses are 25.4 times those of the held-out rows" in verdict["reason"]


def test_losses_like_those_of_the_reference_are_no_risen_error() -> None:
    bench = Bench()
    bench.tick(decided("m1", loss=0.5, heldout=REFERENCE))
    losses = np.random.default_rng(1).permutation(np.tile(REFERENCE, 5))
    assert bench.tick(*single_rows(losses, MINUTE)) == []
    assert 0 < bench.known("evidence") < 1


def test_the_losses_of_a_row_of_health_count_one_by_one() -> None:
    bench = Bench()
    bench.tick(decided("m1", loss=0.5, heldout=REFERENCE))
    together = health(rows(20, model="m1", loss=18.5, at=START + 8 * HOUR))
    together.losses[0] = np.arange(9.0, 29.0)
    shard = advance(bench.shard, JudgeInput([], [], together), EVENT_CLOCK, START)
    assert outcomes_of(judge(shard, EVENT_CLOCK, START)) == [(A, "fit", "error_rise")]
    bench.tick(rows(20, model="m1", loss=18.5, at=START + 8 * HOUR))
    assert (bench.known("evidence"), bench.known("champion_rows")) == (0, 20), "their losses are not known"


def test_a_champion_without_a_reference_is_compared_with_its_own_first_losses() -> None:
    bench = Bench()
    bench.tick(decided("imported", loss=nan))
    first = np.random.default_rng(2).permutation(REFERENCE)
    assert bench.tick(*single_rows(first, MINUTE, model="imported")) == []
    (verdict,) = bench.tick(*single_rows(np.arange(9.0, 17.0), HOUR, model="imported", since=START + HOUR))
    assert outcomes_of([verdict]) == [(A, "fit", "error_rise")]
    assert "reference_loss" not in verdict["numbers"]


def test_evidence_below_the_limit_goes_on_with_the_next_champion_and_is_spent_at_it() -> None:
    bench = Bench()
    bench.tick(decided("m1", loss=0.5, heldout=REFERENCE))
    bench.tick(*raised(3))
    before = bench.known("evidence")
    assert 0 < before < 1
    bench.tick(decided("m2", at=START + 4 * HOUR, heldout=(99.0,) * 20))
    assert bench.known("evidence") == before
    assert 99 not in bench.shard.encoded_evidence.value.samples.values[0], "compared with the losses before m2"
    bench.tick(*single_rows(np.arange(9.0, 15.0), HOUR, model="m2", since=START + 4 * HOUR))
    assert bench.known("evidence") >= 1
    bench.tick(decided("m3", at=START + 11 * HOUR, heldout=REFERENCE))
    assert bench.known("evidence") == 0
    assert bench.shard.encoded_evidence.value.samples.counts.tolist() == [20], "compared with its held-out losses"
    bench.tick(*single_rows([0.01], HOUR, model="m3", since=START + 11 * HOUR))
    assert 0 < bench.known("evidence") < 1e-4


def test_late_labels_of_the_champion_before_are_evidence_until_the_first_label_of_the_champion() -> None:
    bench = Bench()
    bench.tick(decided("m1", loss=0.5, heldout=REFERENCE))
    bench.tick(*raised(2))
    before = bench.known("evidence")
    bench.tick(decided("m2", at=START + 3 * HOUR))
    late = START + 3 * HOUR + MINUTE
    bench.tick(rows(1, model="m1", loss=40.0, at=late), rows(1, model="m0", loss=40.0, at=late))
    risen = bench.known("evidence")
    assert risen > 2 * before
    assert bench.shard.encoded_evidence.value.samples.counts.tolist() == [20 + 2 + 1], "m0 is not the one before"
    assert (bench.known("champion_rows"), bench.known("recent_weight"), bench.known("rows_since")) == (0, 0, 2)
    bench.tick(rows(1, model="m2", loss=0.4, at=START + 4 * HOUR), rows(1, model="m1", loss=40.0, at=START + 5 * HOUR))
    assert bench.known("evidence") < risen
    assert bench.shard.encoded_evidence.value.samples.counts.tolist() == [20 + 3 + 1]


def test_labels_of_a_withdrawn_model_are_no_evidence_against_the_model_before_it() -> None:
    bench = Bench()
    bench.tick(decided("m1", loss=0.5, heldout=REFERENCE))
    bench.tick(*raised(2))
    bench.tick(decided("m2", at=START + 3 * HOUR))
    bench.tick(decided("m2", "withdrawn", at=START + 4 * HOUR))
    before = bench.known("evidence")
    bench.tick(rows(1, model="m2", loss=40.0, at=START + 4 * HOUR))
    assert (bench.known("champion_id"), bench.known("evidence")) == ("m1", before)


def test_only_the_champions_own_answers_accuse_it() -> None:
    bench = Bench()
    bench.tick(decided("m1", loss=0.5, heldout=REFERENCE))
    others = [(key, "m0", *counts) for key, _, *counts in raised(8)]
    assert bench.tick(*others, rows(40, model=None, loss=9.0)) == []
    assert (bench.known("champion_rows"), bench.known("evidence")) == (0, 0)


def test_the_recent_error_forgets_by_rows() -> None:
    bench = Bench()
    bench.tick(decided("m1"))
    bench.tick(rows(1, model="m1", loss=8.0))
    assert (bench.known("recent_weight"), bench.known("recent_loss")) == (pytest.approx(1.0), pytest.approx(8.0))
    bench.tick(rows(2, model="m1", loss=2.0))
    kept = 29 / 30  # weights of 1, kept, kept² from the newest
    assert bench.known("recent_weight") == pytest.approx(1 + kept + kept**2)
    assert bench.known("recent_loss") == pytest.approx(2 + 2 * kept + 8 * kept**2)


def test_labels_that_come_together_are_counted_from_the_oldest() -> None:
    bench = Bench()
    bench.tick(decided("m1"))
    bench.tick(rows(1, model="m1", loss=2.0, at=START + 2), rows(1, model="m1", loss=8.0, at=START + 1))
    assert bench.known("recent_loss") == pytest.approx(2 + 8 * 29 / 30)


def test_a_sum_of_losses_that_is_no_number_leaves_the_recent_error_alone() -> None:
    bench = Bench()
    bench.tick(decided("m1"))
    bench.tick((A, "m1", 1, float("inf"), START), (A, "m1", 1, nan, START), rows(1, model="m1", loss=3.0))
    assert bench.known("recent_loss") == pytest.approx(3.0)
    assert (bench.known("champion_rows"), bench.known("rows_since")) == (1, 3)


def test_a_new_champion_is_not_accused_by_the_errors_of_the_one_before() -> None:
    bench = Bench()
    bench.tick(decided("m1", loss=0.5, heldout=REFERENCE))
    bench.tick(*raised(8))
    assert bench.tick(decided("m2", at=START + 9 * HOUR, loss=0.5), *raised(8)) == []
    assert (bench.known("champion_id"), bench.known("champion_rows"), bench.known("baseline")) == ("m2", 0, 0.5)


def test_the_first_labels_of_a_new_champion_are_counted_as_its_own() -> None:
    bench = Bench()
    bench.tick(rows(3, model="m1"), decided("m1"))
    assert bench.known("champion_rows") == 3


def test_a_group_whose_error_falls_again_is_called_fresh_once() -> None:
    bench = Bench()
    bench.tick(decided("m1", loss=0.5, heldout=REFERENCE))
    bench.tick(*raised(9))
    (verdict,) = bench.tick(*single_rows([0.01] * 20, MINUTE, since=START + 9 * HOUR))
    assert (verdict["decision"], verdict["policy"], verdict["stale_since"]) == ("fresh", None, NEVER)
    assert verdict["reason"] == "no policy asks for a refit"
    assert bench.tick() == []


# --- maturity ---------------------------------------------------------------------------------------------------------


def test_labels_are_not_counted_before_they_are_mature_by_the_event_clock() -> None:
    bench = Bench(replace(EVENT_CLOCK, label_delay=HOUR))
    assert bench.tick(rows(20)) == []
    assert bench.tick((None, None, 0, 0.0, START + HOUR - 1), now=START + DAY) == []
    assert outcomes_of(bench.tick((None, None, 0, 0.0, START + HOUR))) == [(A, "fit", "new_group")]


def test_labels_are_not_counted_before_they_are_mature_by_the_wall_clock() -> None:
    bench = Bench(replace(WALL_CLOCK, label_delay=HOUR))
    assert bench.tick(rows(20), now=START + HOUR - 1) == []
    assert outcomes_of(bench.tick(now=START + HOUR)) == [(A, "fit", "new_group")]


# --- refusals and failures --------------------------------------------------------------------------------------------


def test_a_refusal_waits_for_new_rows_twice_as_many_each_time() -> None:
    bench = Bench(STALE_BY_ANY_ROW)
    bench.tick(decided("m1", loss=0.5))
    bench.tick(rows(30, model="m1", loss=9.0))
    waited = []
    for attempt in range(1, 5):
        bench.tick(decided(f"c{attempt}", "refused", at=START + attempt))
        count = 0
        while True:
            count += 1
            if any(row["decision"] == "fit" for row in bench.tick(rows(1, model="m1", loss=9.0))):
                break
        waited.append(count)
    assert waited == [10, 20, 40, 80]  # half of min_rows, doubled


def test_a_refusal_settles_that_the_champion_is_not_worse_and_staleness_begins_anew() -> None:
    bench = Bench(STALE_BY_ANY_ROW)
    bench.tick(decided("m1"))
    (before,) = bench.tick(rows(1), now=START + 1)
    (after,) = bench.tick(decided("c1", "refused", at=START + 2), rows(1), now=START + 3)
    assert (before["stale_since"], after["stale_since"]) == (START + 1, START + 3)


def test_a_withdrawal_waits_for_rows_like_one_refusal() -> None:
    bench = Bench()
    bench.tick(decided("m1"), decided("m1", "withdrawn", at=START + 1))
    assert (bench.known("refusals"), bench.known("wait_rows"), bench.known("champion_id")) == (1, 10, "")


def test_a_withdrawal_beside_a_refused_challenger_doubles_no_wait_and_the_model_before_is_the_champion_again() -> None:
    bench = Bench()
    bench.tick(decided("m1"))
    bench.tick(decided("m2", at=START + 1))
    bench.tick(decided("m2", "withdrawn", at=START + 2, loss=nan, fit_ms=nan), decided("c3", "refused", at=START + 2))
    assert (bench.known("refusals"), bench.known("wait_rows"), bench.known("champion_id")) == (1, 10, "m1")


def test_a_due_verdict_names_the_model_before_the_champion_and_the_time_of_the_last_attempt() -> None:
    bench = Bench(STALE_BY_ANY_ROW)
    bench.tick(decided("m1"))
    bench.tick(decided("m2", at=START + 1))
    (verdict,) = bench.tick(rows(1))
    assert verdict["numbers"]["predecessor"] == {"model_id": "m1", "since": bench.known("attempted_at")}


def test_a_due_verdict_names_none_for_a_champion_that_no_machine_may_withdraw() -> None:
    bench = Bench(STALE_BY_ANY_ROW)
    bench.tick(decided("m1"))
    bench.tick(decided("m2", by_machine=False, at=START + 1, epoch=1))
    (verdict,) = bench.tick(rows(1))
    assert "predecessor" not in verdict["numbers"]


def test_a_refused_group_says_what_it_waits_for_once() -> None:
    bench = Bench(STALE_BY_ANY_ROW)
    bench.tick(decided("m1"))
    bench.tick(rows(30))
    (verdict,) = bench.tick(decided("c1", "refused", at=START + 1), rows(1))
    assert verdict["decision"] == "refused"
    assert verdict["reason"] == "1 new rows since the last attempt (limit 1); waits for new rows: 1 of 10 came"
    assert bench.tick(rows(1)) == []


def test_a_refused_group_waits_for_its_rows_until_its_age_is_due_and_then_for_one_row() -> None:
    bench = Bench(replace(EVENT_CLOCK, policies=(NewGroup(20), NewRows(1), MaxAge(timedelta(days=7)))))
    bench.tick(decided("m1"))
    bench.tick(decided("m2", "refused", at=START + HOUR))
    (verdict,) = bench.tick(rows(1, at=START + DAY))
    assert verdict["reason"] == "1 new rows since the last attempt (limit 1); waits for new rows: 1 of 10 came"
    at = START + HOUR + 7 * DAY
    assert outcomes_of(bench.tick((None, None, 0, 0.0, at - 1))) == []
    assert outcomes_of(bench.tick((None, None, 0, 0.0, at))) == [(A, "fit", "new_rows")]
    bench.tick(decided("m3", "refused", at=at))
    assert outcomes_of(bench.tick((None, None, 0, 0.0, at + 7 * DAY))) == [(A, "refused", "max_age")], "no row is new"


def test_a_promotion_ends_the_back_off_of_refusals() -> None:
    bench = Bench()
    bench.tick(decided("m1"), decided("c1", "refused", at=START + 1), decided("c2", "refused", at=START + 2))
    assert (bench.known("refusals"), bench.known("wait_rows")) == (2, 20)
    bench.tick(decided("m2", at=START + 3))
    assert (bench.known("refusals"), bench.known("wait_rows")) == (0, 0)


def test_a_kept_model_waits_for_a_row_that_it_has_not_seen() -> None:
    bench = Bench()
    bench.tick(decided("m1"))
    bench.tick(rows(200))
    bench.tick(decided("m1", "kept", through=0, at=START + 1))
    (verdict,) = bench.tick((None, None, 0, 0.0, START + 8 * DAY))
    assert outcomes_of([verdict]) == [(A, "refused", "max_age")]
    assert outcomes_of(bench.tick(rows(1, model="m1", at=START + 8 * DAY))) == [(A, "fit", "max_age")]


@pytest.mark.parametrize("status", ["failed", "timed_out"])
def test_a_failure_waits_for_time_twice_as_long_each_time_and_a_day_at_most(status: str) -> None:
    bench = Bench()
    bench.tick(rows(20))
    now, waits = START, []
    for _ in range(11):
        ((_, decision, _),) = outcomes_of(bench.tick(unfitted(status, at=now), now=now))
        assert decision == "refused"
        wait = int(bench.known("retry_at")) - now
        assert bench.tick(rows(500), now=now + wait - 1) == []
        now += wait
        assert outcomes_of(bench.tick(now=now)) == [(A, "fit", "new_group")]
        waits.append(wait // SECOND)
    assert waits == [300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 76800, 86400, 86400]


def test_a_failed_group_says_so() -> None:
    bench = Bench()
    bench.tick(rows(20))
    (verdict,) = bench.tick(unfitted("failed"), now=START + 60 * SECOND)
    assert verdict["reason"] == (
        "no model yet and 20 labelled rows (20 needed); failed fits in a row: 1, the next try waits 4 minutes"
    )


@pytest.mark.parametrize("stale", [[rows(200, model=None)], raised(8), [(None, None, 0, 0.0, START + 7 * DAY)]])
def test_a_failed_fit_leaves_what_was_stale_stale(stale: list[Delta]) -> None:
    bench = Bench()
    bench.tick(decided("m1", heldout=REFERENCE))
    (before,) = bench.tick(*stale, now=START)
    bench.tick(unfitted("failed", at=START, clock=stale[-1][4]), now=START)
    (again,) = bench.tick(now=START + 300 * SECOND)
    assert (again["decision"], again["policy"]) == ("fit", before["policy"])
    assert again["stale_since"] == before["stale_since"], "no model came: it has been stale all along"


def test_a_success_ends_the_back_off_of_failures() -> None:
    bench = Bench()
    bench.tick(unfitted("failed"), unfitted("failed", at=START + 1))
    assert bench.known("failures") == 2
    bench.tick(decided("m1", at=START + 2))
    assert (bench.known("failures"), bench.known("retry_at")) == (0, NEVER)


def test_too_few_rows_is_no_failure() -> None:
    bench = Bench()
    bench.tick(rows(20), unfitted("failed"))
    (verdict,) = bench.tick(unfitted("too_few_rows", rows=15, at=START + 1), now=START + 1)
    assert verdict["reason"].endswith(
        "; waits for new rows: 0 of 5 came, or 10 seconds for rows that are counted and not stored yet"
    )
    assert bench.known("failures") == 1


def test_attempts_that_found_too_few_rows_are_no_failures_in_a_row() -> None:
    bench = Bench()
    bench.tick(rows(20), *(unfitted("too_few_rows", rows=15, at=START + n) for n in range(3)))
    bench.tick(unfitted("failed", at=START + 9))
    assert (bench.known("failures"), bench.known("wait_rows")) == (1, 0)
    assert bench.known("retry_at") == START + 9 + 300 * SECOND


@pytest.mark.parametrize("first", ["failed", "promoted"])
def test_attempts_of_one_batch_count_in_the_order_of_time(first: str) -> None:
    early, late = START, START + 1
    failed = unfitted("failed", at=early if first == "failed" else late)
    promoted = decided("m1", at=late if first == "failed" else early)
    bench = Bench()
    bench.tick(promoted, failed)
    assert bench.known("failures") == (0 if first == "failed" else 1)


def test_no_group_is_refitted_in_a_loop_however_often_it_is_refused() -> None:
    bench = Bench(STALE_BY_ANY_ROW)
    bench.tick(decided("m1"))
    attempts = []
    answer: list[DecisionRecord] = []
    for tick in range(200):
        now = START + tick * 10 * SECOND
        verdicts = bench.tick(rows(10, model="m1", loss=9.0, at=now), *answer, now=now)
        answer = [decided(f"c{tick}", "refused", at=now) for row in verdicts if row["decision"] == "fit"]
        attempts += [tick] * len(answer)
    assert len(attempts) == 8  # at once, then 10, 20 … 640 rows later; 1,280 more never come
    gaps = np.diff(attempts)
    assert (gaps[1:] >= 1.5 * gaps[:-1]).sum() >= len(gaps) - 2


def test_no_group_is_refitted_in_a_loop_when_its_only_model_is_withdrawn() -> None:
    bench = Bench()
    bench.tick(rows(20), decided("m1"))
    answer: list[DecisionRecord] = [decided("m1", "withdrawn", at=START + 1)]
    attempts = 0
    for tick in range(2, 100):
        verdicts = bench.tick(*answer, now=START + tick)
        # The same rows make the same model again; withdrawn is final for machines.
        answer = [decided("m1", at=START + tick) for row in verdicts if row["decision"] == "fit"]
        attempts += len(answer)
    assert attempts == 0
    assert outcomes_of(bench.tick(rows(10))) == [(A, "fit", "new_group")]
    bench.tick(decided("m1", at=START + 1000))
    assert bench.known("wait_rows") == 20, "a model that cannot answer settles nothing"


# --- people -----------------------------------------------------------------------------------------------------------


def pin(model_id: str, **fields: Any) -> DecisionRecord:
    return decided(model_id, "pinned", by_machine=False, loss=nan, fit_ms=nan, **fields)


def test_a_pinned_stale_group_is_held_and_says_so_once() -> None:
    bench = Bench()
    bench.tick(decided("m1"))
    (verdict,) = bench.tick(pin("m1", at=START + 1), rows(200))
    assert (verdict["decision"], verdict["policy"]) == ("held", "new_rows")
    assert verdict["reason"] == "200 new rows since the last attempt (limit 200); pinned by a person"
    assert bench.tick() == []


def test_a_group_whose_labels_stop_is_reported_once_and_not_refitted_until_they_come_again() -> None:
    bench = Bench(replace(EVENT_CLOCK, policies=(NewGroup(20), NoLabels(timedelta(days=3)), MaxAge(timedelta(days=7)))))
    bench.tick(decided("m1"), *(rows(1, at=START + n * HOUR) for n in range(48)))
    assert bench.tick(rows(0, at=START + 4 * DAY)) == []
    (verdict,) = bench.tick(rows(0, at=START + 9 * DAY))
    assert (verdict["decision"], verdict["policy"]) == ("held", "no_labels")
    assert verdict["reason"].endswith("(limit 3 days); not refitted without them")
    assert "max_age" in verdict["numbers"]["also"]
    assert bench.tick(rows(0, at=START + 10 * DAY)) == []
    assert outcomes_of(bench.tick(rows(1, at=START + 10 * DAY))) == [(A, "fit", "max_age")]


def test_an_unpinned_stale_group_is_due() -> None:
    bench = Bench()
    bench.tick(decided("m1"), pin("m1", at=START + 1), rows(200))
    released = decided("m1", epoch=1, at=START + 2, by_machine=False)
    (verdict,) = bench.tick(released)
    assert (verdict["decision"], verdict["epoch"], verdict["model_id"]) == ("fit", 1, "m1")


def test_a_promotion_of_an_older_epoch_changes_no_champion() -> None:
    bench = Bench()
    bench.tick(decided("m1"), decided("m0", epoch=1, at=START + 1, by_machine=False))
    bench.tick(decided("m2", epoch=0, at=START + 2))
    assert (bench.known("champion_id"), bench.known("epoch")) == ("m0", 1)
    assert bench.known("attempted_at") == START + 2, "but it was an attempt"


def test_a_persons_decision_is_no_attempt_and_ends_what_machines_wait_for() -> None:
    bench = Bench()
    bench.tick(decided("m1"), decided("c1", "refused", at=START + 1), rows(5))
    assert bench.known("wait_rows") == 10
    bench.tick(decided("m0", epoch=1, at=START + DAY, by_machine=False))
    assert (bench.known("wait_rows"), bench.known("refusals")) == (0, 0)
    assert (bench.known("attempted_at"), bench.known("rows_since")) == (START + 1, 5)


def test_a_model_brought_in_by_a_person_ages_from_its_arrival() -> None:
    bench = Bench()
    bench.tick(decided("imported", by_machine=False, through=0))
    assert bench.tick((None, None, 0, 0.0, START + 7 * DAY - 1)) == []
    assert outcomes_of(bench.tick((None, None, 0, 0.0, START + 7 * DAY))) == [(A, "fit", "max_age")]


# --- costs, news, bytes -----------------------------------------------------------------------------------------------


def test_the_cost_of_a_fit_is_predicted_from_the_groups_last_one_or_the_shards_mean() -> None:
    bench = Bench()
    bench.tick(decided("m1", fit_ms=2.0), decided("m2", group_key=B, fit_ms=4.0))
    reported = bench.tick(rows(200), rows(200, group=B), rows(20, group='["new"]'))
    assert {row["group_key"]: row["predicted_ms"] for row in reported} == {A: 2.0, B: 4.0, '["new"]': 3.0}


def test_an_attempt_that_fitted_nothing_leaves_the_predicted_cost() -> None:
    bench = Bench()
    bench.tick(decided("m1", fit_ms=2.0))
    bench.tick(decided("m1", "kept", at=START + 1, fit_ms=nan))
    assert bench.known("fit_ms") == 2.0


def test_a_promoted_group_has_no_further_verdict_until_it_is_stale() -> None:
    bench = Bench()
    bench.tick(rows(20))
    for tick in range(5):
        assert bench.tick(*([decided("m1")] if tick == 0 else []), rows(10, model="m1")) == []


def test_advancing_leaves_the_shard_before_as_it_was() -> None:
    bench = Bench()
    bench.tick(decided("m1"), rows(5))
    before = bench.shard.to_bytes()
    advance(bench.shard, JudgeInput([decided("m2", at=START + 1)], [], health(rows(3, group=B))), EVENT_CLOCK, START)
    assert bench.shard.to_bytes() == before


def test_a_shard_survives_as_bytes() -> None:
    bench = Bench(replace(EVENT_CLOCK, label_delay=HOUR))
    bench.tick(decided("m1"), pin("m1", group_key=B), unfitted("failed", group_key=PARENT), rows(5), rows(1, group=B))
    again = ShardState.from_bytes(bench.shard.to_bytes())
    assert (again.clock, again.champions, again.groups.keys) == (START, bench.shard.champions, bench.shard.groups.keys)
    for known in STATE_COLUMNS:
        np.testing.assert_array_equal(again.groups[known.name], bench.shard.groups[known.name])
    assert len(again.pending.rows) == 2
    for column in fields(LabelRows):
        np.testing.assert_array_equal(*(getattr(shard.pending.rows, column.name) for shard in (again, bench.shard)))
    assert again.to_bytes() == bench.shard.to_bytes()


@pytest.mark.parametrize("blob", [b"", b"\x06" + ShardState.empty().to_bytes()[1:], ShardState.empty().to_bytes()[:-1]])
def test_bytes_of_another_format_and_broken_ones_are_refused(blob: bytes) -> None:
    with pytest.raises(Corrupt, match=r"upgrade Spinney|Restore the fleet's root"):
        ShardState.from_bytes(blob)


def test_a_state_of_the_first_version_goes_on_without_evidence() -> None:
    bench = Bench(replace(EVENT_CLOCK, label_delay=HOUR))
    bench.tick(decided("m1"), rows(5), rows(1, group=B))
    now = bench.shard
    clock, groups, champions, pending, *_ = split_sections(CODEC.unpack(now.to_bytes()))
    before = [clock, without(groups, "evidence", *OF_VERSION_3, *OF_VERSION_4), champions, without(pending, "losses")]
    again = ShardState.from_bytes(b"\x01" + join_sections([bytes(section) for section in before]))
    assert (again.clock, again.champions, again.groups.keys) == (now.clock, now.champions, now.groups.keys)
    assert again.groups["evidence"].tolist() == [0.0, 0.0]
    assert again.pending.rows.labelled.tolist() == now.pending.rows.labelled.tolist()
    bench.shard = again
    assert bench.tick(*raised(3)) == []
    assert bench.known("champion_rows") == 2


def test_a_state_of_the_third_version_knows_no_rates_until_the_next_labels() -> None:
    bench = Bench()
    bench.tick(decided("m1"), rows(5))
    assert bench.known("recent_labels") == 5
    clock, groups, *others, _ = split_sections(CODEC.unpack(bench.shard.to_bytes()))
    before = [clock, without(groups, *OF_VERSION_4), *others]
    bench.shard = ShardState.from_bytes(b"\x03" + join_sections([bytes(section) for section in before]))
    assert [bench.known(name) for name in OF_VERSION_4] == [0, NEVER, NEVER]
    bench.tick(rows(2))
    assert (bench.known("labelled"), bench.known("recent_labels")) == (7, 2)
    assert bench.known("recent_from") == bench.known("recent_at") > NEVER


OF_VERSION_3 = ("drift", "has_drifted", "fitted_rows")
OF_VERSION_4 = ("recent_labels", "recent_at", "recent_from")


def without(section: memoryview, *columns: str) -> bytes:
    """An Arrow stream as it was before it had these columns."""
    with pa.ipc.open_stream(pa.py_buffer(section)) as reader:
        return encode_batch(reader.read_next_batch().drop_columns(list(columns)))


def test_no_payload_of_a_model_is_kept_in_the_judges_state() -> None:
    row = decided("m1")
    bench = Bench()
    bench.tick(replace(row, promotion=replace(row.promotion, codec="linear", payload=b"x" * 4000, signature=b"s")))
    assert [row.payload for row in bench.shard.champions.promotions[A]] == [None]


def test_a_machine_and_a_person_who_say_the_same_at_once_are_heard_in_one_order() -> None:
    reported = [decided("m1", "kept", by_machine=machine, epoch=1, at=START + 2) for machine in (True, False)]
    benches = [Bench(), Bench()]
    assert benches[0].tick(*reported) == benches[1].tick(*reversed(reported))
    assert benches[0].shard.to_bytes() == benches[1].shard.to_bytes()


KEYS = st.sampled_from([A, B, PARENT])
TIMES = st.integers(0, 3).map(lambda n: START + n)
DECISIONS = st.sampled_from(["promoted", "unproven", "kept", "held", "refused", "withdrawn", "pinned"])
DECIDED = st.builds(
    lambda key, model, decision, epoch, at, machine, loss: decided(
        model, decision, group_key=key, epoch=epoch, at=at, by_machine=machine, loss=loss
    ),
    KEYS,
    st.sampled_from(["m1", "m2", "m3"]),
    DECISIONS,
    st.integers(0, 1),
    TIMES,
    st.booleans(),
    st.sampled_from([nan, 0.1, 0.7]),
)
UNFITTED = st.builds(
    UnfittedAttempt, KEYS, st.sampled_from(["failed", "too_few_rows"]), st.integers(0, 19), TIMES, TIMES
)
HEALTH = st.tuples(
    st.sampled_from([A, B, None]),
    st.sampled_from(["m1", "m2", None]),
    st.integers(0, 40),
    st.floats(0, 100),
    st.integers(0, 4).map(lambda n: START + n * HOUR),
)
NEWS = st.lists(st.one_of(DECIDED, UNFITTED, HEALTH), max_size=12)


@given(st.lists(st.tuples(NEWS, st.integers(0, 2 * HOUR)), min_size=1, max_size=4), st.booleans(), st.data())
def test_the_order_of_news_within_a_batch_does_not_matter(
    batches: list[tuple[list[Any], int]], wall: bool, data: st.DataObject
) -> None:
    terms = replace(EVENT_CLOCK, label_delay=HOUR, is_wall_clock=wall)
    one, other = Bench(terms), Bench(terms)
    now = START
    for news, later in batches:
        now += later
        assert one.tick(*news, now=now) == other.tick(*data.draw(st.permutations(news)), now=now)
        assert one.shard.to_bytes() == other.shard.to_bytes()


@given(st.lists(st.tuples(NEWS, st.integers(0, 2 * HOUR)), min_size=1, max_size=4))
def test_whatever_comes_a_verdict_is_whole_and_its_numbers_are_json(batches: list[tuple[list[Any], int]]) -> None:
    bench = Bench()
    for news, later in batches:
        for row in bench.tick(*news, now=START + later):
            assert tuple(row) == VERDICT_COLUMNS
            assert row["decision"] in {"fit", "held", "refused", "fresh"}
            assert (row["policy"] is None) == (row["decision"] == "fresh")
            assert (row["stale_since"] == NEVER) == (row["decision"] == "fresh")
            assert row["clock"] >= START
            ranked_by = [row["urgency"], row["gain_per_second"], row["predicted_ms"]]
            assert np.isfinite([*ranked_by, *row["numbers"].values()]).all()
            assert not {type(value) for value in row["numbers"].values()} - {int, float}


# --- states of earlier versions ---------------------------------------------------------------------------------------

STORED = Path(__file__).parents[3] / "data" / "judge_states"


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_the_judge_goes_on_from_the_state_that_an_earlier_version_has_stored(version: int) -> None:
    """Group a has had 5 labels since the promotion of m1, group b 3 without a model: `make.py` there wrote them."""
    blob = base64.b64decode((STORED / f"version_{version}.txt").read_text(encoding="ascii"))
    assert blob[0] == version
    bench = Bench(shard=ShardState.from_bytes(blob))
    assert bench.shard.clock == START + 2 * HOUR
    assert {key: [row.model_id for row in rows] for key, rows in bench.shard.champions.promotions.items()} == {
        A: ["m1"]
    }
    later = START + 3 * HOUR
    assert bench.tick(rows(194, model="m1", at=later), rows(16, group=B, at=later)) == []
    assert bench.known("rows_since") == 199
    found = bench.tick(rows(1, model="m1", at=later), rows(1, group=B, at=later))
    assert sorted(outcomes_of(found)) == [(A, "fit", "new_rows"), (B, "fit", "new_group")]
    assert bench.shard.to_bytes()[0] == 5
