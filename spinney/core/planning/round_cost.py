"""What a round takes on the wall clock, learned from the rounds before it.

    seconds = fixed + each × groups + the fits, as many at once as there are cores

`fixed` is what every round costs (plan, scan, gate, commits), `each` what a group costs besides its fit. Both are
found by least absolute error of the logarithm: a round that took a hundred times as long as its like pulls no harder
than one that took twice as long. Rounds of one size together weigh as much as those of any other, and a size that was
seen once weighs less than what is assumed before the first round. So one odd round, however large or small, changes
next to nothing; the second like it is believed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from spinney.core.planning.budget import Allowance, parallel
from spinney.core.planning.chunks import FIRST, GROWTH

if TYPE_CHECKING:
    from spinney.core.config import Budget

ASSUMED_FIXED = 2.0
"""Seconds of a round without groups, before any was seen."""

ASSUMED_EACH = 0.0024
"""Seconds of one core that a group costs besides its fit, before any round was seen.

Measured: a streaming round of 43,087 groups took 59 s on two cores, of which some 5 s were not the groups'.
"""

REMEMBERED = 8
"""Rounds remembered of each size. Sizes are powers of two, so that many small rounds push no large one out."""

ASSUMED_WEIGHT = 0.1
ONCE, TWICE, OFTEN = 0.05, 0.3, 1.0
"""Weight of a size that was seen once, twice, more often."""

GROUPS_SHARE = 0.25
"""Share of a budget that goes to groups even where the fixed cost alone takes it all: rounds of one group never end."""

_FIXED = np.geomspace(0.01, 600.0, 80)[:, None, None]
_EACH = np.geomspace(1e-6, 10.0, 117)[None, :, None]
"""What is tried, seconds: 15 % from one to the next."""


@dataclass(frozen=True)
class PastRound:
    """What one round did. fit_ms: of all its fits; longest_ms: of the longest. seconds: on the wall clock."""

    groups: int
    fit_ms: float
    longest_ms: float
    seconds: float


@dataclass(frozen=True)
class RoundCost:
    """Seconds on the wall clock. largest: groups of the largest round seen more than once, 0 without any."""

    fixed: float
    each: float
    cores: int
    largest: int = 0

    def seconds(self, groups: int, fit_ms: float, longest_ms: float = 0.0) -> float:
        """What a round of so many groups takes. fit_ms: predicted for all of them; longest_ms: for the longest."""
        return self.fixed + self.each * groups + parallel(fit_ms, longest_ms, self.cores) / 1000.0

    def predicted(self, fit_ms: Sequence[float]) -> float:
        """What a round takes whose fits take so long each; nothing without any."""
        return self.seconds(len(fit_ms), sum(fit_ms), max(fit_ms)) if fit_ms else 0.0

    def for_groups(self, budget_seconds: float) -> float:
        """What a round of this length may spend on its groups, seconds."""
        return max(budget_seconds - self.fixed, budget_seconds * GROUPS_SHARE)

    def allowance(self, budget: Budget) -> Allowance:
        """What the next round may spend. Rounds grow step by step: none has more than GROWTH times what was seen."""
        return Allowance(
            self.for_groups(budget.seconds),
            budget.oldest_first_share,
            budget.random_share,
            min(budget.max_groups, max(FIRST, GROWTH * self.largest)),
            self.each * 1000.0,
            self.cores,
        )


@dataclass
class Experience:
    """The rounds that the cost is learned from: the last few of each size."""

    cores: int
    _rounds: dict[int, list[PastRound]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, rounds: Iterable[PastRound], cores: int) -> Experience:
        """rounds: the oldest first."""
        made = cls(cores)
        for each in rounds:
            made.add(each)
        return made

    def __len__(self) -> int:
        return sum(map(len, self._rounds.values()))

    def add(self, done: PastRound) -> None:
        if done.groups > 0 and done.seconds > 0:
            of_size = self._rounds[done.groups.bit_length()]
            of_size.append(done)
            del of_size[:-REMEMBERED]

    def cost(self) -> RoundCost:
        assumed = np.array([ASSUMED_FIXED, ASSUMED_EACH / self.cores])
        misfit = ASSUMED_WEIGHT * (np.abs(np.log(_FIXED / assumed[0])) + np.abs(np.log(_EACH / assumed[1])))[..., 0]
        largest = 0
        for of_size in self._rounds.values():
            groups = np.array([each.groups for each in of_size], dtype=np.float64)
            took = np.array([each.seconds for each in of_size])
            fits = np.array([parallel(each.fit_ms, each.longest_ms, self.cores) / 1000.0 for each in of_size])
            weight = {1: ONCE, 2: TWICE}.get(len(of_size), OFTEN)
            predicted = _FIXED + _EACH * groups + fits
            misfit = misfit + weight * np.abs(np.log(predicted / took)).mean(axis=2)
            if len(of_size) > 1:
                largest = max(largest, int(groups.max()))
        i, j = np.unravel_index(int(misfit.argmin()), misfit.shape)
        return RoundCost(float(_FIXED[i, 0, 0]), float(_EACH[0, j, 0]), self.cores, largest)
