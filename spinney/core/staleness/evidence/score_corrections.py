"""Correct scores: subtract the change that a shard's groups have in common, and the part that repeats a group's last
score.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from spinney.core.staleness.evidence.loss_samples import Floats, Floats32, Positions
from spinney.core.staleness.group_state import NEVER

VOTES = 64
"""The common change is the median score of this many groups, those with the newest labels."""

MIN_VOTES = 8
"""With fewer groups no common change is subtracted: a single group would have too much influence on it."""

PAIR_MEMORY, PRIOR_PAIRS = 4_000.0, 250.0
"""Number of pairs of scores that the autocorrelation is computed from, and the number of pairs with correlation 0 that
shrink it.
"""

MAX_AUTOCORRELATION = 0.9


class ScoreCorrections:
    """Corrects scores block by block.

    pairs: sums over pairs of successive scores of a group, for the autocorrelation.
    """

    def __init__(self, scores: Floats32, counted_at: npt.NDArray[np.int64], pairs: tuple[float, float]) -> None:
        """Start before the first block. scores, counted_at, pairs: as in `ErrorEvidence`; the arrays are copied."""
        self._votes = scores.astype(np.float64)
        self._voted_at = np.where(np.isfinite(self._votes), counted_at, NEVER)
        self.pairs = pairs

    def correct(self, at: Positions, scores: Floats, times: npt.NDArray[np.int64]) -> Floats:
        """Return the scores of a block without the common change and the part that repeats each group's last score.

        at: positions of distinct groups. times: event times of the scores, microseconds; never before a group's last
        one.
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

        block: number of groups in the block; each of them is counted in the median.
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
