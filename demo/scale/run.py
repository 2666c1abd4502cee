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
from demo.completion import has_finished
from demo.fleet_tables import read_tables
from demo.progress import ProgressMonitor
from demo.report_publishing import Published, publish
from demo.scale import report, scale_summary, scale_text, topic_times
from demo.scale.event_producer import TopicSender, event_messages
from demo.scale.memory import MemorySampler, process_tree
from demo.scale.scale_summary import ScaleRun
from demo.scale.synthetic_fleet import LabelModel, fleet_toml, write_history
from demo.scale.traffic_plan import DEFAULT_GROUPS, DEFAULT_SECONDS, DEFAULT_SEED, TrafficPlan
from demo.stage_timer import StageTimer
from schemas import tables as contracts
from spinney.core.config import Config
from spinney.core.errors import StoreError
from spinney.core.reporting.group_status import State
from spinney.fleet import Fleet
from spinney.kafka import client
from spinney.local.broker import Broker, watchdog
from spinney.local.java_and_jars import runtime
from spinney.spark.session import SHORT_LIVED, session
from spinney.storage import signing_key
from spinney.storage.config_file import read_config
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from streaming.app import Application

WORK = Path("work/demo-scale")
PARTITIONS = 4
POLL_INTERVAL_S = 0.5
WARMUP_EVENTS = 100
"""Number of events that are sent and answered before the stream begins, so that all queries have started."""

HISTORY = "A month of history is made"
LOAD = "It is loaded"
WEEKLY = "A weekly round fits every group"

START_TIMEOUT_S, FINISH_TIMEOUT_S = 180, 300


@dataclass(frozen=True)
class ScaleDemoOptions:
    """The options of `spinney demo --scale`. seconds: of the stream."""

    json: bool = False
    report: Path | None = None
    groups: int = DEFAULT_GROUPS
    seconds: int = DEFAULT_SECONDS
    seed: int = DEFAULT_SEED


@dataclass(frozen=True)
class StreamResult:
    """Measurements from the time when events streamed. finished_at: seconds since 1970."""

    acknowledged: int
    finished_at: float
    batches: list[Any]
    memory: list[tuple[float, float]]


def run_demo(options: ScaleDemoOptions) -> dict[str, Any]:
    """Run the demo and write the report. Returns the summary; `demo.scale.scale_summary` lists its keys.

    Broker, Spark and queries are stopped at the end. Sets that do not add up do not raise an error here: the caller
    calls `require_sets_add_up`. Raises SpinneyError: something is missing on this machine, or a query failed.
    """
    timer = StageTimer(Console(stderr=True))
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True, exist_ok=True)
    traffic = TrafficPlan(options.groups, options.seconds, options.seed)
    machine = runtime()
    with Broker(WORK / "kafka") as broker:
        file = WORK / "fleet.toml"
        file.write_text(fleet_toml(options.groups, broker.bootstrap_servers, WORK.absolute()), encoding="utf-8")
        config = read_config(file)
        # This process has started nothing but the broker until now.
        broker_pids = set(process_tree(os.getpid())) - {os.getpid()}
        loaded = _history(config, traffic, timer)
        with timer.stage("Spark starts"):
            spark = session(config, runtime=machine, options=SHORT_LIVED)
        try:
            weekly = _weekly(config, traffic, spark, timer)
            streamed = _stream(Application(spark, config), traffic, file, broker_pids, timer)
        finally:
            spark.stop()
        with timer.stage("What came out is read from tables and topics"):
            run = _collect_run(config, traffic, (loaded, weekly, streamed), timer)
            summary = scale_summary.summarize_scale_run(run)
            summary["refits"]["examples"] = _example_groups(run, config)
    summary["acts"] = dict(timer.seconds)
    summary["wall_seconds"] = time.monotonic() - timer.began
    result = Published(summary, report.render_report(summary), summary_text(summary))
    publish(result, options.report or WORK / "report.html", WORK, timer.console, as_json=options.json)
    return summary


def _history(config: Config, traffic: TrafficPlan, timer: StageTimer) -> int:
    """Write and load the history. Returns how many rows were stored."""
    client.ensure_topics(config.kafka, PARTITIONS, retention_ms=-1)
    store = FleetStore.of(config)
    delta.create_tables(store)
    signing_key.ensure_key(store)
    with timer.stage(HISTORY):
        write_history(LabelModel(traffic.groups, traffic.seed), WORK / "history", datetime.now(UTC))
    with timer.stage(LOAD):
        return load(config, str(WORK / "history")).added.get(contracts.EVENTS.name, 0)


def _weekly(config: Config, traffic: TrafficPlan, spark: SparkSession, timer: StageTimer) -> dict[str, object]:
    with timer.stage(WEEKLY):
        recorded = retrain(config, spark=spark)
    if recorded is None:
        raise StoreError(f"weekly round: expected {traffic.groups} groups to fit; found none")
    return recorded


def _stream(
    application: Application, traffic: TrafficPlan, file: Path, broker_pids: set[int], timer: StageTimer
) -> StreamResult:
    try:
        with timer.stage("The queries start"):
            application.start()
            _send_warmup(application, traffic)
        with (
            timer.stage(f"{traffic.events:,} events stream for {traffic.seconds} s"),
            MemorySampler(broker_pids) as sampler,
            ProgressMonitor(application, timer.console) as monitor,
            _event_producer(traffic, file) as producer,
        ):
            sampler.exclude(producer.pid)
            acknowledged = _wait_until_finished(application, traffic, producer, monitor)
            return StreamResult(acknowledged, time.time(), list(monitor.batches.values()), sampler.samples)
    finally:
        application.stop()


def _send_warmup(application: Application, traffic: TrafficPlan) -> None:
    """Send a few events, and wait for their answers, so that everything that starts with the
    first batch has started.
    """
    config = application.config
    group, label_model = np.arange(WARMUP_EVENTS) % traffic.groups, LabelModel(traffic.groups, traffic.seed)
    sender = TopicSender(client.producer(config.kafka), config.kafka.events)
    random = np.random.default_rng([traffic.seed, 6])
    sender.send(event_messages(label_model, group, [f"f{at}" for at in range(WARMUP_EVENTS)], random, changed=False))
    sender.finish()
    until = time.monotonic() + START_TIMEOUT_S
    while topic_times.count_records(config.kafka, config.kafka.predictions or "") < WARMUP_EVENTS:
        application.check()
        if time.monotonic() > until:
            raise StoreError(f"no answer to the first {WARMUP_EVENTS} events within {START_TIMEOUT_S} s")
        time.sleep(POLL_INTERVAL_S)


@contextlib.contextmanager
def _event_producer(traffic: TrafficPlan, file: Path) -> Iterator[subprocess.Popen[str]]:
    arguments = [str(file), str(traffic.groups), str(traffic.seconds), str(traffic.seed)]
    module = "demo.scale.event_producer"
    # The watchdog ends the producer when this process is killed. It has its own session, so that Ctrl-C does not reach
    # it: this process ends it.
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
            os.killpg(process.pid, signal.SIGKILL)  # the watchdog and the producer are in one process group
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _wait_until_finished(
    application: Application, traffic: TrafficPlan, producer: subprocess.Popen[str], monitor: ProgressMonitor
) -> int:
    """Wait until every event is sent, stored, answered and judged. Returns how many events Kafka acknowledged."""
    began, acknowledged, until = time.monotonic(), 0, 0.0
    while True:
        application.check()
        monitor.poll()
        monitor.show(f"{time.monotonic() - began:.0f} of {traffic.seconds} s, {monitor.fits:,} refits")
        if not until and producer.poll() is not None:
            output, _ = producer.communicate()
            if producer.returncode:
                raise StoreError("the producer of the stream ended with an error, see above")
            acknowledged, until = int(json.loads(output)["sent"]), time.monotonic() + FINISH_TIMEOUT_S
        if until and has_finished(application, {application.config.kafka.events: WARMUP_EVENTS + acknowledged}):
            monitor.poll(last=True)
            return acknowledged
        if until and time.monotonic() > until:
            raise StoreError(f"{acknowledged} events were sent; not all were answered within {FINISH_TIMEOUT_S} s")
        time.sleep(POLL_INTERVAL_S)


def _collect_run(
    config: Config, traffic: TrafficPlan, results: tuple[int, dict[str, object], StreamResult], timer: StageTimer
) -> ScaleRun:
    loaded, weekly, streamed = results
    counts = Fleet(config).table()["state"].value_counts().to_pylist()
    by_state = {str(row["values"]): int(row["counts"]) for row in counts}
    return ScaleRun(
        traffic=traffic,
        tables=read_tables(FleetStore.of(config), pc.starts_with(ds.field("event_id"), "e")),
        loaded=loaded,
        sent=topic_times.read_times(config.kafka, config.kafka.events, config.fleet.event_id, traffic.events),
        answered=topic_times.read_times(config.kafka, config.kafka.predictions or "", "event_id", traffic.events),
        acknowledged=streamed.acknowledged,
        finished_at=streamed.finished_at,
        batches=streamed.batches,
        memory=streamed.memory,
        by_state={state.value: by_state.get(state.value, 0) for state in State},
        weekly=weekly,
        seconds={"history": timer.seconds[HISTORY], "load": timer.seconds[LOAD], "weekly": timer.seconds[WEEKLY]},
    )


def _example_groups(run: ScaleRun, config: Config) -> list[dict[str, str]]:
    fleet = Fleet(config)
    return [{**one, "story": str(fleet.why(one["group_key"]))} for one in scale_summary.example_groups(run)]


def summary_text(summary: dict[str, Any]) -> Group:
    """Return the summary for a terminal."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, text in scale_text.summary_lines(summary).items():
        table.add_row(name, text)
    explanations = [Text(one["story"]) for one in summary["refits"]["examples"][:1]]
    adds_up = summary["reconciliation"]["adds_up"]
    verdict = f"The sets add up: nothing lost, nothing stored twice. {scale_text.describe_repeated_answers(summary)}"
    sets = Text(verdict, style="green") if adds_up else Text("")
    head = [Text(scale_text.headline(summary), style="bold"), Text(scale_text.subtitle(summary)), Text()]
    return Group(*head, table, Text(), *explanations, Text(), sets)
