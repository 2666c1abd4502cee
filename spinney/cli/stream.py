"""Command stream: the streaming queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from schemas.vocabulary import STREAMING, QueryName
from spinney.cli.options import (
    config_option,
    example,
    json_lines_option,
    load_config,
    say_where_a_fleet_begins,
    spark_session,
)

if TYPE_CHECKING:
    from spinney.core.config import Config
    from streaming.reporting import Reporter

QUERIES = tuple(query.value for query in STREAMING)


@click.command(epilog=example("spinney stream --config fleet.toml --only ingest --only score"))
@config_option
@json_lines_option
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(QUERIES),
    help="Run only this query; may be repeated [default: all four].",
)
@click.option("--once", is_flag=True, help="Process the available records, then exit; for cron jobs and tests.")
@click.option(
    "--accept-topic",
    "accept_topics",
    multiple=True,
    metavar="TOPIC",
    help="Read this topic from its start after it was deleted and created again; may be repeated.",
)
def stream(config_path: str, as_json: bool, only: tuple[str, ...], once: bool, accept_topics: tuple[str, ...]) -> None:
    """Run the four queries: ingest, score, labels and retrain.

    Runs until Ctrl-C or SIGTERM, which stop it between batches. Prints when the queries are running, and every minute
    and at the end what they did.
    """
    config = load_config(config_path)
    say_where_a_fleet_begins(config)
    _accept(config, accept_topics)
    from spinney.cli.stream_reporter import reporter_for

    reporter = reporter_for(as_json=as_json)
    if once and _is_drained(config, only, reporter):
        return
    from streaming.app import run

    run(config, only, once=once, spark=spark_session(config), reporter=reporter)


def _is_drained(config: Config, only: Sequence[str], reporter: Reporter) -> bool:
    """Whether these queries have nothing to do, found out without Java. Pending rounds are delivered to MLflow."""
    from streaming.pending_work import find_pending_work
    from streaming.query_names import select_queries

    names = select_queries(config, only)
    pending = find_pending_work(config, names)
    if pending is not None:
        click.echo(f"stream: {pending}: Spark starts", err=True)
        return False
    reporter.nothing_to_do()
    if QueryName.RETRAIN in names:
        from spinney.tracking import deliver_now

        deliver_now(config, ends_stream=True)
    return True


def _accept(config: Config, names: Sequence[str]) -> None:
    if not names:
        return
    from spinney.kafka.topic_ids import accept_topics
    from spinney.storage.layout import FleetStore

    for sentence in accept_topics(FleetStore.of(config), config.kafka, names):
        click.echo(sentence, err=True)
