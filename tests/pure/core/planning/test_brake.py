from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.vocabulary import RoundQueue
from spinney.core.planning.brake import (
    NO_BRAKE,
    Brake,
    BrakeAction,
    BrakeSample,
    RaisedErrors,
    RaisedErrorsByShard,
    SampleOutcome,
    choose_with_brake,
    decide_brake,
    sample_size,
)
from spinney.core.planning.budget import Candidate, RoundAllowance, choose_by_queue

SAMPLE, HOLD = Brake(BrakeAction.SAMPLE, 0.41), Brake(BrakeAction.HOLD, 0.41)
CANDIDATES = [
    *(Candidate(f"new{n}", "new_group", 1.0, 0, 100.0) for n in range(5)),
    *(Candidate(f"old{n}", "error_rise", 9.0, 0, 100.0, 5.0) for n in range(60)),
]


@pytest.mark.parametrize(
    ("groups", "raised", "outcome", "expected"),
    [
        (49, 49, None, BrakeAction.OFF),  # few groups may change together
        (50, 50, None, BrakeAction.SAMPLE),
        (100, 30, None, BrakeAction.OFF),
        (100, 31, None, BrakeAction.SAMPLE),
        (100, 31, SampleOutcome(20, 11), BrakeAction.RELEASED),
        (100, 31, SampleOutcome(20, 10), BrakeAction.HOLD),
        (100, 31, SampleOutcome(0, 0), BrakeAction.SAMPLE),  # every fit of the sample failed: nothing is known
        (100, 20, SampleOutcome(20, 10), BrakeAction.HOLD),  # the sample's own refits lower the share
        (100, 15, SampleOutcome(20, 10), BrakeAction.OFF),
    ],
)
def test_the_brake_samples_above_its_share_and_then_goes_by_the_sample(
    groups: int, raised: int, outcome: SampleOutcome | None, expected: BrakeAction
) -> None:
    assert decide_brake(RaisedErrors(groups, raised), 0.3, outcome).action is expected


def test_shards_that_have_not_reported_count_like_the_mean_of_those_that_have() -> None:
    """One of four shards has reported; with a sample in effect its share of raised errors counts for the others too."""
    report = {2: RaisedErrors(10, 3)}
    assert RaisedErrorsByShard(4).update(report, has_sample=False) == RaisedErrors(40, 3)
    assert RaisedErrorsByShard(4).update(report, has_sample=True) == RaisedErrors(40, 12)
    assert RaisedErrorsByShard(4).update({}, has_sample=True) == RaisedErrors(0, 0)
    assert RaisedErrors() == RaisedErrors(0, 0)
    assert RaisedErrors().share == 0.0


def test_a_share_of_one_switches_the_brake_off() -> None:
    assert decide_brake(RaisedErrors(100, 100), 1.0, None).action is BrakeAction.OFF


@pytest.mark.parametrize(("due", "size"), [(30, 20), (400, 20), (1_000, 50), (50_000, 1_000)])
def test_a_sample_is_a_twentieth_and_at_least_twenty_and_at_most_a_thousand(due: int, size: int) -> None:
    assert sample_size(due) == size


def test_the_brake_takes_new_groups_and_a_sample_of_the_others_or_nobody_else() -> None:
    allowance = RoundAllowance(60.0, 0.2, 0.05)
    sampled, held = (choose_with_brake(CANDIDATES, allowance, "r", brake, 20) for brake in (SAMPLE, HOLD))
    new = {f"new{n}" for n in range(5)}
    assert set(held) == new
    drawn = {key for key, queue in sampled.items() if queue is RoundQueue.BRAKE}
    assert (set(sampled) - drawn, len(drawn)) == (new, 20)
    another = choose_with_brake(CANDIDATES, allowance, "s", SAMPLE, 20)
    assert set(another) != set(sampled), "the seed draws it"


@given(st.permutations(CANDIDATES), st.sampled_from([SAMPLE, HOLD, NO_BRAKE]))
def test_the_order_of_the_candidates_does_not_matter_and_without_a_brake_the_round_is_the_usual_one(
    candidates: list[Candidate], brake: Brake
) -> None:
    allowance = RoundAllowance(1.0, 0.2, 0.05)
    found = choose_with_brake(candidates, allowance, "r", brake, 20)
    assert list(found.items()) == list(choose_with_brake(CANDIDATES, allowance, "r", brake, 20).items())
    if brake is NO_BRAKE:
        assert found == choose_by_queue(CANDIDATES, allowance, "r")


def test_shards_that_were_silent_count_as_usual_ones_without_a_raised_error() -> None:
    errors = RaisedErrorsByShard(shards=10)
    assert errors.update({3: RaisedErrors(20, 12), 4: RaisedErrors(10, 0)}, has_sample=False) == RaisedErrors(150, 12)
    assert errors.update({3: RaisedErrors(20, 2), 5: RaisedErrors(15, 15)}, has_sample=False) == RaisedErrors(150, 17)
    assert RaisedErrorsByShard(shards=10).update({}, has_sample=False) == RaisedErrors(0, 0)


def test_shards_that_were_silent_count_as_those_that_reported_once_a_sample_was_taken() -> None:
    errors = RaisedErrorsByShard(shards=10)
    assert errors.update({3: RaisedErrors(20, 12), 4: RaisedErrors(10, 0)}, has_sample=True) == RaisedErrors(150, 60)


def test_a_sample_counts_for_a_day() -> None:
    at = datetime(2024, 5, 1, tzinfo=UTC)
    sample = BrakeSample("stream-7", at)
    assert [sample.is_valid(at + timedelta(hours=hours)) for hours in (23, 24)] == [True, False]


def test_the_reason_says_how_much_of_the_fleet_turned_stale() -> None:
    assert SAMPLE.reason == "brake: 41% of the fleet turned stale at once, an upstream break is likely"
