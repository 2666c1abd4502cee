"""The cost of a tick of one shard: load the state, apply new rows, judge, and write the state.

A tick comes every few seconds for each of the shards, whether anything happened or not; 64 shards of 1,000 groups are
50,000 groups and some room. Run: ``python benchmarks/judge.py --groups 1000 --news 100``
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from statistics import median

import numpy as np
import pandas as pd

from spinney.core.champions.promotion import Promotion
from spinney.core.staleness.judge import DecisionRecord, JudgeInput, JudgeSettings, ShardState, advance, judge
from spinney.core.staleness.policies import ErrorRise, MaxAge, NewGroup, NewRows

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
SETTINGS = JudgeSettings(
    policies=(NewGroup(20), ErrorRise(timedelta(days=365)), NewRows(200), MaxAge(timedelta(days=7))),
    min_rows=20,
    label_delay=3_600 * SECOND,
    patience=365 * 86_400 * SECOND,
    is_wall_clock=False,
)


@dataclass(frozen=True)
class Load:
    """The load of one tick.

    groups: in the shard. news: new rows of health. waiting: pending rows in the state, all of which mature.
    """

    groups: int
    news: int
    waiting: int


def key(n: int) -> str:
    """Return the encoded key of group n."""
    return json.dumps(["AA", "JFK", f"{n:05d}"], separators=(",", ":"))


def health(load: Load, rows: int, clock: int) -> pd.DataFrame:
    """Return `rows` deltas of health of random groups, from the half hour before `clock` (µs)."""
    random = np.random.default_rng(rows)
    chosen = random.integers(0, load.groups, rows)
    return pd.DataFrame(
        {
            "group_key": [key(n) for n in chosen],
            "model_id": [f"{n:064x}" for n in chosen],
            "labelled": random.integers(1, 4, rows),
            "loss": random.random(rows),
            "losses": None,
            "last_event_time": clock - random.integers(0, 1_800 * SECOND, rows),
        }
    )


def promoted(n: int, clock: int) -> DecisionRecord:
    """Return the promotion of group n's first champion."""
    promotion = Promotion(0, f"{n:064x}", "promoted", clock, clock, clock)
    return DecisionRecord(key(n), promotion, by_machine=True, clock=clock, loss=0.5, fit_ms=2.0)


def full_shard(load: Load) -> ShardState:
    """Every group has its champion; the newest deltas wait to mature."""
    news = JudgeInput([promoted(n, START) for n in range(load.groups)], [], health(load, load.waiting, START))
    shard = advance(ShardState.empty(), news, SETTINGS, START)
    judge(shard, SETTINGS, START)
    return shard


def per_call(call: Callable[[], object], repeats: int) -> float:
    """Return the median milliseconds of a call."""
    call()
    took = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return median(took) * 1000


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, usual in {"groups": 1000, "news": 100, "waiting": 1000, "repeats": 30}.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    asked = parser.parse_args()
    load = Load(asked.groups, asked.news, asked.waiting)
    shard, clock = full_shard(load), START + 3_600 * SECOND
    blob = shard.to_bytes()
    deltas = health(load, load.news, clock)
    quiet = JudgeInput([], [], deltas[:0])
    busy = JudgeInput([promoted(n, clock) for n in range(min(10, load.groups))], [], deltas)

    def tick(news: JudgeInput) -> bytes:
        after = advance(ShardState.from_bytes(blob), news, SETTINGS, clock)
        judge(after, SETTINGS, clock)
        return after.to_bytes()

    parts: dict[str, Callable[[], object]] = {
        "from bytes": lambda: ShardState.from_bytes(blob),
        "advance": lambda: advance(shard, busy, SETTINGS, clock),
        "judge": lambda: judge(shard, SETTINGS, clock),
        "to bytes": shard.to_bytes,
        "advance + judge": lambda: judge(advance(shard, busy, SETTINGS, clock), SETTINGS, clock),
        "whole tick": lambda: tick(busy),
        "quiet tick": lambda: tick(quiet),
    }
    print(f"{load.groups} groups, {load.news} deltas, {load.waiting} maturing, {len(blob) / 1024:.0f} kB of state")
    for name, call in parts.items():
        print(f"{name:>16}: {per_call(call, asked.repeats):7.2f} ms per shard")


if __name__ == "__main__":
    main()
