"""Event → prediction under a steady load: latency, lag and memory of the four queries, beside the no-op query.

A broker, a linear champion for each group, a load generator at `--rate` events a second. First the no-op query with a
trigger of one second for `--noop-seconds`, then `spinney stream` for `--seconds`, each on a topic of its own and after
`--warm-up` seconds of the same load. Latency is the time between the timestamps of the event and of its prediction in
Kafka. The lag grows when latency, fitted by a line over the time of sending, rises. Memory is that of the process tree,
and of the driver, the JVM and the Python workers, without the broker and the generator; growth by a line over the
measured time.

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
from harness.fleet import LabelModel, Settings, write_champions
from harness.process_tree import KINDS, Usage, peak_mb
from harness.results import Measure, arguments, show, work_folder

from spinney.core.config import Config
from spinney.storage.config_file import read_config

WARMUP_EVENTS = 100
"""Events that are sent and answered before the load begins, so that everything has started."""

START_TIMEOUT_S, END_TIMEOUT_S = 300, 600
Numbers = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Load:
    """groups; rate: events per second; warm_up, seconds: of the load."""

    groups: int
    rate: int
    warm_up: int
    seconds: int

    @property
    def records(self) -> int:
        """Events of the whole load, warm-up included."""
        return self.rate * (self.warm_up + self.seconds)


@dataclass(frozen=True)
class LatencyResult:
    """latency_s: of each event after the warm-up. at_s: when it was sent. memory: samples of the same time, (s, MB)."""

    at_s: Numbers
    latency_s: Numbers
    unanswered: int
    sent_per_s: float
    memory: Numbers

    def percentile(self, which: float) -> float:
        """Return a percentile of the latency (s). which: 0 to 100."""
        return float(np.percentile(self.latency_s, which))

    @property
    def growth_s_per_minute(self) -> float:
        """Growth of the latency over the time of sending."""
        return least_squares_slope(self.at_s, self.latency_s) * 60

    @property
    def memory_growth_mb_per_minute(self) -> float:
        """Growth of memory; 0 with fewer than three samples."""
        return least_squares_slope(*self.memory.T) * 60 if len(self.memory) > 2 else 0.0


def least_squares_slope(x: Numbers, y: Numbers) -> float:
    """Return the slope of the least-squares line."""
    centred = x - x.mean()
    return float((centred * y).sum() / (centred * centred).sum())


def first_times(records: Iterator[tuple[int, dict[str, Any]]], name: str, total: int) -> Numbers:
    """Return when each event ``eN`` was first written to a topic, in seconds, shape (total,); NaN if it was not.

    name: the field with the event's id.
    """
    found = np.full(total, np.nan)
    for at, record in records:
        event = record[name]
        if event.startswith("e"):
            number = int(event[1:])
            found[number] = np.fmin(found[number], at / 1000)
    return found


def wait_for_records(what: str, running: Running, topic: tuple[str, str], wanted: int, seconds: float) -> bool:
    """Wait until a topic has so many records. Returns whether in time. Raises RuntimeError: the process ended."""
    until = time.monotonic() + seconds
    while count(*topic) < wanted:
        if not running.runs:
            running.stop()
            raise RuntimeError(f"{what} ended before it was stopped")
        if time.monotonic() > until:
            return False
        time.sleep(0.5)
    return True


class LoadTest:
    """A fleet under load. output: topic of the answers, and the field of the event's id there."""

    def __init__(self, config: Config, spinney: Spinney, load: Load, output: tuple[str, str]) -> None:
        self.config, self.spinney, self.load, self.output = config, spinney, load, output

    def measure(self, what: str, running: Running) -> tuple[LatencyResult, Usage]:
        """Put the running process under load, stop it, and return latency and cost."""
        topic = (self.config.kafka.bootstrap_servers, self.output[0])
        with kill_at_the_end(running):
            self._send(WARMUP_EVENTS, "first", 0)
            if not wait_for_records(what, running, topic, WARMUP_EVENTS, START_TIMEOUT_S):
                raise RuntimeError(f"{what}: no answer to the first {WARMUP_EVENTS} events within {START_TIMEOUT_S} s")
            began = time.monotonic() - running.began
            self._send(self.load.records, "e", self.load.rate)
            wait_for_records(what, running, topic, WARMUP_EVENTS + self.load.records, END_TIMEOUT_S)
            usage = running.stop()
        return self._evaluate(usage, began + self.load.warm_up), usage

    def _send(self, records: int, prefix: str, rate: int) -> None:
        place = [self.config.kafka.bootstrap_servers, self.config.kafka.events, str(self.load.groups), str(records)]
        self.spinney.run_module("harness.send", *place, "--prefix", prefix, "--rate", str(rate))

    def _evaluate(self, usage: Usage, began: float) -> LatencyResult:
        servers, total = self.config.kafka.bootstrap_servers, self.load.records
        sent = first_times(answers(servers, self.config.kafka.events), "id", total)
        answered = first_times(answers(servers, self.output[0]), self.output[1], total)
        if np.isnan(sent).any():
            missing = int(np.isnan(sent).sum())
            raise RuntimeError(f"topic {self.config.kafka.events}: {missing} of {total} events are missing")
        late = sent - sent.min() >= self.load.warm_up
        known = late & ~np.isnan(answered)
        memory = np.array([(at, mb) for at, mb in usage.memory if began <= at <= began + self.load.seconds])
        unanswered = int((late & np.isnan(answered)).sum())
        return LatencyResult(sent[known], (answered - sent)[known], unanswered, total / float(np.ptp(sent)), memory)


@contextmanager
def kill_at_the_end(running: Running) -> Iterator[None]:
    """Kill a process when the context ends."""
    try:
        yield
    finally:
        running.kill()


def write_fleet(folder: Path, load: Load, servers: str, spark: Sequence[str]) -> Path:
    """Write the configuration of a new fleet into a folder and return its path."""
    folder.mkdir()
    return Settings(f"latency-{uuid.uuid4().hex[:8]}", load.groups, servers, spark=tuple(spark)).write(folder)


def measure_noop(file: Path, commands: Commands, load: Load) -> tuple[LatencyResult, Usage]:
    """Measure the no-op query under a load."""
    config, spinney = read_config(file), commands(file)
    topic = f"{config.fleet.name}.noop"
    make_topics(config, topic)
    load_test = LoadTest(config, spinney, load, (topic, "id"))
    return load_test.measure("the no-op query", spinney.start_module("harness.noop", str(file), topic, "--every", "1"))


def measure_spinney(file: Path, commands: Commands, load: Load) -> tuple[LatencyResult, Usage]:
    """Measure `spinney stream` under a load."""
    config, spinney = read_config(file), commands(file)
    make_topics(config)
    write_champions(config, LabelModel(load.groups))
    load_test = LoadTest(config, spinney, load, (config.kafka.predictions or "", "event_id"))
    return load_test.measure("spinney stream", spinney.start("stream"))


def main(arguments_given: Sequence[str] | None = None, commands: Commands = Spinney) -> None:
    """Run the benchmark."""
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
    by_kind = {kind: Measure(f"peak memory, {kind}", "MB", "less", peer) for kind in KINDS}
    with work_folder() as place, serving(place, asked.bootstrap_servers) as servers:
        for run in range(asked.runs):
            load = Load(asked.groups, asked.rate, asked.warm_up, asked.seconds)
            limit_load = Load(asked.groups, asked.rate, asked.warm_up, asked.noop_seconds)
            limit_file = write_fleet(place / f"noop-{run}", limit_load, servers, asked.spark)
            limit, limit_usage = measure_noop(limit_file, commands, limit_load)
            file = write_fleet(place / f"ours-{run}", load, servers, asked.spark)
            found, usage = measure_spinney(file, commands, load)
            for which, measure in percentiles.items():
                measure.add(found.percentile(which), peer=limit.percentile(which))
            sent.add(found.sent_per_s)
            growth.add(found.growth_s_per_minute)
            unanswered.add(found.unanswered)
            peak.add(usage.peak_mb, peer=limit_usage.peak_mb, peak_mb=usage.peak_mb)
            memory.add(found.memory_growth_mb_per_minute)
            for kind, samples in usage.memory_by_kind.items():
                by_kind[kind].add(peak_mb(samples), peer=peak_mb(limit_usage.memory_by_kind[kind]))
    show(asked, [*percentiles.values(), sent, growth, unanswered, peak, memory, *by_kind.values()])


if __name__ == "__main__":
    main()
