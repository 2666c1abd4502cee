"""Corrections of scores, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from spinney.core.staleness.evidence.score_corrections import ScoreCorrections
from spinney.core.staleness.group_state import NEVER


def new_groups(count: int) -> ScoreCorrections:
    scores = np.full(count, np.nan, dtype=np.float32)
    return ScoreCorrections(scores, np.full(count, NEVER, dtype=np.int64), (0.0, 0.0))


def one_group(last_score: float, pairs: tuple[float, float]) -> ScoreCorrections:
    return ScoreCorrections(np.array([last_score], dtype=np.float32), np.zeros(1, dtype=np.int64), pairs)


def corrected(corrections: ScoreCorrections, scores: list[float], time: int = 1) -> list[float]:
    at = np.arange(len(scores))
    found: list[float] = corrections.correct(at, np.array(scores), np.full(len(scores), time, dtype=np.int64)).tolist()
    return found


def test_from_eight_groups_on_the_median_of_their_scores_is_subtracted() -> None:
    assert corrected(new_groups(8), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]) == [n - 4.5 for n in range(1, 9)]
    assert corrected(new_groups(9), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]) == [n - 5.0 for n in range(1, 10)]
    assert corrected(new_groups(7), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]) == [float(n) for n in range(1, 8)]


def test_a_common_fall_of_the_scores_is_not_added() -> None:
    assert corrected(new_groups(8), [-1.0] * 8) == [-1.0] * 8


def test_the_64_newest_scores_have_a_vote() -> None:
    corrections = new_groups(132)
    corrected(corrections, [0.0] * 132)
    # 32 votes for 2 and, of the older ones, 32 for 0: the median is 1.
    assert corrected(corrections, [2.0] * 32, time=2) == [1.0] * 32


def test_of_a_score_the_part_that_repeats_the_last_one_is_subtracted() -> None:
    # The correlation of one pair with 250 of none is 3 · 2 / (2² + 250); the last score is 2.
    assert corrected(one_group(2.0, (0.0, 0.0)), [3.0]) == pytest.approx([3 - 6 / 254 * 2])
    assert corrected(one_group(2.0, (0.0, 0.0)), [5.0]) == pytest.approx([5 - 6 / 254 * 2])  # counts as 3 in a pair
    assert corrected(one_group(-2.0, (0.0, 0.0)), [3.0]) == [3.0]
    assert corrected(one_group(2.0, (1e6, 1e6)), [3.0]) == pytest.approx([3 - 0.9 * 2])
    assert corrected(one_group(2.0, (-1e6, 1e6)), [3.0]) == [3.0]


def test_the_stored_scores_of_other_groups_vote_too() -> None:
    stored = ScoreCorrections(np.full(8, 2.0, dtype=np.float32), np.zeros(8, dtype=np.int64), (0.0, 0.0))
    assert corrected(stored, [1.0]) == [-1.0]


@pytest.mark.parametrize(
    ("last", "scores", "pairs"),
    [
        ([2.0], [3.0], (4_000 - 1 + 6, 8_000 - 2 + 4)),
        ([3.0], [-5.0], (4_000 - 1 - 9, 8_000 - 2 + 9)),  # counts as -3
        ([2.0, 1.0], [3.0, 1.0], (4_000 * 0.99975**2 + 6 + 1, 8_000 * 0.99975**2 + 4 + 1)),
    ],
)
def test_a_pair_is_forgotten_over_four_thousand_others(
    last: list[float], scores: list[float], pairs: tuple[float, float]
) -> None:
    times = np.zeros(len(last), dtype=np.int64)
    corrections = ScoreCorrections(np.array(last, dtype=np.float32), times, (4_000.0, 8_000.0))
    corrected(corrections, scores)
    assert corrections.pairs == pytest.approx(pairs, rel=1e-9)
