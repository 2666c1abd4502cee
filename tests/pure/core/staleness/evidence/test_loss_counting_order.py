"""The order of losses, and the evidence computed in turns against the definition: one loss after the other."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st

from spinney.core.staleness.evidence.error_evidence import MAX_SUM, TILTS, ErrorEvidence
from spinney.core.staleness.evidence.loss_counting_order import CountedLosses, random_numbers
from spinney.core.staleness.evidence.score_corrections import (
    MAX_AUTOCORRELATION,
    MIN_VOTES,
    PAIR_MEMORY,
    PRIOR_PAIRS,
    VOTES,
)
from spinney.core.staleness.group_state import NEVER

DAY = 86_400_000_000
PATIENCE = 365 * DAY
GROUPS = 90
SHARES = (np.arange(GROUPS) + 0.5) / GROUPS
SCORES = np.linspace(-6.0, 6.0, 2_401)
TAILS = np.array([NormalDist().cdf(score) for score in SCORES])


def rows_of(at: list[int], losses: list[list[float]], times: list[int], is_evidence: list[bool]) -> CountedLosses:
    return CountedLosses(
        np.array(at, dtype=np.int64),
        np.array([len(row) for row in losses], dtype=np.int64),
        np.array([loss for row in losses for loss in row], dtype=np.float64),
        np.array(times, dtype=np.int64),
        np.array(is_evidence, dtype=np.bool_),
    )


def single_rows(at: list[int]) -> CountedLosses:
    """A row with one loss for each position; the losses are 0, 1, 2, and so on."""
    return rows_of(at, [[float(n)] for n in range(len(at))], [DAY] * len(at), [True] * len(at))


def blocks_one_by_one(rows: CountedLosses) -> list[list[tuple[int, float]]]:
    """Row and loss, by block: in each run of rows of distinct groups the first loss of each row, then the second."""
    ends = np.cumsum(rows.lengths)
    lists = [rows.losses[end - length : end] for end, length in zip(ends, rows.lengths, strict=True)]
    runs: list[list[int]] = []
    for row, group in enumerate(rows.at):
        if not runs or group in rows.at[runs[-1]]:
            runs.append([])
        runs[-1].append(row)
    blocks = []
    for run in runs:
        places = range(max(len(lists[row]) for row in run))
        blocks += [[(row, _shuffled(rows, row, lists[row])[n]) for row in run if n < len(lists[row])] for n in places]
    return blocks


def _shuffled(rows: CountedLosses, row: int, losses: np.ndarray) -> list[float]:
    if len(losses) == 1:
        return losses.tolist()
    share = SHARES[rows.at[row]]
    return losses[np.argsort(random_numbers(np.full(len(losses), share), np.arange(len(losses))))].tolist()


def counted_one_by_one(state: ErrorEvidence, rows: CountedLosses) -> ErrorEvidence:
    """The definition of `ErrorEvidence.counted`: every group's own part loss by loss, the common part by block."""
    pairs = state.pairs
    for block in blocks_one_by_one(rows):
        at = np.array([rows.at[row] for row, _ in block])
        scores, elapsed = np.empty(len(at)), np.empty(len(at))
        for n, (row, loss) in enumerate(block):
            group, one = at[n], at[n : n + 1]
            last = state.counted_at[group]
            state.counted_at[group] = max(last, rows.times[row])
            elapsed[n] = 0.0 if last == NEVER else (state.counted_at[group] - last) / PATIENCE
            sample = state.samples.take(one)
            randoms = random_numbers(SHARES[one], sample.counts.astype(np.int64))
            (share_above,) = sample.shares_above(np.array([loss]), randoms)
            state.samples.add(one, np.array([loss]))
            scores[n] = np.interp(-share_above, -TAILS[::-1], -SCORES[::-1])
        corrected, pairs = corrected_by_definition(state, at, scores, pairs)
        state.scores[at] = scores
        for n, (row, _) in enumerate(block):
            if rows.is_evidence[row]:
                bets = np.exp(TILTS * corrected[n] - TILTS**2 / 2)
                state.sums[at[n]] = np.minimum(bets * (state.sums[at[n]] + elapsed[n]), MAX_SUM)
    return replace(state, pairs=pairs)


def corrected_by_definition(
    state: ErrorEvidence, at: np.ndarray, scores: np.ndarray, pairs: tuple[float, float]
) -> tuple[np.ndarray, tuple[float, float]]:
    votes = state.scores.astype(np.float64)
    before = np.maximum(np.nan_to_num(votes[at]), 0.0)
    votes[at] = scores
    voters = np.flatnonzero(np.isfinite(votes))
    common = 0.0
    if len(voters) >= MIN_VOTES:
        newest = np.argsort(state.counted_at[voters], kind="stable")[-max(VOTES, len(at)) :]
        common = max(float(np.median(votes[voters[newest]])), 0.0)
    own = scores - common
    kept = (1 - 1 / PAIR_MEMORY) ** len(at)
    products = pairs[0] * kept + float((np.clip(own, -3, 3) * before).sum())
    squares = pairs[1] * kept + float((before**2).sum())
    autocorrelation = min(max(products / (squares + PRIOR_PAIRS), 0.0), MAX_AUTOCORRELATION)
    return own - autocorrelation * before, (products, squares)


def random_rows(seed: int, size: int, most: int) -> CountedLosses:
    """Rows in the order of time, of which no two have one time; every fifth group gets most of the rows."""
    random = np.random.default_rng(seed)
    at = np.where(random.random(size) < 0.5, random.integers(0, GROUPS, size), random.integers(0, GROUPS // 5, size))
    lengths = random.integers(1, most + 1, size)
    losses = [np.round(random.exponential(size=length), 2).tolist() for length in lengths]
    times = np.cumsum(random.integers(1, DAY // 50, size))
    return rows_of(at.tolist(), losses, times.tolist(), (random.random(size) < 0.9).tolist())


def started(seed: int) -> ErrorEvidence:
    """Groups with 0 to 40 losses; those of the first ten have counted none, and have no score, since their start."""
    random = np.random.default_rng(seed)
    references = random.exponential(size=(GROUPS, 40))
    references[np.arange(40) >= random.integers(0, 41, GROUPS)[:, None]] = np.inf
    state = ErrorEvidence.empty(GROUPS)
    state.restart(np.arange(GROUPS), references, np.where(np.arange(GROUPS) < 5, NEVER, -DAY))
    times = -random.permutation(GROUPS)[10:]
    first = rows_of(list(range(10, GROUPS)), [[1.0]] * 80, times.tolist(), [True] * 80)
    return counted_one_by_one(state, first)


@examples(12)
@given(st.integers(0, 10_000), st.integers(1, 160), st.sampled_from([1, 1, 4]))
def test_evidence_in_turns_is_that_of_one_loss_after_the_other_bit_by_bit(seed: int, size: int, most: int) -> None:
    rows = random_rows(seed, size, most)
    in_turns, one_by_one = started(seed), counted_one_by_one(started(seed), rows)
    in_turns = in_turns.counted(rows, SHARES, PATIENCE)
    assert in_turns.to_bytes() == one_by_one.to_bytes()
    assert in_turns.pairs == one_by_one.pairs
    assert (in_turns.sums > 0).any()


def test_a_batch_counted_in_pieces_gives_the_same_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = random_rows(3, 150, 3)
    whole = started(3).counted(rows, SHARES, PATIENCE)
    monkeypatch.setattr("spinney.core.staleness.evidence.loss_counting_order.MAX_LOSSES", 7)
    pieces = started(3).counted(rows, SHARES, PATIENCE)
    assert pieces.to_bytes() == whole.to_bytes()


def test_blocks_have_each_group_once_and_keep_each_groups_order() -> None:
    ordered = single_rows([0, 1, 0, 2, 2, 1]).ordered(SHARES)
    assert [ordered.losses[block].tolist() for block in ordered.blocks] == [[0, 1], [2, 3], [4, 5]]
    assert [ordered.at[block].tolist() for block in ordered.blocks] == [[0, 1], [0, 2], [2, 1]]


def test_a_block_has_one_loss_of_each_row() -> None:
    rows = rows_of([3, 1, 3], [[5.0, 5.0], [2.0], [7.0]], [1, 2, 3], [True, False, True])
    ordered = rows.ordered(SHARES)
    assert ordered.losses.tolist() == [5, 2, 5, 7]
    assert ordered.starts.tolist() == [0, 2, 3]
    assert ordered.times.tolist() == [1, 2, 1, 3]
    assert ordered.is_evidence.tolist() == [True, False, True, True]


def test_turns_have_the_nth_loss_of_each_group() -> None:
    ordered = single_rows([4, 2, 4, 4, 2, 9]).ordered(SHARES)
    assert [sorted(turn.tolist()) for turn in ordered.turns()] == [[0, 1, 5], [2, 4], [3]]


def test_the_losses_of_one_row_are_not_counted_in_ascending_order() -> None:
    ascending = np.arange(64.0)
    seen = rows_of([0], [ascending.tolist()], [DAY], [True]).ordered(SHARES).losses
    assert sorted(seen) == ascending.tolist()
    assert abs(np.corrcoef(seen, np.arange(64))[0, 1]) < 0.3


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(1, 9))
def test_pieces_are_whole_blocks_of_all_losses(at: list[int], most: int) -> None:
    ordered = single_rows(at).ordered(SHARES)
    pieces = list(ordered.pieces(most))
    found = [piece.losses[block].tolist() for piece in pieces for block in piece.blocks]
    assert found == [ordered.losses[block].tolist() for block in ordered.blocks]
    assert all(len(piece.losses) <= most or len(piece.starts) == 1 for piece in pieces)


def test_no_losses_have_no_blocks_and_no_turns() -> None:
    ordered = single_rows([]).ordered(SHARES)
    assert (ordered.blocks, ordered.turns(), list(ordered.pieces())) == ([], [], [])
