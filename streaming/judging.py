"""The function that runs in a Python worker for each shard of a retrain batch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql.streaming.state import GroupState

from spinney.core.champion import Promotion
from spinney.core.config import Config
from spinney.core.judge import VERDICT_COLUMNS, Decided, News, Shard, Terms, Unfitted, advance, judge
from spinney.core.staleness import configured

STATE = "groups binary"
OUTPUT = (
    "shard int, group_key string, policy string, decision string, reason string, numbers string, model_id string, "
    "epoch bigint, stale_since bigint, clock bigint, predicted_ms double, urgency double, repeats bigint"
)
TICK_MS = 10_000
"""How often a shard without news is judged."""

Rows = Iterable[pd.DataFrame]
HEALTH = ("group_key", "model_id", "labelled", "loss", "last_event_time")
MACHINES = frozenset({"stream", "batch"})


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
            shard = advance(shard, news(rows), self.terms, now)
            verdicts = judge(shard, self.terms, now)
            state.update((shard.to_bytes(),))
            state.setTimeoutDuration(TICK_MS)
            if verdicts:
                yield _frame(int(key[0]), verdicts)

        return judge_shard


def news(frames: list[pd.DataFrame]) -> News:
    """The rows of a batch, told apart by the table they are of."""
    if not frames:
        return News((), (), pd.DataFrame({name: pd.Series(dtype=_dtype(name)) for name in HEALTH}))
    rows = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    health = rows.loc[rows["kind"] == "health", list(HEALTH)]
    health = health.astype({name: _dtype(name) for name in HEALTH})
    decided = [_decided(row) for row in rows[rows["kind"] == "promotion"].to_dict("records")]
    unfitted = [
        Unfitted(row["group_key"], row["status"], _whole(row["rows"]), _whole(row["fitted_at"]), _whole(row["clock"]))
        for row in rows[rows["kind"] == "unfitted"].to_dict("records")
    ]
    return News(decided, unfitted, health)


def _dtype(name: str) -> str:
    return {"labelled": "int64", "loss": "float64", "last_event_time": "int64"}.get(name, "object")


def _decided(row: dict[Any, Any]) -> Decided:
    loss, fit_ms = (np.nan if row[name] is None else float(row[name]) for name in ("loss", "fit_ms"))
    return Decided(row["group_key"], Promotion.of_row(row), row["by"] in MACHINES, _whole(row["clock"]), loss, fit_ms)


def _whole(value: Any) -> int:
    return 0 if value is None or pd.isna(value) else int(value)


def _frame(shard: int, verdicts: list[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(verdicts, columns=list(VERDICT_COLUMNS))
    frame["numbers"] = [json.dumps(numbers, separators=(",", ":")) for numbers in frame["numbers"]]
    frame.insert(0, "shard", np.full(len(frame), shard, dtype=np.int32))
    return frame
