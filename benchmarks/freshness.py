"""Time from the outcome that makes a group stale to the first prediction by its new champion.

The four queries under `--rate` events a second. Each second `--turn` groups that were fresh get the 25 labelled events
that `staleness.new_rows` asks for. From then on each of them is asked again every three seconds for 90 s, so a wait is
known to within three seconds. The rest of the rate goes to the other groups. A wait begins with the timestamp in Kafka
of the 25th event and ends with that of the first prediction whose model is not the one before. When the load has ended,
groups that still wait are asked on for up to five minutes.

The champions' weights differ from the true ones (CHAMPION_ERROR), as those of stale models do. A challenger has seen 50
rows, so against a champion with the true weights it would be worse, and the gate would rightly refuse some. Such a
group waits for 25 more rows, which the probes bring in 75 s. Groups with a refused challenger are counted.

Groups that turn within the first `--warm-up` seconds are not counted: the JVM compiles its code then.

Peer: the batch in which the 25th event itself was answered (Kafka → prediction), which no freshness can beat.
Target: p95 ≤ 20 s at 20 groups and 2,000 events a second; the longest wait and the groups still waiting are reported.
``--groups 1000000 --history 50 --turn 100 --warm-up 0 --seconds 1`` is one round of 100 scattered groups of a million:
≤ 15 s.
Run: ``python benchmarks/freshness.py --groups 50000 --turn 20 --rate 2000 --seconds 120``
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
from confluent_kafka import Producer
from harness.broker import answers, make_topics, serving
from harness.commands import Commands, Spinney
from harness.fleet import LabelModel, Rows, Settings, group_key, write_champions
from harness.process_tree import Usage
from harness.results import Measure, arguments, show, work_folder
from harness.send import SECONDS_BETWEEN_PROBES, send
from latency import END_TIMEOUT_S, START_TIMEOUT_S, WARMUP_EVENTS, Numbers, kill_at_the_end, wait_for_records

from schemas import tables
from schemas.vocabulary import Decision, RoundKind
from spinney.core.config import Config
from spinney.storage.config_file import read_config
from spinney.storage.layout import FleetStore
from spinney.tables import delta

NEW_ROWS = 25
CHAMPION_ERROR = 0.5
"""Standard deviation of the error of each of a champion's weights, as large as that of the labels' noise."""

SECONDS_TO_FOLLOW = 300


@dataclass(frozen=True)
class Load:
    """history: rows of each group that are loaded before. turn: groups a second. Times in seconds, rate in events/s."""

    history: int
    turn: int
    rate: int
    warm_up: int
    seconds: int
    probe_seconds: int

    @property
    def first_group(self) -> int:
        """The first group that turns after the warm-up."""
        return self.turn * self.warm_up

    @property
    def words(self) -> list[str]:
        """Arguments of `harness.send` after the topic's."""
        words = [str(self.warm_up + self.seconds), "--rate", str(self.rate), "--turn", str(self.turn)]
        return [*words, "--rows", str(NEW_ROWS), "--probe-seconds", str(self.probe_seconds)]


@dataclass(frozen=True)
class Waits:
    """Seconds. answered: from each group's turn to its new champion's first prediction. waiting: groups without one.

    first: from the turn to the prediction of that same event.
    """

    answered: Numbers
    first: Numbers
    waiting: tuple[int, ...]


def waits(config: Config, first_group: int = 0) -> Waits:
    """Return the waiting times of the groups from `first_group` on, from both topics as they are now."""
    servers = config.kafka.bootstrap_servers
    turned = {
        int(event["id"].removeprefix("turned-")): at
        for at, event in answers(servers, config.kafka.events)
        if event["id"].startswith("turned-") and int(event["id"].removeprefix("turned-")) >= first_group
    }
    numbers = {group_key(group): group for group in turned}
    answered: dict[int, int] = {}
    first: dict[int, int] = {}
    for at, record in answers(servers, config.kafka.predictions or ""):
        group = numbers.get(record["group_key"])
        if group is None:
            continue
        if record["event_id"].startswith("turned-"):
            first.setdefault(group, at)
        if record["model_id"] not in (None, f"{group:064x}"):
            answered[group] = min(at, answered.get(group, at))
    return Waits(
        np.array([(at - turned[group]) / 1000 for group, at in answered.items()]),
        np.array([(at - turned[group]) / 1000 for group, at in first.items()]),
        tuple(sorted(turned.keys() - answered.keys())),
    )


def follow(config: Config, label_model: LabelModel, first_group: int) -> Waits:
    """Poll until no group waits any more, or the time limit is reached. Returns the waiting times."""
    producer = Producer({"bootstrap.servers": config.kafka.bootstrap_servers})
    until, asked = time.monotonic() + SECONDS_TO_FOLLOW, 0
    while (found := waits(config, first_group)).waiting and time.monotonic() < until:
        asked += 1
        ids = [f"late-{asked}-{group}" for group in found.waiting]
        send(producer, config.kafka.events, label_model, iter([(list(found.waiting), ids)]), 0)
        time.sleep(SECONDS_BETWEEN_PROBES)
    return found


def refused_groups(config: Config) -> int:
    """Return the number of groups of which a challenger was refused."""
    promotions = delta.open_existing(FleetStore.of(config).directory(tables.PROMOTIONS, RoundKind.STREAM.value))
    is_refused = ds.field("decision") == Decision.REFUSED.value
    return len(set(delta.open_dataset(promotions).to_table(["group_key"], filter=is_refused)["group_key"].to_pylist()))


def measured(folder: Path, settings: Settings, load: Load, commands: Commands) -> tuple[Waits, int, Usage]:
    """Return the waiting times, the number of groups with a refused challenger, and the cost of the stream."""
    file = settings.write(folder)
    config, spinney = read_config(file), commands(file)
    label_model = LabelModel(settings.groups)
    make_topics(config)
    write_champions(config, label_model, CHAMPION_ERROR)
    Rows(load.history).write(label_model, folder / "history")
    spinney.run("load", str(folder / "history"))
    place = [settings.servers, config.kafka.events, str(settings.groups)]
    topic = (settings.servers, config.kafka.predictions or "")
    running = spinney.start("stream")
    with kill_at_the_end(running):
        spinney.run_module("harness.send", *place, str(WARMUP_EVENTS), "--prefix", "first")
        if not wait_for_records("spinney stream", running, topic, WARMUP_EVENTS, START_TIMEOUT_S):
            raise RuntimeError(
                f"spinney stream: no answer to the first {WARMUP_EVENTS} events within {START_TIMEOUT_S} s"
            )
        _, printed = spinney.run_module("harness.send", *place, *load.words)
        wait_for_records("spinney stream", running, topic, WARMUP_EVENTS + json.loads(printed)["sent"], END_TIMEOUT_S)
        found = follow(config, label_model, load.first_group)
        usage = running.stop()
    return found, refused_groups(config), usage


def main(arguments_given: Sequence[str] | None = None, commands: Commands = Spinney) -> None:
    """Run the benchmark."""
    usual = {"history": 25, "turn": 20, "rate": 2_000, "warm_up": 60, "seconds": 120, "probe_seconds": 90}
    parser = arguments(__doc__ or "", {"groups": 50_000, **usual})
    asked = parser.parse_args(arguments_given)
    peer = "prediction of the turning event"
    median = Measure("stale → new champion answers, p50", "s", "less", peer)
    most = Measure("stale → new champion answers, p95", "s", "less", peer, "≤ 20 s")
    longest = Measure("stale → new champion answers, longest", "s", "less", peer, "reported")
    refusals = Measure("groups with a refused challenger", "groups", target="reported")
    waiting = Measure("groups still waiting at the end", "groups", target="0")
    load = Load(**{name: getattr(asked, name) for name in usual})
    with work_folder() as place, serving(place, asked.bootstrap_servers) as servers:
        for run in range(asked.runs):
            folder = place / f"run-{run}"
            folder.mkdir()
            name = f"freshness-{uuid.uuid4().hex[:8]}"
            settings = Settings(name, asked.groups, servers, new_rows=NEW_ROWS, spark=tuple(asked.spark))
            found, refused, usage = measured(folder, settings, load, commands)
            refusals.add(refused)
            waiting.add(len(found.waiting), peak_mb=usage.peak_mb)
            if len(found.answered):
                for measure, which in ((median, 50), (most, 95), (longest, 100)):
                    of_event = float(np.percentile(found.first, which))
                    measure.add(float(np.percentile(found.answered, which)), peer=of_event)
    show(asked, [median, most, longest, refusals, waiting])


if __name__ == "__main__":
    main()
