"""kafka, produce, load: how data comes in."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

import click

from spinney.cli.options import config_option, example, json_option, load_config, spark_session, table, write_json

if TYPE_CHECKING:
    from spinney.core.config import Config
    from spinney.local.produce import Sent


LOOK_SECONDS = 0.5


@click.command(epilog=example("spinney kafka --port 9092 --data work/kafka"))
@click.option("--port", type=click.IntRange(1, 65_535), default=9092, show_default=True, help="Where clients connect.")
@click.option(
    "--data", type=click.Path(file_okay=False), default="work/kafka", show_default=True, help="Where records are kept."
)
def kafka(port: int, data: str) -> None:
    """Run a real Kafka broker on this machine, in the foreground, until Ctrl-C or SIGTERM."""
    from pathlib import Path

    from spinney.local.broker import Broker

    signal.signal(signal.SIGTERM, _interrupt)
    click.echo(f"kafka: starting on port {port}, data in {data}", err=True)
    try:
        with Broker(Path(data), port) as broker:
            click.echo(f"kafka: ready at {broker.bootstrap_servers}; Ctrl-C stops it", err=True)
            while broker.running:
                time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        click.echo("kafka: stopped", err=True)
        return
    raise click.ClickException(f"kafka: the broker ended by itself; its words are in {broker.log}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


@click.command(epilog=example("spinney produce departures.parquet --by-event-time --speed 3600"))
@click.argument("source", metavar="FILE", type=click.Path(exists=True, dir_okay=False))
@config_option
@click.option(
    "--topic", default="events", show_default=True, help="`events` or `outcomes` of the file, or a topic's name."
)
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Records per second at most.")
@click.option("--by-event-time", is_flag=True, help="Send as time went by, records stamped with their event time.")
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    default=3600.0,
    show_default=True,
    help="Seconds of event time per second.",
)
def produce(source: str, config_path: str, topic: str, rate: float | None, by_event_time: bool, speed: float) -> None:
    """Send Parquet, CSV or JSON lines to a topic, keyed by group; wait until every record is acknowledged."""
    from pathlib import Path

    from spinney.local.produce import Pace, send

    config = load_config(config_path)
    sent = send(config, Path(source), _topic(config, topic), Pace(rate, by_event_time, speed), _progress())
    if sent.failed:
        raise click.ClickException(f"{source}: {sent.failed} of {sent.read} not sent; the first: {sent.first_failure}")


def _topic(config: Config, name: str) -> str:
    if name == "events":
        return config.kafka.events
    if name == "outcomes":
        if config.kafka.outcomes is None:
            raise click.UsageError("kafka.outcomes is not configured: the label is a field of the event")
        return config.kafka.outcomes
    return name


def _progress() -> Callable[[Sent], None]:
    """A line that renews itself on a terminal; on a pipe only the last word is said."""
    on_terminal = sys.stderr.isatty()

    def show(sent: Sent) -> None:
        if on_terminal:
            click.echo(f"\r\x1b[K{_words(sent)}", err=True, nl=sent.finished)
        elif sent.finished:
            click.echo(_words(sent), err=True)

    return show


def _words(sent: Sent) -> str:
    text = f"produce: {sent.acknowledged:,} sent, {sent.failed:,} failed, {sent.per_second:,.0f}/s"
    if sent.total is None or not sent.per_second:
        return text
    left = max(0, sent.total - sent.acknowledged - sent.failed)
    return f"{text}, {left:,} left ({left / sent.per_second:,.0f} s)"


@click.command(epilog=example("spinney load history.parquet --config fleet.toml"))
@click.argument("source", type=click.Path())
@config_option
@json_option
@click.option("--outcomes", is_flag=True, help="The rows are outcomes, not events.")
def load(source: str, config_path: str, as_json: bool, outcomes: bool) -> None:
    """History without Kafka: Parquet or Delta, through the same validation, to events and outcomes.

    Rows that are there already are not added again. Where labels come late and the rows of events have the target,
    they are loaded as outcomes too.
    """
    config = load_config(config_path)
    from batch.load import load as run_load

    added = run_load(config, source, outcomes=outcomes, spark=spark_session(config)).added
    if as_json:
        write_json(added)
    else:
        table("added", [{"table": name, "rows": rows} for name, rows in added.items()])


VERBS = (kafka, produce, load)
