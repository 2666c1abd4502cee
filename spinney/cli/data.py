"""Commands kafka, produce and load: a local broker, sending files, loading history and models."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from spinney.cli.options import (
    config_option,
    example,
    json_lines_option,
    json_option,
    load_config,
    person_of,
    reason_of,
    say_where_a_fleet_begins,
    table,
    write_json,
)
from spinney.cli.reading import READING, options_of, say_notes, say_rejections, validation_options

if TYPE_CHECKING:
    from batch.load import LoadProgress
    from spinney.core.config import Config
    from spinney.local.produce import Sent
    from spinney.operations.model_import import ImportResult


POLL_SECONDS = 0.5
MAX_SHOWN = 50
PROGRESS_SECONDS = 10.0


@click.command(epilog=example("spinney kafka --port 9092 --data work/kafka"))
@json_lines_option
@click.option(
    "--port", type=click.IntRange(1, 65_535), default=9092, show_default=True, help="Port that clients connect to."
)
@click.option(
    "--data",
    type=click.Path(file_okay=False),
    default="work/kafka",
    show_default=True,
    help="Folder for the broker's records.",
)
def kafka(as_json: bool, port: int, data: str) -> None:
    """Run a Kafka broker on this machine, in the foreground, until Ctrl-C or SIGTERM."""
    from pathlib import Path

    from spinney.local.broker import Broker

    def say(event: str, words: str, **details: str | int) -> None:
        click.echo(f"kafka: {words}", err=True)
        if as_json:
            click.echo(json.dumps({"event": event, **details}))

    signal.signal(signal.SIGTERM, _interrupt)
    say("starting", f"starting on port {port}, data in {data}", port=port, data=data)
    try:
        with Broker(Path(data), port) as broker:
            servers = broker.bootstrap_servers
            say("ready", f"ready at {servers}; Ctrl-C stops it", bootstrap_servers=servers)
            while broker.running:
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        say("stopped", "stopped")
        return
    raise click.ClickException(f"kafka: the broker ended by itself; its words are in {broker.log}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


@click.command(epilog=example("spinney produce departures.parquet --by-event-time --speed 3600"))
@click.argument("source", metavar="SOURCE", type=click.Path())
@config_option
@json_option
@click.option(
    "--topic",
    default="events",
    show_default=True,
    help="`events` or `outcomes`, as configured, or the name of a topic.",
)
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Largest number of records per second.")
@click.option("--by-event-time", is_flag=True, help="Replay by event time; records get it as timestamp.")
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    default=3600.0,
    show_default=True,
    help="With --by-event-time: seconds of event time per second.",
)
@validation_options
def produce(source: str, config_path: str, as_json: bool, topic: str, **how: Any) -> None:
    """Send the rows of files to a topic, keyed by group.

    Returns once the broker has acknowledged every record.

    SOURCE is a CSV, JSON lines or Parquet file, a folder of such files, or a Delta table. Rows that are not valid are
    not sent: they are counted by reason, with an example each, and the exit code is 1.
    """
    from spinney.local.produce import Pace, is_outcomes, send
    from spinney.sources.fleet_files import open_fleet_file

    config = load_config(config_path)
    options, name = options_of(how), _topic(config, topic)
    opened = open_fleet_file(config, source, options, outcomes=is_outcomes(config.kafka, name))
    say_notes("produce", opened.notes)
    sent = send(config, opened, name, Pace(**how), _progress(), options.rejection_limit)
    if as_json:
        counts = {"sent": sent.acknowledged, "failed": sent.failed, "rejected": sent.rejections.rejected}
        write_json({**counts, "seconds": sent.seconds, "rejections": sent.rejections.as_dicts()})
    say_rejections("produce", sent.rejections)
    if sent.failed:
        raise click.ClickException(
            f"{source}: {sent.failed:,} of {sent.handed_over:,} not sent; the first: {sent.first_failure}"
        )
    if sent.rejections.rejected:
        raise click.ClickException(f"{source}: {sent.rejections.rejected:,} rows are not valid and were not sent")


def _topic(config: Config, name: str) -> str:
    if name == "events":
        return config.kafka.events
    if name == "outcomes":
        if config.kafka.outcomes is None:
            raise click.UsageError("kafka.outcomes is not configured: the label is a field of the event")
        return config.kafka.outcomes
    return name


def _progress() -> Callable[[Sent], None]:
    """Show progress on one line of a terminal, which is overwritten; elsewhere print only the last line."""
    on_terminal = sys.stderr.isatty()

    def show(sent: Sent) -> None:
        if on_terminal:
            click.echo(f"\r\x1b[K{_words(sent)}", err=True, nl=sent.finished)
        elif sent.finished:
            click.echo(_words(sent), err=True)

    return show


def _words(sent: Sent) -> str:
    text = f"produce: {sent.acknowledged:,} sent, {sent.failed:,} failed"
    text += f", {sent.rejections.rejected:,} rejected" if sent.rejections.rejected else ""
    text += f", {sent.per_second:,.0f}/s"
    if sent.total is None or not sent.per_second:
        return text
    left = max(0, sent.total - sent.acknowledged - sent.failed - sent.rejections.rejected)
    return f"{text}, {left:,} left ({left / sent.per_second:,.0f} s)"


@click.command(epilog=example("spinney load models.csv --models --reason 'from the old system'"))
@click.argument("source", type=click.Path())
@config_option
@json_option
@click.option("--outcomes", is_flag=True, help="Load the rows as outcomes instead of events.")
@click.option("--models", is_flag=True, help="Load fitted scikit-learn models, listed in SOURCE.")
@click.option("--allow-pickle", is_flag=True, help="Accept pickled models. Reading a pickle can run any code.")
@click.option("--dry-run", is_flag=True, help="With --models: read and try the models without writing them.")
@click.option("--reason", help="With --models: why, recorded with the decision.")
@click.option("--by", help="With --models: who decides [default: your login name].")
@validation_options
def load(source: str, config_path: str, as_json: bool, outcomes: bool, models: bool, **importing: Any) -> None:
    """Load history from files into the fleet's tables, without Kafka.

    The rows are validated as in the stream and added to the tables events and outcomes.

    SOURCE is a CSV, JSON lines or Parquet file, a folder of such files, or a Delta table. Rows that are stored already
    are not added again. Rows that are not valid become dead letters, and the exit code is 1.

    If labels arrive late and the rows have the target column, the labels are loaded as outcomes too. A column
    `prediction` holds the answers of your present system; `spinney fleet --incumbent` compares them.

    With --models, fitted models become the first champions of their groups. SOURCE is then a CSV, JSON lines or Parquet
    file with the group's columns and `model`: a path or an MLflow URI.
    """
    reading = {name: importing.pop(name) for name in READING}
    if models:
        _load_models(source, config_path, as_json=as_json, outcomes=outcomes, **importing)
        return
    if given := [name for name, value in importing.items() if value]:
        raise click.UsageError(f"--{given[0].replace('_', '-')} is for --models")
    from batch.load import load as run_load
    from batch.load import open_for_load

    config, options = load_config(config_path), options_of(reading)
    opened = open_for_load(config, source, options, outcomes=outcomes)
    say_where_a_fleet_begins(config)
    say_notes("load", opened.notes)
    loaded = run_load(config, opened, outcomes=outcomes, options=options, show=_load_progress())
    rejections = loaded.rejections
    if as_json:
        counts = {"added": loaded.added, "duplicates": loaded.duplicates, "rejected": rejections.rejected}
        write_json({**counts, "rejections": rejections.as_dicts()})
    else:
        duplicates: dict[str, Any] = loaded.duplicates
        shown = [
            {"table": name, "rows": rows, "duplicates": duplicates.get(name)} for name, rows in loaded.added.items()
        ]
        table("added", shown)
    say_rejections("load", rejections)
    sys.exit(1 if rejections.rejected else 0)


def _load_progress() -> Callable[[LoadProgress], None]:
    """Show progress on one line of a terminal, which is overwritten; elsewhere print a line every PROGRESS_SECONDS."""
    on_terminal = sys.stderr.isatty()
    printed_at = time.monotonic()

    def show(progress: LoadProgress) -> None:
        nonlocal printed_at
        text = f"load: {progress.stage}: {progress.rows:,} of {progress.of:,} rows"
        if on_terminal:
            click.echo(f"\r\x1b[K{text}", err=True, nl=progress.rows >= progress.of)
        elif time.monotonic() - printed_at >= PROGRESS_SECONDS:
            printed_at = time.monotonic()
            click.echo(text, err=True)

    return show


def _load_models(source: str, config_path: str, *, as_json: bool, outcomes: bool, **importing: Any) -> None:
    if outcomes:
        raise click.UsageError("expected one of: --outcomes, --models")
    if importing["reason"] is None:
        raise click.UsageError("--models writes what a person decides: say why by --reason TEXT")
    from batch.load_models import load_models
    from spinney.operations.interventions import Attribution
    from spinney.operations.model_import import ImportOutcome

    decision_by = Attribution(person_of(importing["by"]), reason_of(importing["reason"]))
    allow_pickle, dry_run = importing["allow_pickle"], importing["dry_run"]
    if allow_pickle:
        click.echo("load: pickles are allowed: reading one runs whatever code it holds", err=True)
    results = load_models(load_config(config_path), source, decision_by, allow_pickle=allow_pickle, dry_run=dry_run)
    counts = {what.value: sum(result.what == what for result in results) for what in ImportOutcome}
    if as_json:
        write_json({"written": not dry_run, "counts": counts, "models": results})
    else:
        table("models", [{"what": what, "models": number} for what, number in counts.items()])
        _say_why(results)
    sys.exit(1 if counts[ImportOutcome.REFUSED] else 0)


def _say_why(results: Sequence[ImportResult]) -> None:
    explained = [result for result in results if result.why]
    for result in explained[:MAX_SHOWN]:
        click.echo(f"group {result.group_key}: {result.named}: {result.what}: {result.why}", err=True)
    if (more := sum(result.why is not None for result in results) - MAX_SHOWN) > 0:
        click.echo(f"{more:,} more; --json shows all", err=True)


VERBS = (kafka, produce, load)
