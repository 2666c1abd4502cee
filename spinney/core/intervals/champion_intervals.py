"""Half-widths of prediction intervals, a pure function of the champions of a shard."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa

from spinney.core import keys
from spinney.core.champions.held_out_loss_arrays import pack_rows, to_matrix
from spinney.core.champions.held_out_loss_codec import loss_of
from spinney.core.champions.promotion import Promotion
from spinney.core.champions.shard_champions import Champions
from spinney.core.config import Fleet
from spinney.core.intervals.conformal import Floats, calibrate

Pool = Sequence[bytes | None]
"""Packed losses of the champions of a shard's groups, in the order of their keys: on rows that they had not seen, or
the held-out losses where these are not stored.
"""

Pools = Callable[[Collection[int]], Mapping[int, Pool]]
"""Reads the pools of these shards. Shards without champions may be missing."""


@dataclass(frozen=True)
class IntervalRule:
    """The settings of intervals.

    coverage: in (0, 1). loss: absolute or squared, of losses that do not name theirs.
    """

    coverage: float
    loss: str

    @classmethod
    def of(cls, fleet: Fleet, coverage: float, first_loss: str | None = None) -> IntervalRule | None:
        """Return the rule of a fleet; None without intervals, that is for classification or a coverage of 0.

        first_loss: the loss that the fleet was made with; None if it was never changed.
        """
        if fleet.task != "regression" or not coverage:
            return None
        return cls(coverage, first_loss or fleet.loss)

    def residuals(self, packed: Pool) -> Floats:
        """Return the absolute residuals of each model, shape (n_models, n_residuals), padded with NaN.

        Each model's losses give them, whichever loss they are measured by, so that a change of the fleet's loss leaves
        the intervals as they are.
        """
        losses = to_matrix(packed)
        is_squared = np.array([(loss_of(of_model) or self.loss) == "squared" for of_model in packed], dtype=np.bool_)
        return np.asarray(np.sqrt(losses, out=losses, where=is_squared[:, None]))


class Intervals(Protocol):
    """Half-widths of prediction intervals: `ShardIntervals` or `FleetIntervals`."""

    def half_widths(self, group_keys: Sequence[str], promotions: Sequence[Promotion | None]) -> Floats:
        """Return the half-width of the interval around an answer in each group, shape (n_groups,); NaN: unbounded.

        promotions: that of each answering model: the group's own, a parent's, or None.
        """
        ...


class ShardIntervals:
    """Half-widths in one shard, calibrated on the losses of its champions.

    Each is computed once and cached.
    """

    def __init__(self, rule: IntervalRule, pool: Pool) -> None:
        self.rule = rule
        self._calibration = calibrate(rule.residuals(pool), rule.coverage)
        self._by_losses: dict[bytes | None, float] = {}

    def half_widths(self, group_keys: Sequence[str], promotions: Sequence[Promotion | None]) -> Floats:
        """Return the half-width of each answer's interval, as `Intervals`, for groups of this shard."""
        del group_keys
        return self.of_losses([None if row is None else row.heldout_losses for row in promotions])

    def of_losses(self, packed: Pool) -> Floats:
        """Return the half-widths of models with these losses, shape (n_models,)."""
        missing = [losses for losses in dict.fromkeys(packed) if losses not in self._by_losses]
        if missing:
            widths = self._calibration.half_widths(self.rule.residuals(missing))
            self._by_losses.update(zip(missing, widths.tolist(), strict=True))
        return np.array([self._by_losses[losses] for losses in packed], dtype=np.float64)


@dataclass(frozen=True)
class FleetIntervals:
    """Half-widths in a whole fleet, by the shard of each group. Shards are calibrated on first use.

    shards: number of shards of the fleet. pools: reads the pools of given shards.
    """

    rule: IntervalRule
    shards: int
    pools: Pools
    _by_shard: dict[int, ShardIntervals] = field(default_factory=dict, compare=False, repr=False)

    def are_calibrated(self, group_keys: Iterable[str]) -> bool:
        """Whether the shards of these groups are calibrated, so that their half-widths take microseconds."""
        return self._by_shard.keys() >= {keys.shard_of(key, self.shards) for key in group_keys}

    def calibrate(self, shards: Iterable[int]) -> None:
        """Calibrate those of these shards that are not calibrated yet."""
        wanted = sorted(set(shards) - self._by_shard.keys())
        if wanted:
            pools = self.pools(wanted)
            self._by_shard.update({shard: ShardIntervals(self.rule, pools.get(shard, ())) for shard in wanted})

    def after_change(self, pools: Pools, changed: Collection[int] | None) -> FleetIntervals:
        """Return the intervals of later champions, calibrated in the same shards as this object.

        pools: reads the pools of the later champions. changed: shards in which a champion may have changed; None: all.
        """
        known = dict(self._by_shard)  # another thread may add a shard meanwhile
        kept = {} if changed is None else {shard: own for shard, own in known.items() if shard not in changed}
        later = FleetIntervals(self.rule, self.shards, pools, kept)
        later.calibrate(known)
        return later

    def half_widths(self, group_keys: Sequence[str], promotions: Sequence[Promotion | None]) -> Floats:
        """Return the half-width of each answer's interval, as `Intervals`."""
        listed = [keys.shard_of(key, self.shards) for key in group_keys]
        if len(set(listed)) == 1:  # as of a single record, for which sorting would take longer than all else here
            self.calibrate(listed)
            return self._by_shard[listed[0]].half_widths(group_keys, promotions)
        shards = np.array(listed, dtype=np.int64)
        order = np.argsort(shards, kind="stable")
        found, starts = np.unique(shards[order], return_index=True)
        self.calibrate(found.tolist())
        widths = np.full(len(group_keys), np.nan)
        for shard, places in zip(found.tolist(), np.split(order, starts[1:]), strict=False):
            own = [promotions[at] for at in places.tolist()]
            widths[places] = self._by_shard[shard].half_widths((), own)
        return widths


def pools_of(rows: pa.Table, shards: int) -> dict[int, Pool]:
    """Return the pools of all shards, without parents.

    rows: rows of `promotions`, the champion of each group, sorted by key: group_key and some of
    `held_out_loss_codec.COLUMNS`. shards: number of shards of the fleet.
    """
    pools: dict[int, list[bytes | None]] = {}
    for key, losses in zip(rows["group_key"].to_pylist(), pack_rows(rows), strict=True):
        if not keys.is_parent(key):
            pools.setdefault(keys.shard_of(key, shards), []).append(losses)
    return dict(pools)


def pool_of(champions: Champions) -> Pool:
    """Return the pool of a shard with these champions, without parents and groups without a champion."""
    rows = (champions.champion_of(key) for key in sorted(champions.promotions) if not keys.is_parent(key))
    return [row.heldout_losses for row in rows if row is not None]
