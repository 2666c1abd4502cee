"""The CPU time of a tick of one shard: load the state, apply new rows, judge, and write the state.

A tick comes every few seconds for each of the shards, whether anything happened or not; 64 shards of 800 groups are
50,000 groups. Each new row of health has one prediction and one loss of its group's champion, which has losses and
predictions to be compared with. *Function of the query* is a busy tick as Spark calls it: with its rows as frames and
with the report. Run: ``python benchmarks/judge.py --groups 800 --new-rows 160``
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from statistics import median

import numpy as np
import pandas as pd

from spinney.core.champions.promotion import Promotion
from spinney.core.planning.budget import QueueLengths
from spinney.core.staleness.health_rows import HealthRows
from spinney.core.staleness.judge import DecisionRecord, JudgeInput, JudgeSettings, ShardState, advance, judge
from spinney.core.staleness.policies import ErrorRise, MaxAge, NewGroup, NewRows
from streaming.judging import ShardJudge

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
SETTINGS = JudgeSettings(
    policies=(NewGroup(20), ErrorRise(timedelta(days=365)), NewRows(200), MaxAge(timedelta(days=7))),
    min_rows=20,
    label_delay=0,
    patience=365 * 86_400 * SECOND,
    is_wall_clock=False,
    drift_patience=365 * 86_400 * SECOND,
)
QUEUES = QueueLengths(100, 20, 5)


@dataclass(frozen=True)
class Load:
    """The load of one tick.

    groups: in the shard. new_rows: rows of health that have come. waiting: pending rows in the state, all of which
    mature, while the new rows do not; 0: the new rows are mature at once.
    """

    groups: int
    new_rows: int
    waiting: int

    @property
    def settings(self) -> JudgeSettings:
        """Settings by which as many labels wait."""
        return replace(SETTINGS, label_delay=3_600 * SECOND) if self.waiting else SETTINGS


def key(n: int) -> str:
    """Return the encoded key of group n."""
    return json.dumps(["AA", "JFK", f"{n:05d}"], separators=(",", ":"))


def health(load: Load, rows: int, clock: int) -> pd.DataFrame:
    """Return `rows` deltas of health of random groups, from the half hour before `clock` (µs)."""
    random = np.random.default_rng(rows)
    chosen = random.integers(0, load.groups, rows)
    return pd.DataFrame(
        {
            "group_key": pd.Series([key(n) for n in chosen], dtype=object),
            "model_id": pd.Series([f"{n:064x}" for n in chosen], dtype=object),
            "labelled": np.ones(rows, dtype=np.int64),
            "loss": random.exponential(size=rows),
            "losses": None,
            "drift": pd.Series(list(random.standard_normal((rows, 1))), dtype=object),
            "last_event_time": clock - random.integers(0, 1_800 * SECOND, rows),
        }
    )


def promoted(n: int, clock: int) -> DecisionRecord:
    """Return the promotion of group n's first champion."""
    random = np.random.default_rng(n)
    promotion = Promotion(0, f"{n:064x}", "promoted", clock, clock, clock)
    losses, predictions = random.exponential(size=20), random.standard_normal(32)
    return DecisionRecord(key(n), promotion, True, clock, 0.5, 2.0, tuple(losses), tuple(predictions), rows=50)


def full_shard(load: Load) -> ShardState:
    """Every group has its champion; the newest deltas wait to mature."""
    deltas = HealthRows.of_frame(health(load, load.waiting, START))
    inputs = JudgeInput([promoted(n, START) for n in range(load.groups)], [], deltas)
    shard = advance(ShardState.empty(), inputs, load.settings, START)
    judge(shard, load.settings, START)
    return shard


def per_call(call: Callable[[], object], repeats: int) -> float:
    """Return the median CPU milliseconds of a call."""
    call()
    took = []
    for _ in range(repeats):
        began = time.process_time()
        call()
        took.append(time.process_time() - began)
    return median(took) * 1000


@dataclass
class State:
    """Spark's GroupState of a shard that always has the same value. now_ms: wall clock."""

    blob: bytes
    now_ms: int
    exists = True

    @property
    def get(self) -> tuple[bytes]:
        """The stored value."""
        return (self.blob,)

    def update(self, value: tuple[bytes]) -> None:
        """Ignore a new value."""

    def setTimeoutDuration(self, milliseconds: int) -> None:  # noqa: N802 - Spark's name
        """Ignore a timeout."""

    def getCurrentProcessingTimeMs(self) -> int:  # noqa: N802 - Spark's name
        """The wall clock of the batch."""
        return self.now_ms


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, usual in {"groups": 800, "new-rows": 160, "waiting": 0, "repeats": 30}.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    asked = parser.parse_args()
    load = Load(asked.groups, asked.new_rows, asked.waiting)
    settings = load.settings
    shard, clock = full_shard(load), START + 3_600 * SECOND
    blob = shard.to_bytes()
    frame = health(load, load.new_rows, clock)
    deltas = HealthRows.of_frame(frame)
    quiet = JudgeInput([], [], HealthRows.empty())
    busy = JudgeInput([promoted(n, clock) for n in range(min(10, load.groups))], [], deltas)
    rows, state = frame.assign(kind="health", decided=None, unfitted=None), State(blob, clock // 1000)
    function = ShardJudge(settings, QUEUES).function()

    def tick(inputs: JudgeInput) -> bytes:
        after = advance(ShardState.from_bytes(blob), inputs, settings, clock)
        judge(after, settings, clock)
        return after.to_bytes()

    parts: dict[str, Callable[[], object]] = {
        "from bytes": lambda: ShardState.from_bytes(blob),
        "advance": lambda: advance(shard, busy, settings, clock),
        "judge": lambda: judge(shard, settings, clock),
        "to bytes": shard.to_bytes,
        "advance + judge": lambda: judge(advance(shard, busy, settings, clock), settings, clock),
        "whole tick": lambda: tick(busy),
        "quiet tick": lambda: tick(quiet),
        "function of the query": lambda: list(function((0,), iter([rows]), state)),
    }
    print(f"{load.groups} groups, {load.new_rows} deltas, {load.waiting} maturing, {len(blob) / 1024:.0f} kB of state")
    for name, call in parts.items():
        print(f"{name:>21}: {per_call(call, asked.repeats):7.2f} ms of CPU per shard")


if __name__ == "__main__":
    main()
