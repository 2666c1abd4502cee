"""Predict the wall-clock duration of a round from earlier rounds.

    seconds = fixed_s + seconds_per_group × groups + fits / cores

`fixed_s` is what every round costs (plan, scan, gate, commits), `seconds_per_group` what a group costs except its fit.
Both minimise the absolute error of the logarithm, so that an outlier of a hundred times the usual duration weighs no
more than one of twice the usual. Rounds of similar size are averaged. A size seen once weighs less than the assumed
values, so a single unusual round changes almost nothing; a second one of that size does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from spinney.core.planning.batch_parts import FIRST_PART_GROUPS, MAX_GROWTH
from spinney.core.planning.budget import RoundAllowance, parallel_duration

if TYPE_CHECKING:
    from spinney.core.config import Budget

ASSUMED_FIXED_S = 2.0
"""Seconds of a round without groups, before any was measured."""

ASSUMED_SECONDS_PER_GROUP = 0.0024
"""Core seconds of a group without its fit, before any round was measured.

Measured: a streaming round of 43,087 groups took 59 s on two cores, of which about 5 s were not the groups'.
"""

ROUNDS_PER_SIZE = 8
"""Rounds remembered of each size. Sizes are powers of two, so that many small rounds displace no large one."""

ASSUMED_WEIGHT = 0.1
SEEN_ONCE_WEIGHT, SEEN_TWICE_WEIGHT, SEEN_OFTEN_WEIGHT = 0.05, 0.3, 1.0
"""Weight of a size by how many of its rounds are remembered."""

MIN_GROUPS_PER_FIXED = 0.5
"""Minimum seconds for groups per second of fixed_s, so that a round spends a third of its length on groups.

If fixed_s exceeds the budget, the round does so anyway, and otherwise it would have one group. With a quarter of the
budget for groups it would be nearly all overhead: on a busy machine (fixed_s 10 s, budget 5 s) rounds of 50 groups took
12 s, and 1,736 of 1,785 were deferred.
"""

_FIXED_GRID = np.geomspace(0.01, 600.0, 80)[:, None, None]
_PER_GROUP_GRID = np.geomspace(1e-6, 10.0, 117)[None, :, None]
"""The values of seconds_per_group that are tried; each is 15 % greater than the one before."""


@dataclass(frozen=True)
class PastRound:
    """A finished round. fit_ms: sum over its fits. longest_ms: of the longest fit. seconds: wall clock."""

    groups: int
    fit_ms: float
    longest_ms: float
    seconds: float


@dataclass(frozen=True)
class RoundCost:
    """Predicts the wall-clock seconds of a round.

    largest_groups: number of groups of the largest round whose size was seen more than once; 0 if there is none.
    """

    fixed_s: float
    seconds_per_group: float
    cores: int
    largest_groups: int = 0

    def seconds(self, groups: int, fit_ms: float, longest_ms: float = 0.0) -> float:
        """Return the predicted seconds. fit_ms: predicted sum over the fits. longest_ms: of the longest fit."""
        fits_ms = parallel_duration(fit_ms, longest_ms, self.cores)
        return self.fixed_s + self.seconds_per_group * groups + fits_ms / 1000.0

    def predict(self, fit_ms: Sequence[float]) -> float:
        """Return the predicted seconds of a round with these fits; 0 without any."""
        return self.seconds(len(fit_ms), sum(fit_ms), max(fit_ms)) if fit_ms else 0.0

    def seconds_for_groups(self, budget_s: float) -> float:
        """Return the seconds of a round that may be spent on groups: what `fixed_s` leaves of the budget.

        If that is too little, MIN_GROUPS_PER_FIXED applies, and the round exceeds the budget. Groups have at least a
        third of the budget in any case.
        """
        return max(budget_s - self.fixed_s, self.fixed_s * MIN_GROUPS_PER_FIXED)

    def allowance(self, budget: Budget) -> RoundAllowance:
        """Return what the next round may spend: at most MAX_GROWTH times the groups of the largest round seen twice."""
        return RoundAllowance(
            seconds=self.seconds_for_groups(budget.seconds),
            oldest_first_share=budget.oldest_first_share,
            random_share=budget.random_share,
            groups=min(budget.max_groups, max(FIRST_PART_GROUPS, MAX_GROWTH * self.largest_groups)),
            overhead_ms=self.seconds_per_group * 1000.0,
            cores=self.cores,
        )


@dataclass
class RoundCostEstimator:
    """Learns RoundCost from the last ROUNDS_PER_SIZE rounds of each size."""

    cores: int
    _rounds: dict[int, list[PastRound]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def from_rounds(cls, rounds: Iterable[PastRound], cores: int) -> RoundCostEstimator:
        """Return an estimator that has seen these rounds. rounds: the oldest first."""
        estimator = cls(cores)
        for done in rounds:
            estimator.add(done)
        return estimator

    def __len__(self) -> int:
        return sum(map(len, self._rounds.values()))

    def add(self, done: PastRound) -> None:
        """Remember a round; one without groups or duration is ignored."""
        if done.groups > 0 and done.seconds > 0:
            same_size = self._rounds[done.groups.bit_length()]
            same_size.append(done)
            del same_size[:-ROUNDS_PER_SIZE]

    def estimate(self) -> RoundCost:
        """Return the cost that fits the remembered rounds best."""
        fixed_error = np.abs(np.log(_FIXED_GRID / ASSUMED_FIXED_S))
        per_group_error = np.abs(np.log(_PER_GROUP_GRID / (ASSUMED_SECONDS_PER_GROUP / self.cores)))
        error = ASSUMED_WEIGHT * (fixed_error + per_group_error)[..., 0]
        largest = 0
        for same_size in self._rounds.values():
            groups = np.array([done.groups for done in same_size], dtype=np.float64)
            elapsed_s = np.array([done.seconds for done in same_size])
            fits_ms = [parallel_duration(done.fit_ms, done.longest_ms, self.cores) for done in same_size]
            weight = {1: SEEN_ONCE_WEIGHT, 2: SEEN_TWICE_WEIGHT}.get(len(same_size), SEEN_OFTEN_WEIGHT)
            predicted_s = _FIXED_GRID + _PER_GROUP_GRID * groups + np.array(fits_ms) / 1000.0
            error = error + weight * np.abs(np.log(predicted_s / elapsed_s)).mean(axis=2)
            if len(same_size) > 1:
                largest = max(largest, int(groups.max()))
        i, j = np.unravel_index(int(error.argmin()), error.shape)
        return RoundCost(float(_FIXED_GRID[i, 0, 0]), float(_PER_GROUP_GRID[0, j, 0]), self.cores, largest)
