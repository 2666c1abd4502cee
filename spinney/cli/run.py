"""demo, stream, retrain: what does the work."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from schemas.vocabulary import STREAMING
from spinney.cli.options import (
    config_option,
    example,
    json_option,
    load_config,
    plain,
    spark_session,
    table,
    write_json,
)

QUERIES = tuple(each.value for each in STREAMING)


@click.command(epilog=example("spinney demo --report work/demo/report.html"))
@json_option
@click.option("--report", type=click.Path(dir_okay=False), help="Where the HTML report goes [work/demo/report.html].")
@click.option("--days", type=click.IntRange(min=1), help="Days of event time to stream [the example's own].")
@click.option("--example", "folder", type=click.Path(exists=True, file_okay=False), help="Another example's folder.")
@click.option("--seed", type=int, help="Of all that is drawn by lot [the example's own].")
def demo(as_json: bool, report: str | None, days: int | None, folder: str | None, seed: int | None) -> None:
    """The whole loop on real flights: a Kafka broker, the four queries, a report.

    Leaves its tables under work/demo. With --json: one object on standard output, all else on standard error.
    """
    from pathlib import Path

    from spinney.local.demo.run import Options
    from spinney.local.demo.run import demo as run_demo

    options = Options(
        json=as_json,
        report=Path(report) if report else None,
        days=days,
        example=Path(folder) if folder else None,
        seed=seed,
    )
    summary = run_demo(options)
    if as_json:
        write_json(summary)


@click.command(epilog=example("spinney stream --config fleet.toml --only ingest --only score"))
@config_option
@click.option("--only", multiple=True, type=click.Choice(QUERIES), help="Run this query alone; may be repeated.")
@click.option("--once", is_flag=True, help="Drain what is there, then exit 0: for a cron job or a test.")
def stream(config_path: str, only: tuple[str, ...], once: bool) -> None:
    """The four queries: ingest, score, labels, retrain. SIGTERM and Ctrl-C stop between batches."""
    config = load_config(config_path)
    from streaming.app import run

    run(config, only, once=once, spark=spark_session(config), show=_show if sys.stderr.isatty() else None)


def _show(batches: Sequence[Mapping[str, Any]]) -> None:
    """Each query's newest batch on one line that renews itself."""
    parts = []
    for batch in batches:
        seconds = (batch.get("durationMs") or {}).get("triggerExecution", 0) / 1000
        rate = batch.get("processedRowsPerSecond") or 0.0
        parts.append(f"{batch.get('name')} {rate:,.0f} rows/s, batches of {seconds:.1f} s")
    click.echo(f"\r\x1b[K{' · '.join(parts)}", err=True, nl=False)


@click.command(epilog=example("""spinney retrain --group '["AA","JFK","LAX"]'"""))
@config_option
@json_option
@click.option("--all", "everything", is_flag=True, help="Every group and every parent.")
@click.option("--group", "groups", multiple=True, metavar="KEY", help="This group alone; may be repeated.")
def retrain(config_path: str, as_json: bool, everything: bool, groups: tuple[str, ...]) -> None:
    """The weekly batch: plan, fit, gate, record. Safe to run beside the stream."""
    if everything == bool(groups):
        raise click.UsageError("expected either --all or at least one --group KEY")
    config = load_config(config_path)
    from batch.weekly import retrain as run_retrain

    result = run_retrain(config, None if everything else list(groups), spark=spark_session(config))
    if as_json:
        write_json(result)
    elif result is None:
        click.echo("nothing to do", err=True)
    else:
        table("round", [{"what": name, "value": value} for name, value in plain(result).items()])


VERBS = (demo, stream, retrain)
