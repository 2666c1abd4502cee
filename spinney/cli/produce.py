"""Command produce: files sent to a topic."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from spinney.cli.file_options import options_of, say_notes, say_rejections, validation_options
from spinney.cli.options import config_option, example, json_option, load_config, write_json
from spinney.cli.progress_line import ProgressLine

if TYPE_CHECKING:
    from spinney.core.config import Kafka
    from spinney.local.topics.produce import Sent


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
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Largest number of records per second [default: no limit].",
)
@click.option(
    "--by-event-time",
    is_flag=True,
    help="Keep the distances between event times, which become the records' timestamps [default: send at once].",
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    default=3600.0,
    show_default=True,
    help="With --by-event-time: seconds of event time sent per second.",
)
@validation_options
def produce(source: str, config_path: str, as_json: bool, topic: str, **how: Any) -> None:
    """Send the rows of files to a topic, keyed by group.

    Returns once the broker has acknowledged every record.

    SOURCE is a file of CSV, JSON, Parquet, Arrow or ORC, a folder of such files, or a Delta table. Rows that are not
    valid are not sent: they are counted by reason, with an example each, and the exit code is 1.
    """
    from spinney.local.topics.produce import Pace, is_outcomes, send
    from spinney.sources.fleet_files import open_fleet_file

    config = load_config(config_path)
    options, name = options_of(how), _topic(config.kafka, topic)
    opened = open_fleet_file(config.record_schema, source, options, outcomes=is_outcomes(config.kafka, name))
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


def _topic(kafka: Kafka, name: str) -> str:
    if name == "events":
        return kafka.events
    if name == "outcomes":
        if kafka.outcomes is None:
            raise click.UsageError("kafka.outcomes is not configured: the label is a field of the event")
        return kafka.outcomes
    return name


def _progress() -> Callable[[Sent], None]:
    line = ProgressLine(seconds_between=math.inf)
    return lambda sent: line.show(_words(sent), is_last=sent.finished)


def _words(sent: Sent) -> str:
    text = f"produce: {sent.acknowledged:,} sent, {sent.failed:,} failed"
    text += f", {sent.rejections.rejected:,} rejected" if sent.rejections.rejected else ""
    text += f", {sent.per_second:,.0f}/s"
    if sent.total is None or not sent.per_second:
        return text
    left = max(0, sent.total - sent.acknowledged - sent.failed - sent.rejections.rejected)
    return f"{text}, {left:,} left ({left / sent.per_second:,.0f} s)"
