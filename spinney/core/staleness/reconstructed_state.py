"""The judge's state computed at once from everything that is stored, without a running stream.

The stream's judge updates its state batch by batch. `retrain --stale` has the tables instead: every attempt and every
row of health, in no order. Label arrival times are not stored, so a row counts as new if it matured after the last
attempt. The stream also counts late labels of events that were mature before the attempt, so a group may be stale for
the stream and not by this state. Rows that mature while a weekly round runs count in this state and not in the
stream's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from schemas.vocabulary import ModelStatus
from spinney.core.staleness.group_state import NEVER, GroupStates
from spinney.core.staleness.judge import JudgeInput, JudgeSettings, ShardState, advance


def reconstruct_state(inputs: JudgeInput, settings: JudgeSettings, clock: int, now: int) -> ShardState:
    """Return the state of a shard.

    inputs: everything that is stored of the shard. clock: the fleet's, microseconds. now: wall clock, microseconds.
    """
    shard = advance(replace(ShardState.empty(), clock=clock), inputs, settings, now)
    health = inputs.health.of_groups()
    mature_at = health.last_event_time + settings.label_delay
    is_mature = mature_at <= shard.clock
    at = shard.groups.positions_of(health.group_key.tolist())[is_mature]
    mature = _MatureRows(at, mature_at[is_mature], health.labelled[is_mature])
    mature.count_since_attempts(shard.groups)
    mature.count_labelled(shard.groups, inputs)
    return shard


@dataclass(frozen=True)
class _MatureRows:
    """Numbers of mature labelled rows. at: position of the group. mature_at: microseconds. All of one length."""

    at: npt.NDArray[np.int64]
    mature_at: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]

    def count_since_attempts(self, groups: GroupStates) -> None:
        """Set rows_since: the rows that matured after the last attempt."""
        attempted = groups["attempted_at"][self.at]
        after = (attempted == NEVER) | (self.mature_at > attempted)
        groups["rows_since"][:] = 0
        np.add.at(groups["rows_since"], self.at[after], self.rows[after])

    def count_labelled(self, groups: GroupStates, inputs: JudgeInput) -> None:
        """Set labelled: all mature rows, or more if an attempt with too few rows reported more."""
        groups["labelled"][:] = 0
        np.add.at(groups["labelled"], self.at, self.rows)
        few = [row for row in inputs.unfitted if row.status == ModelStatus.TOO_FEW_ROWS]
        if not few:
            return
        order = np.lexsort((self.mature_at, self.at))
        at, mature_at = self.at[order], self.mature_at[order]
        sums = np.concatenate([[0], np.cumsum(self.rows[order])])
        positions = groups.positions_of([row.group_key for row in few])
        begins, ends = (np.searchsorted(at, positions, side) for side in ("left", "right"))
        for position, begin, end, row in zip(positions, begins, ends, few, strict=True):
            later = begin + np.searchsorted(mature_at[begin:end], row.clock, "right")
            known = row.rows + int(sums[end] - sums[later])
            groups["labelled"][position] = max(int(groups["labelled"][position]), known)
