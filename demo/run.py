"""`spinney demo`: the four queries on an example's data with a real broker, from an empty folder to a report."""

from __future__ import annotations

import secrets
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession
from rich.console import Console

from batch.load import load
from batch.weekly import retrain
from demo import message_schedule, report, retraining_summary, run_summary
from demo.completion import has_finished
from demo.example_data import ExampleData, read_example_data
from demo.fleet_tables import FleetTables, read_tables
from demo.message_schedule import MessageSchedule
from demo.paced_sending import PacedSender
from demo.progress import ProgressMonitor, describe_replay
from demo.refit_comparison import GroupHierarchy, RefitComparison, compare_refits
from demo.replay_fitting import RecipeFitter, fleet_answers, loss_function
from demo.report_publishing import Published, publish
from demo.scenario import Scenario, read_scenario
from demo.stage_timer import StageTimer
from demo.terminal_summary import summary_text
from spinney.core.config import Config, parse
from spinney.core.models.signing import Signer
from spinney.fleet import Fleet
from spinney.kafka import client
from spinney.local.broker import Broker
from spinney.local.java_and_jars import runtime
from spinney.spark.session import SHORT_LIVED, session
from spinney.storage import signing_key
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from streaming.app import Application

WORK = Path("work/demo")
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "flights"
PARTITIONS = 2
POLL_INTERVAL_S = 0.3
TRIGGERS = {"ingest": "0.2 seconds", "score": "0.2 seconds", "labels": "0.2 seconds", "retrain": "1 second"}
"""Intervals of the queries' batches, shorter than the defaults: a day of event time passes in seconds."""


@dataclass(frozen=True)
class DemoOptions:
    """The options of `spinney demo`.

    days: of event time to stream. example: a folder. None stands for the example's value.
    """

    json: bool = False
    report: Path | None = None
    days: int | None = None
    example: Path | None = None
    seed: int | None = None


@dataclass(frozen=True)
class PreparedDemo:
    """An example with everything that is needed to replay it."""

    scenario: Scenario
    config: Config
    data: ExampleData
    schedule: MessageSchedule


def run_demo(options: DemoOptions) -> dict[str, Any]:
    """Replay the example and write the report. Returns the summary; `demo.run_summary` lists its keys.

    Broker, Spark and queries are stopped at the end. Raises SpinneyError: something is missing on this machine, or a
    query failed.
    """
    timer = StageTimer(Console(stderr=True))
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True, exist_ok=True)
    machine = runtime()
    with Broker(WORK / "kafka") as broker:
        prepared = prepare(options, broker.bootstrap_servers, timer)
        with timer.stage("Spark starts"):
            spark = session(prepared.config, runtime=machine, options=SHORT_LIVED)
        try:
            run = _run_loop(prepared, spark, timer)
        finally:
            spark.stop()
    with timer.stage("What it was worth: the same events with fleets refitted never, weekly, daily and in turn"):
        comparison = _compare_refits(prepared, run.tables)
    run = replace(run, wall_seconds=time.monotonic() - timer.began, comparison=comparison)
    summary = run_summary.summarize_run(run, prepared.scenario, prepared.config, prepared.data.injected)
    result = Published(summary, report.render_report(summary), summary_text(summary))
    publish(result, options.report or WORK / "report.html", WORK, timer.console, as_json=options.json)
    return summary


def prepare(options: DemoOptions, servers: str, timer: StageTimer) -> PreparedDemo:
    """Read the example folder and build the schedule. servers: bootstrap servers of the broker.

    Raises ConfigError: a file of the example is missing or not valid.
    """
    folder = options.example or EXAMPLE
    scenario = whole = read_scenario(folder)
    if options.days:
        scenario = whole.with_days(options.days)
    if whole.injected and not scenario.injected:
        timer.console.print(
            f"No change is injected: it would come after {whole.injected.after_days} days, and {scenario.stream.days} "
            "stream.",
            highlight=False,
        )
    if options.seed is not None:
        scenario = scenario.model_copy(update={"seed": options.seed})
    file = folder / "fleet.toml"
    overrides = {
        "SPINNEY_KAFKA__BOOTSTRAP_SERVERS": servers,
        "SPINNEY_STORAGE__ROOT": str(WORK),
        "SPINNEY_TRACKING__URI": f"sqlite:///{WORK}/mlflow.db",
    }
    config = parse(file.read_text(encoding="utf-8"), str(file), overrides)
    data = read_example_data(folder, scenario, config)
    return PreparedDemo(scenario, config, data, message_schedule.build_schedule(data, scenario, config))


def _run_loop(prepared: PreparedDemo, spark: SparkSession, timer: StageTimer) -> run_summary.DemoRun:
    config, scenario = prepared.config, prepared.scenario
    store = FleetStore.of(config)
    client.ensure_topics(config.kafka, PARTITIONS, retention_ms=-1)
    delta.create_tables(store)
    signing_key.ensure_key(store)
    with timer.stage(f"History: {scenario.history.since} to {scenario.history.until} is loaded"):
        _load_history(prepared)
    with timer.stage("First fit of every group and its parents"):
        retrain(config, spark=spark)
    application = Application(spark, config, triggers=TRIGGERS)
    with timer.stage(f"{scenario.stream.days} days stream through the loop"):
        sender = PacedSender(
            config, prepared.schedule, scenario.stream.max_ahead, lambda sent: has_finished(application, sent)
        )
        try:
            application.start()
            with ProgressMonitor(application, timer.console) as monitor:
                _stream(application, sender, scenario, monitor)
        finally:
            sender.stop()
            application.stop()
    return run_summary.DemoRun(
        read_tables(store),
        Fleet(config).groups(),
        prepared.schedule.ledger,
        list(monitor.batches.values()),
        0.0,
    )


def _load_history(prepared: PreparedDemo) -> None:
    history = message_schedule.build_history(prepared.data, prepared.scenario, prepared.config)
    for name, frame in (("events", history.events), ("outcomes", history.outcomes)):
        if frame is not None:
            file = WORK / f"history-{name}.parquet"
            frame.to_parquet(file, coerce_timestamps="us", index=False)
            load(prepared.config, str(file), outcomes=name == "outcomes")


def _stream(application: Application, sender: PacedSender, scenario: Scenario, monitor: ProgressMonitor) -> None:
    """Send the schedule and wait until all of it is processed."""
    began = time.monotonic()
    sender.start()
    while not sender.is_done:
        application.check()
        monitor.poll()
        monitor.show(describe_replay(sender, scenario, time.monotonic() - began, monitor.fits))
        time.sleep(POLL_INTERVAL_S)
    monitor.poll(last=True)


def _compare_refits(prepared: PreparedDemo, tables: FleetTables) -> RefitComparison:
    config = prepared.config
    fitter = RecipeFitter(config, Signer(secrets.token_bytes(32)))
    span = run_summary.stream_window(prepared.scenario, config.fleet.label_delay, prepared.data.injected)
    hierarchy = GroupHierarchy(config.fleet.group, config.fleet.parents)
    answers = fleet_answers(tables.predictions, config.fleet.loss)
    tools = fitter, loss_function(config.fleet.loss)
    retrained = retraining_summary.summarize_retraining(tables)
    fits = retrained["fits"] - retrained["fits_of_parents"]
    return compare_refits(prepared.data.frame, answers, span, hierarchy, tools, fits)
