"""`spinney demo --scale`: synthetic history, a weekly round, a stream, from nothing to a report."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyspark.sql import SparkSession
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from batch.load import load
from batch.weekly import retrain
from demo.run import Stage
from demo.scale import measures, report, topics, words
from demo.scale.fleet import Truth, configuration, write_history
from demo.scale.generator import Sender, messages
from demo.scale.measures import Run
from demo.scale.memory import Sampler, tree
from demo.scale.traffic import GROUPS, SECONDS, SEED, Traffic
from demo.settling import settled
from demo.tables import Tables
from demo.watching import Watch
from schemas import tables as contracts
from schemas.contract import Contract
from spinney.core.config import Config
from spinney.core.errors import StoreError
from spinney.core.reporting.status import State
from spinney.fleet import Fleet
from spinney.kafka import client
from spinney.local import watchdog
from spinney.local.broker import Broker
from spinney.local.setup import runtime
from spinney.spark.session import SHORT_LIVED, session
from spinney.storage import signing_key
from spinney.storage.config_file import read_config
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from streaming.app import Application

WORK = Path("work/demo-scale")
PARTITIONS = 4
LOOK_SECONDS = 0.5
FIRST = 100
"""Events that are sent, and have to be answered, before the stream begins: all queries have started then."""

HISTORY = "A month of history is made"
LOAD = "It is loaded"
WEEKLY = "A weekly round fits every group"

SECONDS_TO_START, SECONDS_TO_FINISH = 180, 300


@dataclass(frozen=True)
class Options:
    """What `spinney demo --scale` was asked. seconds: of the stream."""

    json: bool = False
    report: Path | None = None
    groups: int = GROUPS
    seconds: int = SECONDS
    seed: int = SEED


@dataclass(frozen=True)
class Streamed:
    """What the stream left beside its tables. finished_at: seconds since the epoch."""

    acknowledged: int
    finished_at: float
    batches: list[Any]
    memory: list[tuple[float, float]]


def demo(options: Options) -> dict[str, Any]:
    """Play it; returns the summary, whose keys `measures` lists. Everything started is stopped.

    Sets that do not add up are for the caller to refuse, see `measures.require_sets_add_up`.

    Raises SpinneyError: what is missing on this machine, or which query failed.
    """
    stage = Stage(Console(stderr=True))
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True, exist_ok=True)
    traffic = Traffic(options.groups, options.seconds, options.seed)
    found = runtime()
    with Broker(WORK / "kafka") as broker:
        file = WORK / "fleet.toml"
        file.write_text(configuration(options.groups, broker.bootstrap_servers, WORK.absolute()), encoding="utf-8")
        config = read_config(file)
        # All that this process has started until now is the broker.
        brokers = set(tree(os.getpid())) - {os.getpid()}
        loaded = _history(config, traffic, stage)
        with stage.act("Spark starts"):
            spark = session(config, runtime=found, options=SHORT_LIVED)
        try:
            weekly = _weekly(config, traffic, spark, stage)
            streamed = _stream(Application(spark, config), traffic, file, brokers, stage)
        finally:
            spark.stop()
        with stage.act("What came out is read from tables and topics"):
            run = _run(config, traffic, (loaded, weekly, streamed), stage)
            summary = measures.measure(run)
            summary["refits"]["examples"] = _examples(run, config)
    summary["acts"] = dict(stage.seconds)
    summary["wall_seconds"] = time.monotonic() - stage.began
    _publish(summary, options, stage.console)
    return summary


def _history(config: Config, traffic: Traffic, stage: Stage) -> int:
    """Write and load the history. Returns how many rows were stored."""
    client.ensure_topics(config.kafka, PARTITIONS, retention_ms=-1)
    delta.create_tables(config)
    signing_key.ensure_key(FleetStore.of(config))
    with stage.act(HISTORY):
        write_history(Truth(traffic.groups, traffic.seed), WORK / "history", datetime.now(UTC))
    with stage.act(LOAD):
        return load(config, str(WORK / "history")).added.get(contracts.EVENTS.name, 0)


def _weekly(config: Config, traffic: Traffic, spark: SparkSession, stage: Stage) -> dict[str, object]:
    with stage.act(WEEKLY):
        found = retrain(config, spark=spark)
    if found is None:
        raise StoreError(f"weekly round: expected {traffic.groups} groups to fit; found none")
    return found


def _stream(application: Application, traffic: Traffic, file: Path, brokers: set[int], stage: Stage) -> Streamed:
    try:
        with stage.act("The queries start"):
            application.start()
            _send_first(application, traffic)
        with (
            stage.act(f"{traffic.events:,} events stream for {traffic.seconds} s"),
            Sampler(brokers) as sampler,
            Watch(application, stage.console) as watch,
            _generator(traffic, file) as generator,
        ):
            sampler.leave_out(generator.pid)
            acknowledged = _watched(application, traffic, generator, watch)
            return Streamed(acknowledged, time.time(), list(watch.batches.values()), sampler.samples)
    finally:
        application.stop()


def _send_first(application: Application, traffic: Traffic) -> None:
    """Send a few events, and wait for their answers: what starts with the first batch has started then."""
    config = application.config
    group, truth = np.arange(FIRST) % traffic.groups, Truth(traffic.groups, traffic.seed)
    sender = Sender(client.producer(config.kafka), config.kafka.events)
    random = np.random.default_rng([traffic.seed, 6])
    sender.send(messages(truth, group, [f"f{at}" for at in range(FIRST)], random, changed=False))
    sender.finish()
    until = time.monotonic() + SECONDS_TO_START
    while topics.count(config, config.kafka.predictions or "") < FIRST:
        application.check()
        if time.monotonic() > until:
            raise StoreError(f"no answer to the first {FIRST} events within {SECONDS_TO_START} s")
        time.sleep(LOOK_SECONDS)


@contextlib.contextmanager
def _generator(traffic: Traffic, file: Path) -> Iterator[subprocess.Popen[str]]:
    arguments = [str(file), str(traffic.groups), str(traffic.seconds), str(traffic.seed)]
    module = "demo.scale.generator"
    # Behind the watchdog: it ends when this process is killed. In a session of its own: a Ctrl-C is for this process,
    # which then ends the other.
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(watchdog.__file__), sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the watchdog and the producer: they have a group of their own
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _watched(application: Application, traffic: Traffic, generator: subprocess.Popen[str], watch: Watch) -> int:
    """Wait until everything is sent, stored, answered and judged. Returns how many events Kafka acknowledged."""
    began, acknowledged, until = time.monotonic(), 0, 0.0
    while True:
        application.check()
        watch.look()
        watch.show(f"{time.monotonic() - began:.0f} of {traffic.seconds} s, {watch.fits:,} refits")
        if not until and generator.poll() is not None:
            said, _ = generator.communicate()
            if generator.returncode:
                raise StoreError("the producer of the stream ended with an error, see above")
            acknowledged, until = int(json.loads(said)["sent"]), time.monotonic() + SECONDS_TO_FINISH
        if until and settled(application, {application.config.kafka.events: FIRST + acknowledged}):
            watch.look(last=True)
            return acknowledged
        if until and time.monotonic() > until:
            raise StoreError(f"{acknowledged} events were sent; not all were answered within {SECONDS_TO_FINISH} s")
        time.sleep(LOOK_SECONDS)


def _run(config: Config, traffic: Traffic, found: tuple[int, dict[str, object], Streamed], stage: Stage) -> Run:
    loaded, weekly, streamed = found
    state = Fleet(config).table()["state"].value_counts().to_pylist()
    by_state = {str(each["values"]): int(each["counts"]) for each in state}
    return Run(
        traffic=traffic,
        tables=_tables(config),
        loaded=loaded,
        sent=topics.times(config, config.kafka.events, config.fleet.event_id, traffic.events),
        answered=topics.times(config, config.kafka.predictions or "", "event_id", traffic.events),
        acknowledged=streamed.acknowledged,
        finished_at=streamed.finished_at,
        batches=streamed.batches,
        memory=streamed.memory,
        by_state={each.value: by_state.get(each.value, 0) for each in State},
        weekly=weekly,
        seconds={"history": stage.seconds[HISTORY], "load": stage.seconds[LOAD], "weekly": stage.seconds[WEEKLY]},
    )


def _tables(config: Config) -> Tables:
    """The tables without payloads; of events and predictions those of the stream's events, by their ids."""
    store = FleetStore.of(config)

    def frame(base: Contract, where: ds.Expression | None = None) -> Any:
        names = [name for name in base.names if name not in ("payload", "signature")]
        return delta.read_table(store, base, names, where).to_pandas()

    streamed = pc.starts_with(ds.field("event_id"), "e")
    events = delta.read_table(store, contracts.EVENTS, ["group_key", "event_id"], streamed).to_pandas()
    return Tables(
        events=events,
        outcomes=frame(contracts.OUTCOMES),
        dead_letters=frame(contracts.DEAD_LETTERS),
        predictions=frame(contracts.PREDICTIONS, streamed),
        verdicts=frame(contracts.VERDICTS),
        models=frame(contracts.MODELS),
        promotions=frame(contracts.PROMOTIONS),
        rounds=frame(contracts.ROUNDS),
    )


def _examples(run: Run, config: Config) -> list[dict[str, str]]:
    fleet = Fleet(config)
    return [{**one, "story": str(fleet.why(one["group_key"]))} for one in measures.examples(run)]


def _publish(summary: dict[str, Any], options: Options, console: Console) -> None:
    file = options.report or WORK / "report.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(report.page(summary), encoding="utf-8")
    (WORK / "summary.json").write_text(json.dumps(summary, indent=1, default=str), encoding="utf-8")
    shown = console if options.json else Console(file=sys.stdout)
    shown.print(summary_text(summary))
    console.print(f"Report: {file.resolve().as_uri()}", highlight=False)


def summary_text(summary: dict[str, Any]) -> Group:
    """What a person wants to read at the end, for a terminal."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, said in words.counts(summary).items():
        table.add_row(name, said)
    stories = [Text(one["story"]) for one in summary["refits"]["examples"][:1]]
    adds_up = summary["reconciliation"]["adds_up"]
    said = f"The sets add up: nothing lost, nothing stored twice. {words.repeated(summary)}"
    sets = Text(said, style="green") if adds_up else Text("")
    head = [Text(words.headline(summary), style="bold"), Text(words.subline(summary)), Text()]
    return Group(*head, table, Text(), *stories, Text(), sets)
