"""Correct scores: subtract the change that a shard's groups have in common, and what repeats a group's last score."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spinney.core.staleness.group_state import NEVER
from spinney.core.staleness.loss_samples import Floats, Floats32, Positions

VOTES = 64
"""Number of groups, those with the newest labels, whose median score is the common change."""

MIN_VOTES = 8
"""With fewer groups there is no common change: a group would count too much in it."""

PAIR_MEMORY, PRIOR_PAIRS = 4_000.0, 250.0
"""Pairs of scores behind the autocorrelation, and how many of 0 it is shrunk by."""

MAX_AUTOCORRELATION = 0.9


class ScoreCorrections:
    """Corrects scores block by block.

    pairs: sums over pairs of successive scores of a group, for the autocorrelation.
    """

    def __init__(self, scores: Floats32, counted_at: npt.NDArray[np.int64], pairs: tuple[float, float]) -> None:
        """scores, counted_at, pairs: of `ErrorEvidence`, before the first block. The arrays are copied."""
        self._votes = scores.astype(np.float64)
        self._voted_at = np.where(np.isfinite(self._votes), counted_at, NEVER)
        self.pairs = pairs

    def correct(self, at: Positions, scores: Floats, times: npt.NDArray[np.int64]) -> Floats:
        """Return the scores of a block without the common change and what repeats of each group's last score.

        at: of distinct groups. times: their event times, never before the last ones; microseconds.
        """
        before = np.maximum(np.nan_to_num(self._votes[at]), 0.0)
        self._votes[at], self._voted_at[at] = scores, times
        own = scores - self._common_change(len(at))
        self._votes[at] = scores.astype(np.float32)  # as they are stored
        kept = (1 - 1 / PAIR_MEMORY) ** len(at)
        products = self.pairs[0] * kept + float((np.clip(own, -3, 3) * before).sum())
        squares = self.pairs[1] * kept + float((before**2).sum())
        self.pairs = (products, squares)
        autocorrelation = min(max(products / (squares + PRIOR_PAIRS), 0.0), MAX_AUTOCORRELATION)
        return np.asarray(own - autocorrelation * before)

    def _common_change(self, block: int) -> float:
        """Return by how much the newest scores of all groups are raised: their median, at least 0.

        block: number of groups in the block, which all have a vote.
        """
        known = np.flatnonzero(self._voted_at != NEVER)
        if len(known) < MIN_VOTES:
            return 0.0
        voting = max(VOTES, block)
        if len(known) > voting:
            known = known[np.argpartition(self._voted_at[known], -voting)[-voting:]]
        votes = np.sort(self._votes[known])
        middle = len(votes) // 2
        median = votes[middle] if len(votes) % 2 else (votes[middle - 1] + votes[middle]) / 2
        return max(float(median), 0.0)
