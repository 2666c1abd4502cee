"""Event → prediction under a steady load: latency, lag and memory of the four queries, beside the no-op query.

A broker, a linear champion for each group, a load generator at `--rate` events a second. First the no-op query with a
trigger of one second for `--noop-seconds`, then `spinney stream` for `--seconds`, each on a topic of its own and after
`--warm-up` seconds of the same load. Latency is the time between the timestamps of the event and of its prediction in
Kafka. The lag grows when latency, fitted by a line over the time of sending, rises. Memory is that of the process tree
(driver, JVM, Python workers), without the broker and the generator; growth by a line over the measured time.

Targets: at 2,000 events/s p99 ≤ 3 × the no-op query's and p50 ≤ 3 s for 10 minutes; at ``--rate 5000`` the lag does not
grow for 10 minutes; peak memory ≤ 4 GB and flat over 30 minutes (``--seconds 1800``).
Run: ``python benchmarks/latency.py --groups 50000 --rate 2000 --seconds 600``
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from harness.broker import answers, count, make_topics, serving
from harness.commands import Commands, Running, Spinney
from harness.fleet import Settings, Truth, write_champions
from harness.process_tree import Usage
from harness.results import Measure, arguments, show, work_folder

from spinney.core.config import Config
from spinney.storage.config_file import read_config

FIRST = 100
"""Events that are sent, and have to be answered, before the load begins: everything has started then."""

SECONDS_TO_START, SECONDS_TO_END = 300, 600
Numbers = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Load:
    groups: int
    rate: int
    warm_up: int
    seconds: int

    @property
    def records(self) -> int:
        return self.rate * (self.warm_up + self.seconds)


@dataclass(frozen=True)
class Found:
    """latency_s: of each event after the warm-up, at_s: when it was sent. memory: samples of the same time."""

    at_s: Numbers
    latency_s: Numbers
    unanswered: int
    sent_per_s: float
    memory: Numbers

    def percentile(self, which: float) -> float:
        return float(np.percentile(self.latency_s, which))

    @property
    def growth_s_per_minute(self) -> float:
        return slope(self.at_s, self.latency_s) * 60

    @property
    def memory_growth_mb_per_minute(self) -> float:
        return slope(*self.memory.T) * 60 if len(self.memory) > 2 else 0.0


def slope(x: Numbers, y: Numbers) -> float:
    """Of the least-squares line."""
    centred = x - x.mean()
    return float((centred * y).sum() / (centred * centred).sum())


def times(records: Iterator[tuple[int, dict[str, Any]]], name: str, total: int) -> Numbers:
    """Seconds at which each event ``eN`` first stands in a topic, shape (total,); NaN where it does not.

    name: the field with the event's id.
    """
    found = np.full(total, np.nan)
    for at, record in records:
        event = record[name]
        if event.startswith("e"):
            number = int(event[1:])
            found[number] = np.fmin(found[number], at / 1000)
    return found


def eventually(what: str, running: Running, topic: tuple[str, str], wanted: int, seconds: float) -> bool:
    """Wait until a topic holds so many records; whether it does in time. Raises RuntimeError when the process ends."""
    until = time.monotonic() + seconds
    while count(*topic) < wanted:
        if not running.runs:
            running.stop()
            raise RuntimeError(f"{what} ended before it was stopped")
        if time.monotonic() > until:
            return False
        time.sleep(0.5)
    return True


class Course:
    """One fleet under load. output: topic that is answered to, field of the event's id there."""

    def __init__(self, config: Config, spinney: Spinney, load: Load, output: tuple[str, str]) -> None:
        self.config, self.spinney, self.load, self.output = config, spinney, load, output

    def measured(self, what: str, running: Running) -> tuple[Found, Usage]:
        """Load it and stop it."""
        topic = (self.config.kafka.bootstrap_servers, self.output[0])
        with killed_at_the_end(running):
            self._send(FIRST, "first", 0)
            if not eventually(what, running, topic, FIRST, SECONDS_TO_START):
                raise RuntimeError(f"{what}: no answer to the first {FIRST} events within {SECONDS_TO_START} s")
            began = time.monotonic() - running.began
            self._send(self.load.records, "e", self.load.rate)
            eventually(what, running, topic, FIRST + self.load.records, SECONDS_TO_END)
            usage = running.stop()
        return self._found(usage, began + self.load.warm_up), usage

    def _send(self, records: int, prefix: str, rate: int) -> None:
        place = [self.config.kafka.bootstrap_servers, self.config.kafka.events, str(self.load.groups), str(records)]
        self.spinney.run_module("harness.send", *place, "--prefix", prefix, "--rate", str(rate))

    def _found(self, usage: Usage, began: float) -> Found:
        servers, total = self.config.kafka.bootstrap_servers, self.load.records
        sent = times(answers(servers, self.config.kafka.events), "id", total)
        answered = times(answers(servers, self.output[0]), self.output[1], total)
        if np.isnan(sent).any():
            missing = int(np.isnan(sent).sum())
            raise RuntimeError(f"topic {self.config.kafka.events}: {missing} of {total} events are missing")
        late = sent - sent.min() >= self.load.warm_up
        known = late & ~np.isnan(answered)
        memory = np.array([(at, mb) for at, mb in usage.memory if began <= at <= began + self.load.seconds])
        unanswered = int((late & np.isnan(answered)).sum())
        return Found(sent[known], (answered - sent)[known], unanswered, total / float(np.ptp(sent)), memory)


@contextmanager
def killed_at_the_end(running: Running) -> Iterator[None]:
    try:
        yield
    finally:
        running.kill()


def new_fleet(folder: Path, load: Load, servers: str, spark: Sequence[str]) -> Path:
    folder.mkdir()
    return Settings(f"latency-{uuid.uuid4().hex[:8]}", load.groups, servers, spark=tuple(spark)).write(folder)


def noop(file: Path, commands: Commands, load: Load) -> tuple[Found, Usage]:
    config, spinney = read_config(file), commands(file)
    topic = f"{config.fleet.name}.noop"
    make_topics(config, topic)
    course = Course(config, spinney, load, (topic, "id"))
    return course.measured("the no-op query", spinney.start_module("harness.noop", str(file), topic, "--every", "1"))


def ours(file: Path, commands: Commands, load: Load) -> tuple[Found, Usage]:
    config, spinney = read_config(file), commands(file)
    make_topics(config)
    write_champions(config, Truth(load.groups))
    course = Course(config, spinney, load, (config.kafka.predictions or "", "event_id"))
    return course.measured("spinney stream", spinney.start("stream"))


def main(arguments_given: Sequence[str] | None = None, commands: Commands = Spinney) -> None:
    usual = {"groups": 50_000, "rate": 2_000, "warm_up": 60, "seconds": 600, "noop_seconds": 120}
    parser = arguments(__doc__ or "", usual)
    asked = parser.parse_args(arguments_given)
    peer = "no-op query"
    targets = {50: "≤ 3 s", 95: "", 99: "≤ 3 ×", 100: ""}
    percentiles = {
        which: Measure(f"event → prediction, {f'p{which}' if which < 100 else 'longest'}", "s", "less", peer, target)
        for which, target in targets.items()
    }
    sent = Measure("load", "events/s", "more", target=f"{asked.rate:,}")
    growth = Measure("growth of the lag", "s/min", target="about 0")
    unanswered = Measure("events without a prediction", "events", target="0")
    peak = Measure("peak memory of the process tree", "MB", "less", peer, "≤ 4,000")
    memory = Measure("growth of memory", "MB/min", target="about 0 over 30 min")
    with work_folder() as place, serving(place, asked.bootstrap_servers) as servers:
        for run in range(asked.runs):
            load = Load(asked.groups, asked.rate, asked.warm_up, asked.seconds)
            limit_load = Load(asked.groups, asked.rate, asked.warm_up, asked.noop_seconds)
            limit_file = new_fleet(place / f"noop-{run}", limit_load, servers, asked.spark)
            limit, limit_usage = noop(limit_file, commands, limit_load)
            found, usage = ours(new_fleet(place / f"ours-{run}", load, servers, asked.spark), commands, load)
            for which, measure in percentiles.items():
                measure.add(found.percentile(which), peer=limit.percentile(which))
            sent.add(found.sent_per_s)
            growth.add(found.growth_s_per_minute)
            unanswered.add(found.unanswered)
            peak.add(usage.peak_mb, peer=limit_usage.peak_mb, peak_mb=usage.peak_mb)
            memory.add(found.memory_growth_mb_per_minute)
    show(asked, [*percentiles.values(), sent, growth, unanswered, peak, memory])


if __name__ == "__main__":
    main()
