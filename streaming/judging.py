"""The function that runs in a Python worker for each shard of a retrain batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pyspark.sql.streaming.state import GroupState

from spinney.core.config import Config
from spinney.core.judge import Shard, Terms, advance, judge
from spinney.core.staleness import configured
from spinney.stores import news

STATE = "groups binary"
TICK_MS = 10_000
"""How often a shard without news is judged."""

Rows = Iterable[pd.DataFrame]


@dataclass(frozen=True)
class Judging:
    """What judging needs to know; pickled into the workers."""

    terms: Terms

    @classmethod
    def of(cls, config: Config) -> Judging:
        return cls(Terms.of(config, configured(config)))

    def function(self) -> Callable[[tuple[Any, ...], Rows, GroupState], Rows]:
        def judge_shard(key: tuple[Any, ...], frames: Rows, state: GroupState) -> Rows:
            rows = [frame for frame in frames if len(frame)]
            now = int(state.getCurrentProcessingTimeMs()) * 1000
            shard = Shard.from_bytes(bytes(state.get[0])) if state.exists else Shard.empty()
            shard = advance(shard, news.of_frames(rows), self.terms, now)
            verdicts = judge(shard, self.terms, now)
            state.update((shard.to_bytes(),))
            state.setTimeoutDuration(TICK_MS)
            if verdicts:
                yield news.verdict_rows(int(key[0]), verdicts)

        return judge_shard
