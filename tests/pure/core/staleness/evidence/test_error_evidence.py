from __future__ import annotations

from dataclasses import replace
from math import erfc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.errors import Corrupt
from spinney.core.staleness.evidence.error_evidence import ErrorEvidence, tail_index_of
from spinney.core.staleness.evidence.loss_counting_order import CountedLosses, random_numbers
from spinney.core.staleness.evidence.score_corrections import MIN_VOTES
from spinney.core.staleness.group_state import NEVER

DAY = 86_400_000_000
PATIENCE = 365 * DAY
TILTS = np.array([0.5, 1.0, 2.0])  # the bets on a small, a medium and a large rise (decision 0030)


def rows(at: list[int], losses: list[list[float]], times: list[int], *, is_evidence: bool = True) -> CountedLosses:
    return CountedLosses(
        np.array(at, dtype=np.int64),
        np.array([len(row) for row in losses], dtype=np.int64),
        np.array([loss for row in losses for loss in row], dtype=np.float64),
        np.array(times, dtype=np.int64),
        np.full(len(at), is_evidence),
    )


def started(groups: int, references: np.ndarray, clock: int = 0) -> ErrorEvidence:
    state = ErrorEvidence.empty(groups)
    state.restart(np.arange(groups), references, np.full(groups, clock))
    return state


def shares(groups: int) -> np.ndarray:
    return (np.arange(groups) + 0.5) / groups


def test_a_loss_multiplies_the_sums_by_its_bets_after_the_elapsed_time_was_added() -> None:
    state = started(1, np.arange(1.0, 20.0)[None])
    after = state.counted(rows([0], [[30.0]], [36 * DAY]), shares(1), PATIENCE)
    # 19 losses before: p = random / 20, and the score is the normal quantile of 1 - p.
    (random,) = random_numbers(shares(1), np.array([19]))
    score = float(after.scores[0])
    assert 0.5 * erfc(score / np.sqrt(2)) == pytest.approx(random / 20, rel=1e-3)
    assert after.sums[0] == pytest.approx(np.exp(TILTS * score - TILTS**2 / 2) * 36 / 365, rel=1e-5)
    assert after.evidence[0] == pytest.approx(after.sums[0].mean())
    assert after.counted_at[0] == 36 * DAY


@pytest.mark.parametrize(("tail_index", "least_random"), [(1.0, 0.95), (0.5, 0.9747), (np.inf, 0.0)])
def test_a_loss_just_above_all_earlier_ones_is_not_taken_as_rare(tail_index: float, least_random: float) -> None:
    """20 after 1 to 19: the share of losses above x falls as x ** -index, so the random number is at least
    (19 / 20) ** index.
    """
    state = started(1, np.arange(1.0, 20.0)[None])
    counted = state.counted(rows([0], [[20.0]], [DAY]), shares(1), PATIENCE, tail_index)
    (random,) = random_numbers(shares(1), np.array([19]))
    assert random < 0.95
    share_above = 0.5 * erfc(float(counted.scores[0]) / np.sqrt(2))
    assert share_above == pytest.approx(max(least_random, random) / 20, rel=1e-3)


def test_without_a_tail_index_that_of_absolute_errors_counts() -> None:
    state = started(1, np.arange(1.0, 20.0)[None])
    plain = state.resized(1).counted(rows([0], [[20.0]], [DAY]), shares(1), PATIENCE)
    assert plain.scores == state.resized(1).counted(rows([0], [[20.0]], [DAY]), shares(1), PATIENCE, 1.0).scores


def test_new_groups_have_no_losses_no_scores_and_no_pairs_of_them() -> None:
    state = ErrorEvidence.empty()
    assert (len(state), state.pairs) == (0, (0.0, 0.0))
    grown = state.resized(2)
    assert grown.samples.counts.tolist() == [0, 0]
    assert np.isnan(grown.scores).all()


def test_a_new_champion_without_held_out_losses_keeps_none_of_earlier_ones_unless_asked() -> None:
    state = started(1, np.ones((1, 5)))
    state.restart(np.array([0]), np.array([[np.inf]]), np.array([DAY]))
    assert state.samples.counts.tolist() == [0]


def test_squared_losses_have_half_the_tail_index_of_absolute_ones() -> None:
    assert [tail_index_of(loss) for loss in ("absolute", "squared", "log")] == [1.0, 0.5, 1.0]


def test_the_first_label_of_a_group_without_a_known_time_adds_no_time() -> None:
    state = ErrorEvidence.empty(1).counted(rows([0], [[1.0]], [3 * DAY]), shares(1), PATIENCE)
    assert state.counted_at[0] == 3 * DAY
    assert state.sums.tolist() == [[0.0] * 3]


def test_the_sums_of_a_group_that_waits_for_its_refit_stay_below_a_million() -> None:
    raised = replace(started(1, np.arange(1.0, 20.0)[None]), sums=np.full((1, 3), 999_999.0, dtype=np.float32))
    after = raised.counted(rows([0], [[30.0]], [DAY]), shares(1), PATIENCE)
    assert after.sums.tolist() == [[1_000_000.0] * 3]  # each bet of a score above 1.6 is more than 1


def test_the_time_of_a_groups_first_label_counts_from_its_first_champion() -> None:
    state = started(1, np.ones((1, 3)), clock=10 * DAY)
    assert state.counted_at[0] == 10 * DAY
    state.restart(np.array([0]), np.ones((1, 1)), np.array([20 * DAY]))
    assert state.counted_at[0] == 10 * DAY


def test_labels_out_of_order_add_no_time_twice() -> None:
    state = started(1, np.empty((1, 0)))
    state = state.counted(rows([0], [[1.0]], [3 * DAY]), shares(1), PATIENCE)
    sums = state.sums.copy()
    state = replace(state, scores=np.full(1, np.nan, dtype=np.float32))  # nothing to subtract from the next score
    after = state.counted(rows([0], [[1.0]], [2 * DAY]), shares(1), PATIENCE)
    bets = np.exp(TILTS * after.scores[0] - TILTS**2 / 2)
    assert after.counted_at[0] == 3 * DAY
    assert after.sums[0] == pytest.approx(bets * sums[0], rel=1e-5)


def test_rows_that_are_no_evidence_enter_the_sample_only() -> None:
    state = started(1, np.arange(1.0, 20.0)[None])
    after = state.counted(rows([0], [[30.0]], [DAY], is_evidence=False), shares(1), PATIENCE)
    assert after.evidence[0] == 0
    assert after.samples.counts[0] == 20


def test_a_new_champion_starts_the_sample_anew_and_keeps_the_evidence() -> None:
    state = started(2, np.ones((2, 5)))
    state = state.counted(rows([0, 1], [[9.0], [9.0]], [DAY, DAY]), shares(2), PATIENCE)
    before = state.sums.copy()
    state.restart(np.array([1]), np.array([[2.0, np.inf]]), np.array([DAY]))
    assert state.samples.counts.tolist() == [6, 1]
    assert np.isnan(state.scores[1])
    assert np.isfinite(state.scores[0])
    assert (state.sums == before).all()


def test_the_losses_of_earlier_champions_count_for_two_hundred_at_most() -> None:
    state = started(2, np.ones((2, 250)))
    state.carry_on(np.array([1]))
    assert state.samples.counts == pytest.approx([250, 200], rel=1e-3)


def test_earlier_losses_make_up_for_what_a_new_champion_has_too_few_of() -> None:
    state = started(3, np.ones((3, 20)))
    references = np.array([[3.0] * 9, [3.0, 3.0] + [np.inf] * 7, [np.inf] * 9])
    state.restart(np.arange(3), references, np.zeros(3, dtype=np.int64), least=9)
    assert state.samples.counts == pytest.approx([9, 9, 9], rel=1e-3)
    # A loss of 2 is above the earlier ones and below the new ones: p = (new + random) / 10.
    (above_all, between, above_earlier) = state.samples.shares_above(np.full(3, 2.0), np.full(3, 0.5))
    assert (above_all, between, above_earlier) == pytest.approx((0.95, 0.25, 0.05), rel=1e-3)
    empty = ErrorEvidence.empty(1)
    empty.restart(np.array([0]), np.full((1, 2), 3.0), np.zeros(1, dtype=np.int64), least=9)
    assert empty.samples.counts.tolist() == [2]


def test_forgetting_the_evidence_keeps_the_sample() -> None:
    state = started(1, np.ones((1, 5))).counted(rows([0], [[9.0]], [DAY]), shares(1), PATIENCE)
    state.forget(np.array([True]))
    assert state.evidence[0] == 0
    assert state.samples.counts[0] == 6


def test_a_change_of_all_groups_is_no_evidence_about_one_of_them() -> None:
    groups = 40
    random = np.random.default_rng(5)
    references = np.abs(random.standard_normal((groups, 20)))
    storm = 3 * np.abs(random.standard_normal((groups, 1)))
    raised = rows(list(range(groups)), storm.tolist(), [DAY] * groups)
    together = started(groups, references).counted(raised, shares(groups), PATIENCE)
    few = rows(list(range(MIN_VOTES - 1)), storm[: MIN_VOTES - 1].tolist(), [DAY] * (MIN_VOTES - 1))
    apart = started(groups, references).counted(few, shares(groups), PATIENCE)
    is_raised = together.scores[: MIN_VOTES - 1] > 0
    assert is_raised.any()
    assert (together.evidence[: MIN_VOTES - 1] < apart.evidence[: MIN_VOTES - 1]).all()


def test_scores_that_repeat_count_less() -> None:
    reference = np.arange(1.0, 20.0)[None]
    calm = started(1, reference).counted(rows([0, 0], [[30.0], [31.0]], [DAY, DAY]), shares(1), PATIENCE)
    repeating = replace(started(1, reference), pairs=(4_000.0, 8_000.0))
    repeated = repeating.counted(rows([0, 0], [[30.0], [31.0]], [DAY, DAY]), shares(1), PATIENCE)
    assert (repeated.scores == calm.scores).all()
    assert repeated.evidence[0] < calm.evidence[0]


@given(st.permutations(range(6)))
def test_neither_the_order_of_groups_nor_that_of_the_losses_of_a_row_matters(order: list[int]) -> None:
    losses = [[0.1, 2.0, 5.0], [1.0], [0.5, 0.7], [3.0], [0.2], [4.0, 9.0]]
    times = [DAY] * 6
    one = started(6, np.ones((6, 4))).counted(rows(list(range(6)), losses, times), shares(6), PATIENCE)
    other_rows = rows(order, [losses[i] for i in order], times)
    other = started(6, np.ones((6, 4))).counted(other_rows, shares(6), PATIENCE)
    assert other.sums == pytest.approx(one.sums)
    assert other.samples.values.tolist() == one.samples.values.tolist()


def test_no_losses_change_nothing() -> None:
    state = started(2, np.ones((2, 3)))
    after = state.counted(rows([], [], []), shares(2), PATIENCE)
    assert after.to_bytes() == state.to_bytes()


def test_random_numbers_are_evenly_spread_and_repeat() -> None:
    numbers = random_numbers(np.repeat(shares(50), 100), np.tile(np.arange(100), 50))
    assert (numbers == random_numbers(np.repeat(shares(50), 100), np.tile(np.arange(100), 50))).all()
    assert numbers.min() > 0
    assert numbers.max() < 1
    assert np.histogram(numbers, 10, (0, 1))[0] == pytest.approx(500, rel=0.15)


def test_the_state_is_the_same_after_its_bytes_with_room_for_new_groups() -> None:
    state = started(3, np.ones((3, 30))).counted(rows([0, 2], [[3.0], [0.5, 2.0]], [DAY, DAY]), shares(3), PATIENCE)
    decoded = ErrorEvidence.from_bytes(state.to_bytes())
    assert decoded.to_bytes() == state.to_bytes()
    grown = decoded.resized(5)
    assert len(grown) == 5
    assert grown.counted_at[3:].tolist() == [NEVER, NEVER]
    assert grown.sums[:3].tolist() == state.sums.tolist()
    assert decoded.resized(3).samples.values.flags.writeable


def test_losses_are_counted_alike_whether_or_not_the_state_was_stored_between_them() -> None:
    """A worker that lives keeps the state; a new one reads it. A repeated batch must give the same verdicts by both."""
    random = np.random.default_rng(5)
    kept = started(2, random.exponential(size=(2, 24)))
    stored = ErrorEvidence.from_bytes(kept.to_bytes()).resized(2)
    for day in range(1, 400):
        losses = rows([0, 1], random.exponential(size=(2, 1)).tolist(), [day * DAY] * 2)
        kept = kept.counted(losses, shares(2), PATIENCE)
        stored = ErrorEvidence.from_bytes(stored.counted(losses, shares(2), PATIENCE).to_bytes()).resized(2)
        if day in (150, 300):  # a new champion, without a risen error
            kept.carry_on(np.array([1]))
            stored.carry_on(np.array([1]))
    assert kept.to_bytes() == stored.to_bytes()


@pytest.mark.parametrize("blob", [b"", b"\x02abc", ErrorEvidence.empty(1).to_bytes()[:-1]])
def test_bytes_of_something_else_are_corrupt(blob: bytes) -> None:
    with pytest.raises(Corrupt):
        ErrorEvidence.from_bytes(blob)
