"""`spinney demo`: the whole loop on an example's data, with a real broker, from nothing to a report."""

from __future__ import annotations

import json
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession
from rich.console import Console

from batch.load import load
from batch.weekly import retrain
from demo import measures, replay, report
from demo.fitter import RecipeFitter, loss_of, own_answers
from demo.pacing import Sender
from demo.replay import Timeline
from demo.rows import Rows, read_rows
from demo.settling import settled
from demo.story import Story, read_story
from demo.summary import summary_text
from demo.tables import Tables
from demo.watching import Watch, replayed
from demo.worth import Compared, Family, compare
from schemas import tables as contracts
from schemas.contract import Contract
from spinney.core.config import Config, parse
from spinney.core.models.signing import Signer
from spinney.fleet import Fleet
from spinney.kafka import client
from spinney.local.broker import Broker
from spinney.local.setup import runtime
from spinney.spark.session import SHORT_LIVED, session
from spinney.storage import signing_key
from spinney.storage.layout import FleetStore
from spinney.tables import delta
from streaming.app import Application

WORK = Path("work/demo")
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "flights"
PARTITIONS = 2
LOOK_SECONDS = 0.3
TRIGGERS = {"ingest": "0.2 seconds", "score": "0.2 seconds", "labels": "0.2 seconds", "retrain": "1 second"}
"""A day passes in seconds here; in life the loop can afford to wait longer between two batches."""


@dataclass(frozen=True)
class Options:
    """What `spinney demo` was asked. days: of event time to stream; example: a folder; None: as the example says."""

    json: bool = False
    report: Path | None = None
    days: int | None = None
    example: Path | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Play:
    """An example, ready to be played: what happens to which fleet."""

    story: Story
    config: Config
    rows: Rows
    timeline: Timeline


@dataclass
class Stage:
    """The console, and the seconds of each act."""

    console: Console
    began: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def act(self, what: str) -> Iterator[None]:
        started = time.monotonic()
        self.console.print(f"{what} …", style="dim", highlight=False)
        yield
        self.seconds[what] = time.monotonic() - started


def demo(options: Options) -> dict[str, Any]:
    """Play the example; returns the summary, whose keys `measures` lists. Everything started is stopped.

    Raises SpinneyError: what is missing on this machine, or which query failed.
    """
    stage = Stage(Console(stderr=True))
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True, exist_ok=True)
    found = runtime()
    with Broker(WORK / "kafka") as broker:
        play = prepare(options, broker.bootstrap_servers, stage)
        with stage.act("Spark starts"):
            spark = session(play.config, runtime=found, options=SHORT_LIVED)
        try:
            run = _perform(play, spark, stage)
        finally:
            spark.stop()
    with stage.act("What it was worth: the same events with fleets refitted never, weekly and daily"):
        compared = _worth(play, run.tables)
    run = replace(run, wall_seconds=time.monotonic() - stage.began, compared=compared)
    summary = measures.measure(run, play.story, play.config, play.rows.injected)
    _publish(summary, options, stage.console)
    return summary


def prepare(options: Options, servers: str, stage: Stage) -> Play:
    folder = options.example or EXAMPLE
    story = whole = read_story(folder)
    if options.days:
        story = whole.lasting(options.days)
    if whole.injected and not story.injected:
        stage.console.print(
            f"No change is injected: it would come after {whole.injected.after_days} days, and {story.stream.days} "
            "stream.",
            highlight=False,
        )
    if options.seed is not None:
        story = story.model_copy(update={"seed": options.seed})
    file = folder / "fleet.toml"
    ours = {
        "SPINNEY_KAFKA__BOOTSTRAP_SERVERS": servers,
        "SPINNEY_STORAGE__ROOT": str(WORK),
        "SPINNEY_TRACKING__URI": f"sqlite:///{WORK}/mlflow.db",
    }
    config = parse(file.read_text(encoding="utf-8"), str(file), ours)
    rows = read_rows(folder, story, config)
    return Play(story, config, rows, replay.timeline(rows, story, config))


def _perform(play: Play, spark: SparkSession, stage: Stage) -> measures.Run:
    config, story = play.config, play.story
    client.ensure_topics(config.kafka, PARTITIONS, retention_ms=-1)
    delta.create_tables(config)
    signing_key.ensure_key(FleetStore.of(config))
    with stage.act(f"History: {story.history.since} to {story.history.until} is loaded"):
        _load_history(play)
    with stage.act("First fit of every group and its parents"):
        retrain(config, spark=spark)
    application = Application(spark, config, triggers=TRIGGERS)
    with stage.act(f"{story.stream.days} days stream through the loop"):
        sender = Sender(config, play.timeline, story.stream.max_ahead, lambda sent: settled(application, sent))
        try:
            application.start()
            with Watch(application, stage.console) as watch:
                _stream(application, sender, story, watch)
        finally:
            sender.stop()
            application.stop()
    return measures.Run(
        _tables(config), Fleet(config).groups(), play.timeline.ledger, list(watch.batches.values()), 0.0
    )


def _load_history(play: Play) -> None:
    history = replay.history(play.rows, play.story, play.config)
    for name, frame in (("events", history.events), ("outcomes", history.outcomes)):
        if frame is not None:
            file = WORK / f"history-{name}.parquet"
            frame.to_parquet(file, coerce_timestamps="us", index=False)
            load(play.config, str(file), outcomes=name == "outcomes")


def _stream(application: Application, sender: Sender, story: Story, watch: Watch) -> None:
    """Send everything, and wait until the loop has finished with it."""
    began = time.monotonic()
    sender.start()
    while not sender.done:
        application.check()
        watch.look()
        watch.show(replayed(sender, story, time.monotonic() - began, watch.fits))
        time.sleep(LOOK_SECONDS)
    watch.look(last=True)


def _tables(config: Config) -> Tables:
    def frame(base: Contract) -> Any:
        names = [name for name in base.names if name not in ("payload", "signature")]
        return delta.read_table(FleetStore.of(config), base, names).to_pandas()

    return Tables(
        events=frame(contracts.EVENTS),
        outcomes=frame(contracts.OUTCOMES),
        dead_letters=frame(contracts.DEAD_LETTERS),
        predictions=frame(contracts.PREDICTIONS),
        verdicts=frame(contracts.VERDICTS),
        models=frame(contracts.MODELS),
        promotions=frame(contracts.PROMOTIONS),
        rounds=frame(contracts.ROUNDS),
    )


def _worth(play: Play, tables: Tables) -> Compared:
    config = play.config
    fitter = RecipeFitter(config, Signer(secrets.token_bytes(32)))
    span = measures.span_of(play.story, config, play.rows.injected)
    family = Family(config.fleet.group, config.fleet.parents)
    answers = own_answers(tables.predictions, config)
    return compare(play.rows.frame, answers, span, family, (fitter, loss_of(config)))


def _publish(summary: dict[str, Any], options: Options, console: Console) -> None:
    file = options.report or WORK / "report.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(report.page(summary), encoding="utf-8")
    (WORK / "summary.json").write_text(json.dumps(summary, indent=1, default=str), encoding="utf-8")
    shown = console if options.json else Console(file=sys.stdout)
    shown.print(summary_text(summary))
    console.print(f"Report: {file.resolve().as_uri()}", highlight=False)
