"""The stateful function of query retrain: judges one shard per call, in a Python worker."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import xxhash
from pyspark.sql.streaming.state import GroupState

from schemas.vocabulary import Staleness
from spinney.core.config import Config
from spinney.core.migration import LossHistory
from spinney.core.planning.brake import MAX_SAMPLE
from spinney.core.planning.budget import QueueLengths, RoundAllowance
from spinney.core.staleness.judge import DueLimits, JudgeSettings, ShardState, advance, report
from spinney.retraining import judge_input

STATE_SCHEMA = "groups binary"
TICK_MS = 10_000
"""Milliseconds after which a shard without new rows is judged again."""

IDLE_MS = 600_000
"""Milliseconds after which a shard is judged again if its verdicts cannot change without new rows."""

CLOCK_STEP = 60_000_000
"""If only the clock of a state has advanced, the state is written once per this step, microseconds of the fleet's
clock.

Each batch of scores advances the clock of every shard. A restarted worker continues from the stored clock. No group can
have become stale in between, or the state would have been written.
"""

KEPT_BYTES = 8 * 1024**2
"""Limit of the states that a worker keeps decoded, in encoded bytes. Decoded states take about three times as much
memory.

Spark gives a shard to any worker. Without the limit each worker would keep a copy of the whole fleet, most of it
outdated. With three workers a state is found for a third of the shards, which saves 2 ms of about 15.
"""

MAX_SHARE_FACTOR, MIN_FORWARD = 4, 64
"""A shard puts forward up to four times its share of a round's groups, and always up to 64.

Keys are hashed to shards: more than 80 due groups where 20 are expected occur once in 10^20 shards.
"""

Rows = Iterable[pd.DataFrame]


class ShardCache:
    """Decoded states, by shard and digest of their bytes.

    A worker process lives longer than a task, so most are used again.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._shards: OrderedDict[int, tuple[int, int, ShardState]] = OrderedDict()

    def take(self, number: int, blob: bytes) -> ShardState:
        """Return the state of these bytes and remove it, since a task that fails may leave it half changed."""
        known = self._shards.pop(number, None)
        if known is not None:
            self._bytes -= known[1]
            if known[0] == xxhash.xxh3_64_intdigest(blob):
                return known[2]
        return ShardState.from_bytes(blob)

    def put(self, number: int, blob: bytes, shard: ShardState) -> None:
        """Keep a sealed state; the least recently put ones are dropped beyond the limit."""
        _, replaced, _ = self._shards.pop(number, (0, 0, shard))
        self._bytes -= replaced
        self._shards[number] = (xxhash.xxh3_64_intdigest(blob), len(blob), shard)
        self._bytes += len(blob)
        while self._bytes > self._max_bytes:
            _, (_, size, _) = self._shards.popitem(last=False)
            self._bytes -= size


_cache = ShardCache(KEPT_BYTES)


@dataclass(frozen=True)
class ShardJudge:
    """The settings of the judge, and its function. It is pickled and sent to Spark's workers.

    queues: how many groups all shards together put forward at most, by queue.
    """

    settings: JudgeSettings
    queues: QueueLengths
    shards: int = 1

    @classmethod
    def from_config(cls, config: Config, losses: LossHistory | None = None) -> ShardJudge:
        """Return the judge of a configuration. losses: of the fleet; None: the loss has never changed."""
        budget = config.budget
        limits = RoundAllowance(None, budget.oldest_first_share, budget.random_share, budget.max_groups)
        queues = QueueLengths.for_allowance(limits)
        assert queues is not None, "budget.max_groups is a limit"
        return cls(JudgeSettings.from_config(config, losses), queues, config.fleet.shards)

    def function(self) -> Callable[[tuple[Any, ...], Rows, GroupState], Rows]:
        """Return the function for `applyInPandasWithState`: rows of `judge_input.union_frame` to rows of VERDICTS.

        It yields nothing for a shard that has nothing to report. Raises Corrupt for a state of another format.
        """

        def judge_shard(key: tuple[Any, ...], frames: Rows, state: GroupState) -> Rows:
            number = int(key[0])
            rows = [frame for frame in frames if len(frame)]
            now = int(state.getCurrentProcessingTimeMs()) * 1000
            blob = bytes(state.get[0]) if state.exists else b""
            shard = _cache.take(number, blob) if blob else ShardState.empty()
            before = shard.sections
            shard = advance(shard, judge_input.parse_frames(rows), self.settings, now)
            shard_report = report(shard, self.settings, now, self._due_limits(now))
            shard = shard.sealed()  # its groups are encoded once, for all that follows
            if shard.sections != before or shard.clock >= ShardState.clock_of(blob) + CLOCK_STEP:
                blob = shard.to_bytes()
                state.update((blob,))
            _cache.put(number, blob, shard)
            # Set in every call: a timeout holds only until the next call.
            state.setTimeoutDuration(_idle_timeout_ms(number, now) if self._is_idle(shard, now) else TICK_MS)
            if shard_report.rows or shard_report.due or shard_report.has_changed_errors:
                yield judge_input.report_rows(number, shard_report, shard.clock)

        return judge_shard

    def _due_limits(self, now: int) -> DueLimits:
        by_rank, oldest, random = (
            max(MIN_FORWARD, -(-MAX_SHARE_FACTOR * length // self.shards)) if length else 0
            for length in (self.queues.by_rank, self.queues.oldest, self.queues.random)
        )
        # The brake draws its sample from these groups, whatever `budget.random_share` is.
        random = max(random, -(-MAX_SHARE_FACTOR * MAX_SAMPLE // self.shards))
        return DueLimits(by_rank, oldest, random, seed=str(now))

    def _is_idle(self, shard: ShardState, now: int) -> bool:
        """Whether no verdict can change before new rows arrive. Time alone changes verdicts only on the wall clock."""
        groups = shard.groups
        # A wait matters only for a group that a policy calls stale.
        wakes = (groups["retry_at"] > now) & (groups["decision"] == Staleness.REFUSED.value)
        return not (self.settings.is_wall_clock or groups.has_due or wakes.any())


def _idle_timeout_ms(number: int, now: int) -> int:
    """Milliseconds until an idle shard is judged again, IDLE_MS at most.

    The moment depends on the shard, not on the time of the call, since Spark writes a state whose timeout changes.
    """
    into = (now // 1000 + number * TICK_MS) % IDLE_MS
    return IDLE_MS - into
