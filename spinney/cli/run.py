"""demo, stream, retrain: what does the work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from schemas.vocabulary import STREAMING, QueryName
from spinney.cli.options import (
    config_option,
    example,
    json_lines_option,
    json_option,
    load_config,
    plain,
    say_where_a_fleet_begins,
    spark_session,
    table,
    write_json,
)

if TYPE_CHECKING:
    from spinney.core.config import Config
    from spinney.core.planning.chunks import Progress
    from streaming.reporting import Reporter

QUERIES = tuple(each.value for each in STREAMING)


@click.command(epilog=example("spinney demo --report work/demo/report.html"))
@json_option
@click.option(
    "--report", type=click.Path(dir_okay=False), help="Where the HTML report goes [report.html beside the tables]."
)
@click.option("--days", type=click.IntRange(min=1), help="Days of event time to stream [the example's own].")
@click.option("--example", type=click.Path(exists=True, file_okay=False), help="Another example's folder.")
@click.option("--seed", type=click.IntRange(min=0), help="Of all that is drawn by lot [the example's own; --scale: 0].")
@click.option("--scale", is_flag=True, help="Synthetic groups of which 1 % change; 2,000 events a second. No example.")
@click.option("--groups", type=click.IntRange(200, 100_000), help="With --scale: how many groups [50,000].")
@click.option("--seconds", type=click.IntRange(10, 3_600), help="With --scale: how long events are sent [120].")
def demo(*, as_json: bool, report: str | None, seed: int | None, scale: bool, **only: Any) -> None:
    """The whole loop on real flights: a Kafka broker, the four queries, a report.

    With --scale: 50,000 synthetic groups, a weekly round, then 2,000 events a second, in less than five minutes.
    Leaves its tables under work/demo, or work/demo-scale. With --json: one object on standard output, all else on
    standard error.
    """
    _refuse_other_options(only, refused=("days", "example") if scale else ("groups", "seconds"), scale=scale)
    asked = {name: value for name, value in {**only, "seed": seed}.items() if value is not None}
    summary = (_scale if scale else _example)(as_json, report, asked)
    if as_json:
        write_json(summary)
    if scale:
        from demo.scale.measures import require_sets_add_up

        require_sets_add_up(summary)


def _refuse_other_options(only: Mapping[str, Any], *, refused: Sequence[str], scale: bool) -> None:
    """Raises UsageError: an option of the other kind of demo."""
    for name in refused:
        if only[name] is not None:
            raise click.UsageError(f"--{name} {'cannot be used with' if scale else 'needs'} --scale")


def _example(as_json: bool, report: str | None, asked: Mapping[str, Any]) -> dict[str, Any]:
    from pathlib import Path

    from demo.run import Options
    from demo.run import demo as run_demo

    folder = asked.get("example")
    return run_demo(
        Options(
            json=as_json,
            report=Path(report) if report else None,
            days=asked.get("days"),
            example=Path(folder) if folder else None,
            seed=asked.get("seed"),
        )
    )


def _scale(as_json: bool, report: str | None, asked: Mapping[str, Any]) -> dict[str, Any]:
    from pathlib import Path

    from demo.scale.traffic import GROUPS, SECONDS, SEED, Traffic

    problem = Traffic(asked.get("groups", GROUPS), asked.get("seconds", SECONDS), asked.get("seed", SEED)).problem
    if problem:
        raise click.UsageError(problem)
    from demo.scale.run import Options
    from demo.scale.run import demo as run_demo

    return run_demo(Options(json=as_json, report=Path(report) if report else None, **asked))


@click.command(epilog=example("spinney stream --config fleet.toml --only ingest --only score"))
@config_option
@json_lines_option
@click.option("--only", multiple=True, type=click.Choice(QUERIES), help="Run this query alone; may be repeated.")
@click.option("--once", is_flag=True, help="Drain what is there, then exit 0: for a cron job or a test.")
@click.option(
    "--accept-topic",
    "accept_topics",
    multiple=True,
    metavar="TOPIC",
    help="This topic was deleted and made again: read the new one from its start. May be repeated.",
)
def stream(config_path: str, as_json: bool, only: tuple[str, ...], once: bool, accept_topics: tuple[str, ...]) -> None:
    """The four queries: ingest, score, labels, retrain. SIGTERM and Ctrl-C stop between batches.

    Says when they run, and every minute and at the end what they did.
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
    """Whether there is nothing to do for these queries, which takes no Java to find out. MLflow gets what is left."""
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

    for sentence in accept_topics(config, names):
        click.echo(sentence, err=True)


@click.command(epilog=example("""spinney retrain --group '["AA","JFK","LAX"]'"""))
@config_option
@json_option
@click.option("--all", "everything", is_flag=True, help="Every group and every parent.")
@click.option("--stale", is_flag=True, help="The groups that are stale by the fleet's policies, or were never tried.")
@click.option("--group", "groups", multiple=True, metavar="KEY", help="This group alone; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Fit a sample, store nothing, say what the whole would take.")
@click.option("--unproven", is_flag=True, help="Change the recipe of much of the fleet without evidence too.")
def retrain(
    *, config_path: str, as_json: bool, everything: bool, stale: bool, groups: tuple[str, ...], **how: bool
) -> None:
    """The weekly batch: plan, fit, gate, record. Safe to run beside the stream.

    What is done is stored part by part: a run that was killed is ended by the next one, from where it stood. Where the
    recipe was changed it says beforehand what each group's new model is compared with.
    """
    if everything + stale + bool(groups) != 1:
        raise click.UsageError("expected one of --all, --stale, or --group KEY (at least one)")
    config = load_config(config_path)
    asked = None if everything or stale else list(groups)
    if how["dry_run"]:
        _estimate(config, asked, stale=stale, as_json=as_json)
        return
    from batch.weekly import retrain as run_retrain

    result = run_retrain(
        config,
        asked,
        stale=stale,
        unproven=how["unproven"],
        spark=lambda: spark_session(config),
        show=_progress(),
    )
    if as_json:
        write_json(result)
    elif result is None:
        click.echo("nothing to do", err=True)
    else:
        table("round", [{"what": name, "value": value} for name, value in plain(result).items()])


def _estimate(config: Config, groups: list[str] | None, *, stale: bool, as_json: bool) -> None:
    from batch.estimate import estimate

    found = estimate(config, groups, stale=stale, spark=spark_session(config))
    if as_json:
        write_json(found)
    else:
        click.echo(str(found))


def _progress() -> Callable[[str, Progress | str], None]:
    """A line that renews itself on a terminal; on a pipe one a part."""
    on_terminal = sys.stderr.isatty()

    def show(round_id: str, progress: Progress | str) -> None:
        ended = isinstance(progress, str) or progress.done == progress.total
        before = "\r\x1b[K" if on_terminal else ""
        click.echo(f"{before}{round_id}: {progress}", err=True, nl=ended or not on_terminal)

    return show


VERBS = (demo, stream, retrain)
