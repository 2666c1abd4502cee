"""The function that runs in a Python worker for each shard of a retrain batch."""

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
from spinney.core.planning.budget import Allowance, Queues
from spinney.core.staleness.judge import Most, Shard, Terms, advance, report
from spinney.core.staleness.policies import configured
from spinney.retraining import judge_input

STATE = "groups binary"
TICK_MS = 10_000
"""How often a shard without news is judged."""

IDLE_MS = 600_000
"""How often one is in which nothing can happen before there are news."""

CLOCK_STEP = 60_000_000
"""A shard whose clock alone went on is written when it went on by so much, microseconds of the fleet's clock.

Each batch of scores brings every shard the time. A worker that starts anew takes the clock up from where it was written
last; nothing had become stale in between, or the shard would have been written.
"""

KEPT_BYTES = 32 * 1024**2
"""State of the shards that a worker keeps decoded; as values it takes about three times as much memory."""

UNEVEN, FEWEST = 4, 64
"""A shard puts forward up to four times its share of what a round may take, and always up to 64 groups.

Keys are hashed to shards: that a shard of 20 expected due groups has more than 80 happens once in 10^20 shards.
"""

Rows = Iterable[pd.DataFrame]


class Decoded:
    """The last states seen in this process, by the digest of their bytes: a worker outlives its tasks."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._shards: OrderedDict[int, tuple[int, int, Shard]] = OrderedDict()

    def take(self, number: int, blob: bytes) -> Shard:
        """The shard of these bytes. It is taken out: a task that dies may leave it half changed."""
        known = self._shards.pop(number, None)
        if known is not None:
            self._bytes -= known[1]
            if known[0] == xxhash.xxh3_64_intdigest(blob):
                return known[2]
        return Shard.from_bytes(blob)

    def put(self, number: int, blob: bytes, shard: Shard) -> None:
        _, replaced, _ = self._shards.pop(number, (0, 0, shard))
        self._bytes -= replaced
        self._shards[number] = (xxhash.xxh3_64_intdigest(blob), len(blob), shard.sealed())
        self._bytes += len(blob)
        while self._bytes > self._most_bytes:
            _, (_, size, _) = self._shards.popitem(last=False)
            self._bytes -= size


_decoded = Decoded(KEPT_BYTES)


@dataclass(frozen=True)
class Judging:
    """What judging needs to know; pickled into the workers. queues: groups that all shards together put forward."""

    terms: Terms
    queues: Queues
    shards: int = 1

    @classmethod
    def of(cls, config: Config) -> Judging:
        budget = config.budget
        limits = Allowance(None, budget.oldest_first_share, budget.random_share, budget.max_groups)
        queues = Queues.of(limits)
        assert queues is not None, "budget.max_groups is a limit"
        return cls(Terms.of(config, configured(config)), queues, config.fleet.shards)

    def function(self) -> Callable[[tuple[Any, ...], Rows, GroupState], Rows]:
        def judge_shard(key: tuple[Any, ...], frames: Rows, state: GroupState) -> Rows:
            number = int(key[0])
            rows = [frame for frame in frames if len(frame)]
            now = int(state.getCurrentProcessingTimeMs()) * 1000
            blob = bytes(state.get[0]) if state.exists else b""
            shard = _decoded.take(number, blob) if blob else Shard.empty()
            before = shard.sections
            shard = advance(shard, judge_input.parse_frames(rows), self.terms, now)
            said = report(shard, self.terms, now, self._most(now))
            if shard.sections != before or shard.clock >= Shard.clock_of(blob) + CLOCK_STEP:
                blob = shard.to_bytes()
                state.update((blob,))
            _decoded.put(number, blob, shard)
            # Set in every call: a timer that went off, or an older one, does not count any more.
            state.setTimeoutDuration(_idle_until(number, now) if self._is_idle(shard, now) else TICK_MS)
            if said.rows or said.due:
                yield judge_input.report_rows(number, said, shard.clock)

        return judge_shard

    def _most(self, now: int) -> Most:
        by_rank, oldest, by_lot = (
            max(FEWEST, -(-UNEVEN * length // self.shards)) if length else 0
            for length in (self.queues.by_rank, self.queues.oldest, self.queues.by_lot)
        )
        return Most(by_rank, oldest, by_lot, lot=str(now))

    def _is_idle(self, shard: Shard, now: int) -> bool:
        """Whether no verdict can change before there are news: time alone changes it by the wall clock only."""
        groups = shard.groups
        # If no policy calls a group stale, the end of its wait changes nothing.
        wakes = (groups["retry_at"] > now) & (groups["decision"] == Staleness.REFUSED.value)
        return not (self.terms.wall or groups.any_due or wakes.any())


def _idle_until(number: int, now: int) -> int:
    """How long an idle shard sleeps, milliseconds: IDLE_MS at most.

    Until the same moment whenever it is asked, another one for each shard: Spark writes a state whose timer changes.
    """
    into = (now // 1000 + number * TICK_MS) % IDLE_MS
    return IDLE_MS - into
