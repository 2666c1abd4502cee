"""Rules that say which groups of a simulated fleet have a risen error: the fleet's own, and others to compare with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.error_fleets import Bools, Floats
from spinney.core.staleness.evidence.error_evidence import LIMIT, ErrorEvidence
from spinney.core.staleness.evidence.loss_counting import REFERENCE_LOSSES
from spinney.core.staleness.evidence.loss_counting_order import CountedLosses
from spinney.core.staleness.evidence.loss_samples import LossSamples

DAY = 86_400_000_000
GROUPS_PER_SHARD = 1_000

Positions = npt.NDArray[np.int64]


class SequentialTest:
    """The policy `error_rise` with its state, shard by shard. patience: days."""

    def __init__(self, groups: int, patience: float, seed: int = 0) -> None:
        sizes = [min(GROUPS_PER_SHARD, groups - begin) for begin in range(0, groups, GROUPS_PER_SHARD)]
        self._shards = [ErrorEvidence.empty(size) for size in sizes]
        self._ends = np.cumsum(sizes)
        self._patience = round(patience * DAY)
        self._key_shares = np.random.default_rng(seed).random(groups)

    def new_champions(self, at: Positions, references: Floats, day: float) -> None:
        """As `Rule.new_champions`: those that came by an alarm, or first, restart; others go on."""
        for shard, end in zip(self._shards, self._ends, strict=True):
            begin = end - len(shard)
            mine = (at >= begin) & (at < end)
            places = at[mine] - begin
            evidence = shard.evidence[places]
            is_fresh = (evidence == 0) | (evidence >= LIMIT)
            fresh = places[is_fresh]
            shard.carry_on(places[~is_fresh])
            clocks = np.full(len(fresh), round(day * DAY))
            shard.restart(fresh, references[mine][is_fresh], clocks, least=REFERENCE_LOSSES)
            spent = np.zeros(len(shard), dtype=np.bool_)
            spent[places[evidence >= LIMIT]] = True
            shard.forget(spent)

    def alarms(self, losses: Floats, day: float) -> Bools:
        """As `Rule.alarms`."""
        out = []
        for n, (shard, end) in enumerate(zip(self._shards, self._ends, strict=True)):
            here, ones = slice(end - len(shard), end), np.ones(len(shard), dtype=np.int64)
            times = ones * round(day * DAY)
            rows = CountedLosses(np.arange(len(shard)), ones, losses[here], times, ones.astype(np.bool_))
            self._shards[n] = shard.counted(rows, self._key_shares[here], self._patience)
            out.append(self._shards[n].evidence >= LIMIT)
        return np.concatenate(out)


class Factor:
    """The recent mean loss, exponentially weighted over 30 rows, is `factor` times that of the held-out rows."""

    MEMORY = 30

    def __init__(self, groups: int, factor: float) -> None:
        self._factor = factor
        self._reference, self._sum, self._weight, self._rows = (np.zeros(groups) for _ in range(4))

    def new_champions(self, at: Positions, references: Floats, day: float) -> None:
        """As `Rule.new_champions`."""
        del day
        self._reference[at] = references.mean(axis=1)
        for column in (self._sum, self._weight, self._rows):
            column[at] = 0

    def alarms(self, losses: Floats, day: float) -> Bools:
        """As `Rule.alarms`."""
        del day
        kept = 1 - 1 / self.MEMORY
        self._sum = self._sum * kept + losses
        self._weight = self._weight * kept + 1
        self._rows += 1
        return (self._rows >= self.MEMORY) & (self._sum / self._weight >= self._factor * self._reference)


class Never:
    """No group is ever stale."""

    def new_champions(self, at: Positions, references: Floats, day: float) -> None:
        """As `Rule.new_champions`."""

    def alarms(self, losses: Floats, day: float) -> Bools:
        """As `Rule.alarms`."""
        del day
        return np.zeros(len(losses), dtype=np.bool_)


class EachRow:
    """A test of each loss at the level `alpha` against the held-out losses, as if it were the only one."""

    def __init__(self, groups: int, alpha: float = 0.05) -> None:
        self._alpha, self._samples = alpha, LossSamples.empty(groups)
        self._random = np.random.default_rng(0)

    def new_champions(self, at: Positions, references: Floats, day: float) -> None:
        """As `Rule.new_champions`."""
        del day
        self._samples.start(at, references)

    def alarms(self, losses: Floats, day: float) -> Bools:
        """As `Rule.alarms`."""
        del day
        return self._samples.shares_above(losses, self._random.random(len(losses))) <= self._alpha
